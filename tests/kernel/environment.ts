/** What `deno task lab` asks of Python, tried on programs that only pretend. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { findPython } from "../../tools/kernel/environment.ts";

/** Programs of a folder that is all there is, as scripts by their names; what is found in it, or why nothing is. */
async function among(programs: Record<string, string>): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-")), { PATH } = process.env;
  try {
    for (const [name, script] of Object.entries(programs)) {
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    process.env.PATH = folder;
    return await findPython().catch(({ message }: Error) => message);
  } finally {
    process.env.PATH = PATH;
    rmSync(folder, { recursive: true });
  }
}

/** A Python of a version, with or without what makes environments. */
const python = (version: string, venv = true) =>
  `case "$2" in *version_info*) echo ${version};; *) exit ${venv ? 0 : 1};; esac`;

const find = suite("findPython()");

if (process.platform === "win32") find.skip("tries scripts of a shell");
else {
  find("takes the first that is new enough", async () => {
    assert.is(await among({ python3: python("3.10"), python: python("3.12") }), "python3");
    assert.is(await among({ python3: python("3.9"), python: python("3.12") }), "python");
  });

  find("says that there is none", async () => {
    assert.match(
      await among({}),
      /needs Python 3\.10 or later: current Python is missing; install/,
    );
  });

  find("says which is too old", async () => {
    const text = await among({ python3: python("3.8") });
    assert.match(text, /needs Python 3\.10 or later: current Python is python3 3\.8; install/);
  });

  find("says that the venv module is missing, and what brings it", async () => {
    const text = await among({ python3: python("3.11", false) });
    assert.match(text, /must have its venv module: current python3 3\.11 lacks it; .*python3-venv/);
  });
}

find.run();
