/** Libraries that are broken, removed or killed under an engine: the next start goes on as if nothing were. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, copyFileSync, existsSync, mkdtempSync, openSync } from "node:fs";
import { mkdirSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";

/** What the program of the test printed first, the steps that it got to, and how it ended. */
interface Run {
  name: string;
  engines: { name: string; available: true | string }[];
  steps: string[];
  end: number | string | null;
}

let folder = "";

/** Trains in a process of its own, whose cache is the folder, and no library but the system's elsewhere. */
function train(
  steps: number,
  variables: Record<string, string> = {},
  onStep: (child: ChildProcess) => void = () => {},
): Promise<Run> {
  const file = fileURLToPath(new URL("../support/trainee.ts", import.meta.url));
  const flags = "Deno" in globalThis ? ["run", "-A"] : [];
  const { VIRTUAL_ENV: _venv, LOWRANK_LIBTENSORFLOW: _library, LOWRANK_ENGINE: _engine, ...own } =
    process.env;
  const caches = process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? "/", ".cache");
  const child = spawn(process.execPath, [...flags, file, String(steps)], {
    env: {
      ...own,
      DENO_DIR: own.DENO_DIR ?? join(caches, "deno"),
      XDG_CACHE_HOME: folder,
      ...variables,
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "", told = false;
  child.stdout!.on("data", (part) => {
    text += part;
    if (!told && text.includes("step 3")) onStep(child);
    told ||= text.includes("step 3");
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const [first, ...lines] = text.split("\n");
      const steps = lines.filter((line) => line.startsWith("step"));
      resolve({ ...(first ? JSON.parse(first) : {}), steps, end: signal ?? code });
    });
  });
}

const reason = ({ engines }: Run, name: string) =>
  engines.find((engine) => engine.name === name)!.available;

/** The first bytes of the runtime's own file: what is left of a library when its download was cut off. */
function cutOff(path: string): void {
  const bytes = new Uint8Array(2 ** 16), file = openSync(process.execPath, "r");
  readSync(file, bytes);
  closeSync(file);
  writeFileSync(path, bytes);
}

const BROKEN: Record<string, (path: string) => void> = {
  "is missing": () => {},
  "is empty": (path) => writeFileSync(path, ""),
  "is something else": (path) => writeFileSync(path, "<html>404</html>\n".repeat(100)),
  "is cut off": cutOff,
};

const robust = suite("an engine whose library");
const test = process.platform === "linux" ? robust : robust.skip;
robust.before.each(() => void (folder = mkdtempSync(join(tmpdir(), "lowrank-"))));
robust.after.each(() => rmSync(folder, { recursive: true }));

for (const [what, write] of Object.entries(BROKEN)) {
  test(`${what} says so in a line, and the next one starts`, async () => {
    const library = join(folder, "library.so");
    write(library);
    const run = await train(1, { LOWRANK_ONEDNN: library, LOWRANK_LIBTENSORFLOW: library });
    assert.is(run.end, 0);
    assert.is(run.name, "wasm");
    assert.is(run.steps.length, 1);
    for (const name of ["onednn", "tensorflow"]) {
      assert.type(reason(run, name), "string");
      assert.match(reason(run, name) as string, "library.so");
      assert.not.match(reason(run, name) as string, "\n");
    }
  });
}

test("is half installed in the cache leaves the choice to what else is there", async () => {
  const onednn = join(folder, "lowrank", "onednn"),
    deep = join(folder, "lowrank/tensorflow/tensorflow");
  for (const path of [onednn, deep]) mkdirSync(path, { recursive: true });
  cutOff(join(onednn, "libdnnl.so.3"));
  cutOff(join(deep, "libtensorflow_cc.so.2"));
  const run = await train(1);
  assert.is(run.end, 0);
  assert.ok(["onednn", "wasm"].includes(run.name), run.name);
  assert.match(reason(run, "tensorflow") as string, "must be whole");
});

/** The file of the oneDNN that this process has open. */
async function onednn(): Promise<string | undefined> {
  const found = (await engine.list()).find(({ name }) => name === "onednn");
  if (found?.available !== true || !existsSync("/proc/self/maps")) return undefined;
  return /\/\S*libdnnl\S*/.exec(readFileSync("/proc/self/maps", "utf8"))?.[0];
}
const library = await onednn();
if (!library) console.log("removed and killed libraries are skipped: no oneDNN is here");
const running = library ? robust : robust.skip;

running("is removed in mid-run computes on; the next start takes the next engine", async () => {
  const copy = join(folder, "libdnnl.so");
  copyFileSync(library!, copy);
  const variables = { LOWRANK_ONEDNN: copy };
  const run = await train(12, variables, () => rmSync(copy));
  assert.is(run.name, "onednn");
  assert.is(run.end, 0);
  assert.is(run.steps.length, 12);
  const next = await train(1, variables);
  assert.is(next.end, 0);
  assert.is(next.name, "wasm");
});

running("is killed in mid-run starts again, with nothing left behind", async () => {
  const run = await train(1e6, {}, (child) => child.kill("SIGKILL"));
  assert.is(run.end, "SIGKILL");
  assert.not(existsSync(join(folder, "lowrank")));
  const next = await train(3);
  assert.is(next.end, 0);
  assert.is(next.name, run.name);
  assert.is(next.steps.length, 3);
});
robust.run();
