/** Installing an engine's library: archives, checksums, and what is said where it cannot be done. */
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cacheFolder } from "../../lib/engines/cache.ts";
import { install, uninstall } from "../../lib/engines/install.ts";
import { entries, unpack } from "../../lib/engines/install/zip.ts";
import { under } from "../support/environment.ts";

/** Made by Python's zipfile: a stored file, a deflated one, an empty one, and a comment behind them. */
const ARCHIVE = `
UEsDBBQAAAAAAOsBeV3PYiAZBQAAAAUAAAAMAAAAYS9zdG9yZWQudHh0cGxhaW5QSwMEFAAAAAgA6wF5XUjFx1cMAAAA
6AMAAA4AAABhL2RlZmxhdGVkLnR4dEtMShyFo3AUDnMIAFBLAwQUAAAAAADrAXldAAAAAAAAAAAAAAAABQAAAGVtcHR5
UEsBAhQDFAAAAAAA6wF5Xc9iIBkFAAAABQAAAAwAAAAAAAAAAAAAAIABAAAAAGEvc3RvcmVkLnR4dFBLAQIUAxQAAAAI
AOsBeV1IxcdXDAAAAOgDAAAOAAAAAAAAAAAAAACAAS8AAABhL2RlZmxhdGVkLnR4dFBLAQIUAxQAAAAAAOsBeV0AAAAA
AAAAAAAAAAAFAAAAAAAAAAAAAACAAWcAAABlbXB0eVBLBQYAAAAAAwADAKkAAACKAAAACQBhIGNvbW1lbnQ=`;

let folder = "", archive = "";
const around = (tests: ReturnType<typeof suite>) => {
  tests.before.each(() => {
    folder = mkdtempSync(join(tmpdir(), "lowrank-"));
    archive = join(folder, "archive.zip");
    writeFileSync(archive, Uint8Array.from(atob(ARCHIVE), (letter) => letter.charCodeAt(0)));
  });
  tests.after.each(() => rmSync(folder, { recursive: true }));
};

const zip = suite("unpack()");
around(zip);

zip("writes the files of an archive that Python made, and tells of every byte", async () => {
  let told = 0;
  for (const entry of await entries(archive)) {
    await unpack(archive, entry, join(folder, "out", entry.name), (bytes) => told += bytes);
  }
  const text = (name: string) => readFileSync(join(folder, "out", name), "utf8");
  assert.is(text("a/stored.txt"), "plain");
  assert.is(text("a/deflated.txt"), "ab".repeat(500));
  assert.is(text("empty"), "");
  assert.is(told, 1005);
});

zip("refuses what is no archive, and one that is cut off", async () => {
  const bytes = readFileSync(archive);
  for (const part of [bytes.subarray(0, 100), bytes.subarray(0, 0), bytes.subarray(200)]) {
    writeFileSync(archive, part);
    assert.instance(await entries(archive).catch((error) => error), SyntaxError);
  }
});

zip("leaves no file that is not whole", async () => {
  const [entry] = await entries(archive), target = join(folder, "stored.txt");
  const lie = { ...entry, size: 6 };
  const { message } = await unpack(archive, lie, target, () => {}).catch((error) => error);
  assert.match(message, /must have 6 bytes: current length is 5/);
  assert.not(existsSync(target));
});
zip.run();

const installs = suite("install()");
around(installs);

/** The sentence with which installing fails where `python3` is this script, or is missing. */
function refused(script?: string): Promise<string> {
  const path = join(folder, "bin");
  mkdirSync(path);
  if (script) {
    writeFileSync(join(path, "python3"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(path, "python3"), 0o755);
  }
  return under(
    { PATH: path, XDG_CACHE_HOME: folder },
    () => install("onednn").then(() => "nothing", (error) => error.message),
  );
}

const linux = process.platform === "linux" && process.arch === "x64";
const test = linux ? installs : installs.skip;

test("says that Python is missing, and that pip is", async () => {
  assert.match(await refused(), /onednn-cpu-gomp.*current python3 is not to be found/);
  rmSync(join(folder, "bin"), { recursive: true });
  const none = await refused("echo /usr/bin/python3: No module named pip >&2; exit 1");
  assert.match(none, /current python3 has none/);
});

test("says pip's own reason, in one line", async () => {
  const script = `echo 'WARNING: trying again' >&2
    echo 'ERROR: Could not find a version' >&2
    echo 'ERROR: No matching distribution' >&2; exit 1`;
  assert.is(
    await refused(script),
    `Cannot download "onednn-cpu-gomp==2023.2.0" as pip must find it: No matching distribution`,
  );
});

test("refuses a file with another checksum, and keeps nothing of it", async () => {
  const name = "onednn_cpu_gomp-2023.2.0-py2.py3-none-manylinux1_x86_64.whl";
  const sentence = await refused(`for to; do [ -d "$to" ] && echo x > "$to/${name}"; done; exit 0`);
  assert.match(sentence, /sha256 must be 2f22a54d.*current sha256 is 73cb3858/);
  assert.equal(readdirSync(join(folder, "lowrank", "onednn")), []);
});

installs("refuses an engine that has nothing to install, here or for CUDA", async () => {
  const asked = [
    () => install("constructor"),
    () => uninstall("constructor"),
    () => install("onednn", { cuda: true }),
  ];
  for (const action of asked) {
    const error = await action().catch((error) => error);
    assert.instance(error, RangeError);
    assert.match(error.message, /"(constructor|onednn-cuda)".*must be one of onednn, tensorflow/);
  }
});

installs("is undone by uninstall()", async () => {
  await under({ XDG_CACHE_HOME: folder }, async () => {
    const cache = cacheFolder("onednn")!;
    mkdirSync(cache, { recursive: true });
    writeFileSync(join(cache, "libdnnl.so.3"), "");
    assert.equal(await uninstall("onednn"), { folder: cache, changed: true });
    assert.not(existsSync(cache));
    assert.equal(await uninstall("onednn"), { folder: cache, changed: false });
  });
});
installs.run();
