/** What a merge leaves that is killed while it writes. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispose } from "../../lib/adapter/adapter.ts";
import { save } from "../../lib/files/adapters.ts";
import { mergeInto } from "../../lib/files/merge_into.ts";
import { write } from "../../lib/files/safetensors.ts";
import { trained } from "../support/few.ts";
import { folderOf } from "../support/folder.ts";

const killed = suite("a merge that is killed");
const at = folderOf(killed);

/** How often; a longer run by hand: KILLS=500. */
const KILLS = Number(process.env.KILLS ?? 6);

const script = fileURLToPath(new URL("../support/merge_forever.ts", import.meta.url));
const hash = async (path: string) =>
  createHash("sha256").update(await readFile(path)).digest("hex");

killed("leaves the old file or all of the new one under its name", async () => {
  const base = at("base.safetensors"), style = at("style.safetensors"), out = at("out.safetensors");
  const layer = (i: number) => ({
    name: `layer${i}.weight`,
    dtype: "F32" as const,
    shape: [256, 256],
    bytes: () => new Uint8Array(new Float32Array(256 * 256).fill(i / 8).buffer),
  });
  await write(base, Array.from({ length: 16 }, (_, i) => layer(i)));
  // whole differences, of which every engine makes the same numbers: the child's may be another
  const adapters = new Map(
    [0, 5, 15].map((i) => [`layer${i}`, trained("full", [256, 256], 0, {})]),
  );
  await save(style, adapters);
  for (const adapter of adapters.values()) dispose(adapter);
  const whole: string[] = [];
  for (const strength of [1, -1]) {
    await mergeInto(base, [{ place: style, strength }], out);
    whole.push(await hash(out));
  }
  assert.not.equal(whole[0], whole[1]);
  const words = process.versions.bun ? [script] : ["run", "-A", script];
  for (let i = 0; i < KILLS; i++) {
    const child = spawn(process.execPath, [...words, base, style, out], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const exit = once(child, "exit");
    await Promise.race([once(child.stdout, "data"), exit]);
    await setTimeout(300 * Math.random());
    child.kill("SIGKILL");
    await exit;
    assert.ok(whole.includes(await hash(out)), `after ${i + 1} kills`);
  }
  const left = (await readdir(at("."))).filter((name) =>
    !/^(base|style|out)\.safetensors$/.test(name)
  );
  assert.equal(
    left.filter((name) => !/^\..*\.partial$/.test(name)),
    [],
    "only hidden partial files",
  );
});

killed.run();
