/** This library's side of the benches of files: takes one task a line from stdin, answers a line each; see `task.ts`. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import * as tf from "@tensorflow/tfjs";
import { type Adapter, create, dispose, mapFactors } from "../../lib/adapter/adapter.ts";
import { extract } from "../../lib/adapter/extract.ts";
import { energyOf } from "../../lib/adapter/matrices.ts";
import { merge } from "../../lib/adapter/merge.ts";
import { resize } from "../../lib/adapter/resize.ts";
import { spectrumBy } from "../../lib/adapter/spectrum_by.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import * as engine from "../../lib/engines/engine.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse, serialize } from "../../lib/files/safetensors.ts";
import { normal } from "../../lib/tensor/random.ts";
import type { Answer, Task } from "./task.ts";

/** Ranks of what a layer has learnt, and their sizes beside the noise of every number. */
const LEARNT = 64, SIZES = [1, 0.05] as const, SIGNAL = 0.003, NOISE = 0.001;

/** At least so many, as a program's first runs are slower, but of what takes long. */
const RUNS = 8;

/** Ranks of the adapters that are merged, and of the one that is resized. */
const RANK = 16, LARGE = 64;

const random = (rows: number, columns: number, std: number, seed: number) =>
  tf.tensor2d(normal([rows, columns], std, seed), [rows, columns]);

/** A difference as of training: ranks that fall in size, and noise. */
function difference([...kernel]: number[]): tf.Tensor {
  return tf.tidy(() => {
    const O = kernel.pop()!, rows = kernel.reduce((a, b) => a * b, 1);
    const sizes = tf.linspace(SIZES[0], SIZES[1], LEARNT);
    const learnt = tf.matMul(
      tf.mul(random(rows, LEARNT, SIGNAL, 1), sizes),
      random(LEARNT, O, 1, 2),
    );
    return tf.reshape(tf.add(learnt, random(rows, O, NOISE, 3)), [...kernel, O]);
  });
}

/** An adapter whose factors are no longer as born. */
function trained(algorithm: AlgorithmName, kernel: number[], rank: number): Adapter {
  const born = algorithm === "ia3"
    ? create(algorithm, kernel, 0)
    : create(algorithm, kernel, rank, { alpha: rank / 2 });
  return mapFactors(
    born,
    (factor, name) =>
      tf.tensor(normal(factor.shape, 0.05, name.length + name.charCodeAt(0)), factor.shape),
  );
}

const axes = (kernel: number[]) => kernel.length === 4 ? [3, 2, 0, 1] : [1, 0];
const back = (kernel: number[]) => kernel.length === 4 ? [2, 3, 1, 0] : [1, 0];

/** Writes the layer's files, in PyTorch's layout. */
async function make({ folder, kernel }: Task): Promise<Answer> {
  mkdirSync(folder, { recursive: true });
  const learnt = difference(kernel), base = tf.tensor(normal(kernel, 0.02, 4), kernel);
  const tuned = tf.add(base, learnt), exact = tf.sub(tuned, base);
  const entries = [["base", base], ["tuned", tuned]].map(([name, tensor]) => {
    const torch = tf.transpose(tensor as tf.Tensor, axes(kernel)), values = torch.dataSync();
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
    return [name as string, { dtype: "F32" as const, shape: torch.shape, bytes }] as const;
  });
  writeFileSync(join(folder, "pair.safetensors"), serialize(new Map(entries)));
  for (const algorithm of ["lora", "loha", "lokr", "ia3", "large"] as const) {
    const adapter = algorithm === "large"
      ? trained("lora", kernel, LARGE)
      : trained(algorithm, kernel, RANK);
    const bytes = await encode(new Map([["lora_unet_layer", adapter]]));
    writeFileSync(join(folder, `${algorithm}.safetensors`), bytes);
    dispose(adapter);
  }
  return { largest: spectrumBy(exact, energyOf(exact), { rank: 1 }).s[0] };
}

function pair({ folder, kernel }: Task): { base: tf.Tensor; tuned: tf.Tensor } {
  const { tensors } = parse(new Uint8Array(readFileSync(join(folder, "pair.safetensors"))));
  const read = (name: string) =>
    tf.tidy(() => {
      const { dtype, shape, bytes } = tensors.get(name)!;
      return tf.transpose(tf.tensor(toFloat32(dtype, bytes), [...shape]), back(kernel));
    });
  return { base: read("base"), tuned: read("tuned") };
}

async function adapterOf({ folder, algorithm }: Task): Promise<Adapter> {
  const bytes = new Uint8Array(readFileSync(join(folder, `${algorithm}.safetensors`)));
  const { adapters } = await open(bytes);
  return [...adapters.values()][0];
}

/** An adapter's numbers, read, and its tensors gone. */
function finish(adapter: Adapter): void {
  for (const factor of Object.values(adapter.factors)) factor?.dataSync();
  dispose(adapter);
}

/** The names that the peers' ways to choose a rank have here. */
const RULES: Record<string, string> = {
  ...{ fixed: "rank", threshold: "threshold", ratio: "ratio", percentile: "percentile" },
  ...{ sv_ratio: "ratio", sv_cumulative: "cumulative", sv_fro: "fro" },
};

/** What is timed, and the tensors that it needs. */
interface Work {
  run(): Answer;
  held: tf.TensorContainer;
}

async function work(task: Task): Promise<Work> {
  const { what, mode = "fixed", param = 0 } = task, rule = { [RULES[mode]]: param };
  if (what === "extract") {
    const held = pair(task), { base, tuned } = held;
    const run = () => {
      const { adapter, error } = extract(base, tuned, { lycoris: true, ...rule })!;
      finish(adapter);
      return { rank: adapter.rank, missed: error };
    };
    return { run, held };
  }
  const adapter = await adapterOf(task), factors = adapter.factors as tf.NamedTensorMap;
  if (what === "merge") {
    const { base, tuned } = pair(task);
    tuned.dispose();
    const run = () => {
      tf.tidy(() => void merge(base, adapter, { strength: 0.7 }).dataSync());
      return { rank: adapter.rank };
    };
    return { run, held: { base, ...factors } };
  }
  const run = () => {
    const { adapter: cut, error } = resize(adapter, rule);
    finish(cut);
    return { rank: cut.rank, missed: error };
  };
  return { run, held: factors };
}

/** Milliseconds that the process has computed, on all its threads. */
function processor(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function timed(run: () => Answer, { budget, cpu }: Task): Answer {
  const now = cpu ? processor : () => performance.now();
  let best = Infinity, answer: Answer = {};
  for (let spent = 0, runs = 0; spent < budget || (runs < RUNS && spent < 10 * budget); runs++) {
    const start = now();
    answer = run();
    const took = now() - start;
    best = Math.min(best, took);
    spent += took;
  }
  return { ...answer, ms: best };
}

/** Kibibytes of a line of Linux's account of this process. */
const kibibytes = (line: "VmRSS" | "VmHWM") =>
  Number(readFileSync("/proc/self/status", "utf8").match(`${line}:\\s+(\\d+)`)![1]);

async function peak(task: Task): Promise<Answer> {
  if (process.platform !== "linux") return {};
  tf.tidy(() => tf.matMul(tf.ones([64, 64]), tf.ones([64, 64])).dataSync());
  writeFileSync("/proc/self/clear_refs", "5"); // the high-water mark falls to what is resident
  const before = kibibytes("VmRSS");
  (await work(task)).run();
  return { mib: (kibibytes("VmHWM") - before) / 1024 };
}

await engine.use((process.argv[2] ?? "auto") as Parameters<typeof engine.use>[0]);
console.log(JSON.stringify({ ready: `engine ${engine.name}` }));
let kept: Work & { name: string } | undefined;
for await (const line of createInterface({ input: process.stdin })) {
  const task: Task = JSON.parse(line), name = JSON.stringify({ ...task, budget: 0 });
  if (task.what === "make") console.log(JSON.stringify(await make(task)));
  else if (task.memory) console.log(JSON.stringify(await peak(task)));
  else {
    if (kept?.name !== name) {
      if (kept) tf.dispose(kept.held);
      kept = { name, ...await work(task) };
    }
    console.log(JSON.stringify(timed(kept.run, task)));
  }
}
process.exit(0);
