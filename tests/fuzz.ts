/**
 * Files as accidents and malice make them, through everything that reads them.
 *
 * `tests/run.ts fuzz --count N` does N; the same N files every time, in the same order.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispose } from "../lib/adapter/adapter.ts";
import { conform } from "../lib/adapter/conform.ts";
import { join as joined } from "../lib/adapter/join.ts";
import { resize } from "../lib/adapter/resize.ts";
import { type DialectName, encode, open } from "../lib/files/adapters.ts";
import { NAMES } from "../lib/files/dialects.ts";
import { mergeInto } from "../lib/files/merge_into.ts";
import { open as openTensors, serialize } from "../lib/files/safetensors.ts";
import { generator } from "../lib/tensor/random.ts";
import { leakless } from "./support/close.ts";
import { type Chance, chance, mutated } from "./support/mutations.ts";
import { ADDITIVE, type Row, trained } from "./support/trained.ts";

const at = process.argv.indexOf("--count");
const COUNT = at < 0 ? 20_000 : Number(process.argv[at + 1]);

const ROWS: Row[] = [
  ...ADDITIVE,
  ["lora", 2, { dora: "output" }],
  ["lora", 2, { dora: "input" }],
  ["ia3", 0, {}],
  ["ia3", 0, { onInput: true }],
  ["full", 0, {}],
];
const KERNELS = [[3, 3, 4, 6], [6, 4]];
const NAME = "unet.conv_in";
const CHECKPOINT = serialize([
  ["unet.conv_in.weight", { dtype: "F32", shape: [6, 4, 3, 3], bytes: new Uint8Array(864) }],
]);

/** How many files there are for each one that goes through the disk, and how much the process may grow. */
const ON_DISK = 40, GROWTH = 2 ** 29;

/** A file of each algorithm in each dialect that can hold it. */
async function originals(): Promise<Uint8Array[]> {
  const files: Uint8Array[] = [];
  for (const [i, row] of ROWS.entries()) {
    for (const shape of KERNELS) {
      for (const dialect of NAMES as DialectName[]) {
        const dtype = (["f32", "f16", "bf16"] as const)[(files.length + i) % 3];
        tf.engine().startScope();
        try {
          const adapter = trained(row, shape);
          files.push(await encode(new Map([[NAME, adapter]]), { dialect, dtype }));
        } catch {
          // no file: the dialect cannot hold it
        }
        tf.engine().endScope();
      }
    }
  }
  return files;
}

/** Whether an error is one of this library's, in one sentence. */
function isClear(error: unknown): boolean {
  const known = [SyntaxError, TypeError, RangeError].some((kind) => error instanceof kind);
  const { message } = error as Error;
  return known && /^Cannot [^\n]* as [^\n]*$/.test(message) && message.length < 2000 &&
    !/propert(y|ies)|(of|rank is) undefined|is not a function|is not iterable|Error/.test(message);
}

/** What happens, or the error in clear words. */
async function attempt<T>(what: string, run: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    if (isClear(error)) return undefined;
    throw new Error(`${what}: ${(error as Error).stack ?? error}`);
  }
}

/** Opens a file, uses what it holds, writes it again and opens that. */
async function use(bytes: Uint8Array, by: Chance): Promise<void> {
  const file = await attempt("open", () => open(bytes));
  await attempt("openTensors", async () => {
    await using tensors = await openTensors(bytes);
    for (const name of tensors.tensors.keys()) await tensors.read(name);
  });
  if (!file) return;
  const { adapters, metadata, leftovers } = file;
  try {
    for (const adapter of adapters.values()) {
      for (const shape of KERNELS) {
        await attempt("conform", () => tf.tidy(() => void conform(adapter, shape)));
      }
      await attempt("resize", () => dispose(resize(adapter, { rank: 1, ratio: 0.1 }).adapter));
      await attempt("join", () => dispose(joined([adapter, adapter])));
    }
    const dialect = by.of(NAMES as DialectName[]);
    const again = await attempt("encode", () => encode(adapters, { dialect, metadata, leftovers }));
    if (!again) return;
    const told = `encoded as ${dialect}, ${
      JSON.stringify([...adapters.keys(), ...leftovers.keys()])
    }`;
    const reopened = await open(again).catch((error) => {
      throw new Error(`open what was ${told}: ${error.stack}`);
    });
    const sizes = [adapters.size, reopened.adapters.size];
    for (const adapter of reopened.adapters.values()) dispose(adapter);
    assert.ok(sizes[1] >= sizes[0], `${sizes} adapters ${told}`);
  } finally {
    for (const adapter of adapters.values()) dispose(adapter);
  }
}

/** Names that an index may have for its shards. */
const SHARDS = [
  "model.safetensors",
  "../model.safetensors",
  "/etc/passwd",
  "",
  "__proto__",
  7,
  null,
];
const CONFIGS = ["{}", "[", '{"peft_type":"LORA","r":2,"lora_alpha":2}', '{"peft_type":"IA3"}'];

/** Opens a file in a folder, and merges it into a checkpoint, or another into it. */
async function useOnDisk(folder: string, bytes: Uint8Array, whole: Uint8Array, by: Chance) {
  const put = (name: string, data: Uint8Array | string) => {
    writeFileSync(join(folder, name), data);
    return join(folder, name);
  };
  const file = put("adapter_model.safetensors", bytes), output = join(folder, "out.safetensors");
  put("adapter_config.json", by.of(CONFIGS));
  const opened = await attempt("open a folder", () => open(folder));
  for (const adapter of opened?.adapters.values() ?? []) dispose(adapter);

  const other = put("whole.safetensors", whole), map = { "unet.conv_in.weight": by.of(SHARDS) };
  const model = put("model.safetensors", by.next() < 0.5 ? CHECKPOINT : mutated(CHECKPOINT, by));
  const index = put("model.safetensors.index.json", JSON.stringify({ weight_map: map }));
  const [base, place] = by.of([[model, file], [model, other], [file, other], [index, other]]);
  const before = readdirSync(folder).length;
  const merged = await attempt("merge", () => mergeInto(base, [{ place }], output));
  if (merged) rmSync(output, { recursive: true });
  assert.is(readdirSync(folder).length, before, "files are left");
}

const fuzz = suite("a mutated file");
leakless(fuzz);

fuzz(`gives clear errors or adapters, ${COUNT} times, and leaves nothing in memory`, async () => {
  const files = await originals(), by = chance(generator(1)), before = tf.memory().numTensors;
  const failures = new Map<string, string>(); // of each kind the first
  const folder = mkdtempSync(join(tmpdir(), "lowrank-fuzz-")), { rss } = process.memoryUsage();
  for (let i = 0; i < COUNT; i++) {
    const bytes = mutated(by.of(files), by);
    try {
      await use(bytes, by);
      if (i % ON_DISK === 0) await useOnDisk(folder, bytes, by.of(files), by);
      assert.is(tf.memory().numTensors, before, "tensors are left");
    } catch (error) {
      const { stack } = error as Error, kind = stack!.replace(/\d+/g, "").slice(0, 120);
      if (!failures.has(kind)) failures.set(kind, `file ${i}: ${stack}`);
    }
  }
  rmSync(folder, { recursive: true });
  assert.is([...failures.values()].join("\n\n"), "");
  const grown = process.memoryUsage().rss - rss;
  assert.ok(grown < GROWTH, `the process has grown by ${grown} bytes`);
});
fuzz.run();
