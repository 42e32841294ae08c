/**
 * `deno task demo`: a small network learns digits, is frozen, and is adapted to clothes by every algorithm.
 *
 * Real MNIST and real Fashion-MNIST; the same data, seed and steps for all, full fine-tuning and a probe of the
 * last layer beside them. Every adapter is written as a file; the best one is opened again and merged.
 */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import * as tf from "@tensorflow/tfjs";
import { dispose } from "../adapter/adapter.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { table } from "../display/table.ts";
import * as engine from "../engines/engine.ts";
import * as files from "../files/adapters.ts";
import { fromFloat32 } from "../files/floats.ts";
import { write } from "../files/safetensors.ts";
import { adaptModel, attachAny, type ModelOptions } from "../layers/model.ts";
import { convnet } from "../models/convnet.ts";
import { accuracy } from "../training/accuracy.ts";
import { type Batch, batches } from "../training/batches.ts";
import { type Dataset, type Examples, fashionMnist, first, mnist } from "../training/data.ts";
import { fit } from "../training/fit.ts";

const HELP = `Adapts a convnet from MNIST to Fashion-MNIST with every algorithm.

  deno task demo [--quick] [--json FILE] [--out FOLDER] [--seed N] [--engine NAME]

  --quick        fewer steps and test images, under 30 seconds
  --json FILE    writes the rows as JSON
  --out FOLDER   where the adapters are written; default out/demo
  --seed N       of the weights, the factors and the order of the images; default 0
  --engine NAME  the engine that computes; default the fastest that this machine has

Example: deno task demo --quick --json rows.json`;

/** How much of everything. */
interface Size {
  batch: number;
  pretraining: number;
  steps: number;
  /** test images; all of them if left out */
  test?: number;
}
const SIZES: Record<"whole" | "quick", Size> = {
  whole: { batch: 64, pretraining: 600, steps: 400 },
  quick: { batch: 64, pretraining: 120, steps: 60, test: 1000 },
};

/** One way of learning the new task: what is trained, and how fast. */
interface Way {
  algorithm: string;
  /** of Adam in the first step; it falls to 0 along half a cosine */
  rate: number;
  adapter?: { name: AlgorithmName; rank: number; options?: ModelOptions };
  /** the layers trained as they are, without an adapter */
  layers?: RegExp;
}
const WAYS: Way[] = [
  { algorithm: "head only", rate: 5e-2, layers: /^head$/ },
  { algorithm: "full", rate: 5e-3, layers: /./ },
  { algorithm: "lora", rate: 2e-2, adapter: { name: "lora", rank: 4 } },
  {
    algorithm: "locon, tucker",
    rate: 2e-2,
    adapter: { name: "lora", rank: 8, options: { tucker: true } },
  },
  { algorithm: "loha", rate: 2e-2, adapter: { name: "loha", rank: 2 } },
  { algorithm: "lokr", rate: 2e-2, adapter: { name: "lokr", rank: 4 } },
  { algorithm: "ia3", rate: 5e-2, adapter: { name: "ia3", rank: 0 } },
  { algorithm: "dylora", rate: 1e-2, adapter: { name: "dylora", rank: 8, options: { block: 4 } } },
];

/** What the last layer gets in every way with an adapter: its classes are new, so all of it is trained. */
const HEAD: ModelOptions["overrides"] = { head: { algorithm: "full" } };

/** A row of the result: what `--json` writes. */
interface Row {
  algorithm: string;
  parameters: number;
  share: number;
  before: number;
  after: number;
  msPerStep: number;
  fileBytes: number;
}

const logits = (model: tf.LayersModel, x: tf.Tensor, training = false) =>
  model.apply(x, { training }) as tf.Tensor;

/** Trains variables of a model on images; milliseconds a step. */
async function learn(
  model: tf.LayersModel,
  variables: readonly tf.Variable[],
  examples: Examples,
  options: { steps: number; batch: number; seed: number; rate: number; title: string },
): Promise<number> {
  const { batch, seed, ...rest } = options;
  const loss = ({ x, y }: Batch) =>
    tf.losses.softmaxCrossEntropy(y, logits(model, x, true)) as tf.Scalar;
  const { msPerStep } = await fit(variables, batches(examples, batch, { seed }), loss, rest);
  return msPerStep;
}

/** The variables of a model's layers whose name is meant. */
function variablesOf(model: tf.LayersModel, names: RegExp): tf.Variable[] {
  return model.layers.filter(({ name }) => names.test(name))
    .flatMap((layer) => layer.trainableWeights.map((weight) => weight.read() as tf.Variable));
}

/** The images on which predictions are compared. */
function sample(test: Examples): tf.Tensor {
  const [{ x, y }] = batches(first(test, 256), 256, { epochs: 1 });
  y.dispose();
  return x;
}

/** What learning in one way gave. */
interface Outcome {
  row: Row;
  /** the adapter's file, for a way that has one */
  path?: string;
  /** logits of the sample, with the adapter attached */
  predictions: tf.Tensor;
}

/** Learns the new task in one way, and leaves the model as it was. */
async function adapt(
  model: tf.LayersModel,
  way: Way,
  { train, test }: Dataset,
  { size, seed, before, folder }: { size: Size; seed: number; before: number; folder: string },
): Promise<Outcome> {
  const { algorithm, rate, adapter, layers = /^$/ } = way, weights = model.countParams();
  const original = model.getWeights().map((weight) => tf.clone(weight));
  const all = adapter &&
    adaptModel(adapter.name, model, adapter.rank, { seed, overrides: HEAD, ...adapter.options });
  const variables = all
    ? model.trainableWeights.map((weight) => weight.read() as tf.Variable)
    : variablesOf(model, layers);
  const msPerStep = await learn(model, variables, train, { ...size, seed, rate, title: algorithm });
  const after = await accuracy((x) => logits(model, x), test, algorithm);
  const predictions = tf.tidy(() => logits(model, sample(test)));
  const parameters = variables.reduce((sum, { size }) => sum + size, 0);

  const name = algorithm.replaceAll(/\W+/g, "-"), path = join(folder, `${name}.safetensors`);
  if (all) {
    await all.save(path);
    all.detach();
  } else {
    await saveWeights(path, variables);
    model.setWeights(original);
  }
  tf.dispose(original);
  const { size: fileBytes } = await stat(path);
  const share = parameters / weights;
  const row = { algorithm, parameters, share, before, after, msPerStep, fileBytes };
  return { row, path: all && path, predictions };
}

/** Writes weights as they are: what a way without an adapter has to store. */
function saveWeights(path: string, variables: readonly tf.Variable[]): Promise<void> {
  const bytes = (variable: tf.Variable) => async () =>
    fromFloat32("F32", Float32Array.from(await variable.data()));
  return write(
    path,
    variables.map((variable) => ({
      name: variable.name,
      dtype: "F32",
      shape: variable.shape,
      bytes: bytes(variable),
    })),
  );
}

/** Opens an adapter's file, merges it into the model, and compares with what it predicted when attached. */
async function reopen(
  model: tf.LayersModel,
  { row, path, predictions }: Outcome,
  test: Examples,
): Promise<string> {
  const file = await files.open(path!), x = sample(test);
  attachAny(model, file.adapters).merge();
  for (const adapter of file.adapters.values()) dispose(adapter);
  const [same, apart] = tf.tidy(() => {
    const merged = logits(model, x);
    const agreed = tf.equal(tf.argMax(merged, -1), tf.argMax(predictions, -1));
    const differ = tf.div(tf.max(tf.abs(tf.sub(merged, predictions))), tf.max(tf.abs(predictions)));
    return [tf.sum(agreed).dataSync()[0], differ.dataSync()[0]];
  });
  const count = x.shape[0];
  x.dispose();
  if (same < count || apart > 1e-4) {
    throw new Error(
      `Cannot show that ${row.algorithm} merged predicts the same as attached: ` +
        `current agreement is ${same} of ${count}, logits ${apart.toExponential(1)} apart`,
    );
  }
  return `${row.algorithm}, opened again from ${path} and merged: ${same} of ${count} predictions agree, ` +
    `logits at most ${apart.toExponential(1)} apart (relative)`;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** A row as a person reads it. */
function shown({ algorithm, parameters, share, before, after, msPerStep, fileBytes }: Row) {
  return {
    algorithm,
    parameters,
    share: percent(share),
    before: percent(before),
    after: percent(after),
    "ms/step": Number(msPerStep.toFixed(1)),
    "file, kB": Number((fileBytes / 1000).toFixed(1)),
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      out: { type: "string", default: join("out", "demo") },
      seed: { type: "string", default: "0" },
      engine: { type: "string", default: "auto" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const size = SIZES[values.quick ? "quick" : "whole"], seed = Number(values.seed);
  if (!Number.isInteger(seed)) {
    throw new RangeError(
      `Cannot run the demo as --seed must be a whole number: current value is ${values.seed}`,
    );
  }
  const start = performance.now(), folder = values.out;
  await mkdir(folder, { recursive: true });
  await engine.use(values.engine as Parameters<typeof engine.use>[0]);

  const digits = await mnist(), clothes = await fashionMnist(), model = convnet({ seed });
  const test = first(clothes.test, size.test), digitsTest = first(digits.test, size.test);
  await learn(model, variablesOf(model, /./), digits.train, {
    ...size,
    steps: size.pretraining,
    seed,
    rate: 8e-3,
    title: "MNIST",
  });
  const known = await accuracy((x) => logits(model, x), digitsTest, "MNIST");
  const before = await accuracy((x) => logits(model, x), test, "before");
  console.log(
    `A network of ${model.countParams().toLocaleString("en")} parameters has learnt MNIST: ${
      percent(known)
    } of ` +
      `${
        digitsTest.labels.length.toLocaleString("en")
      } test images, on the engine ${engine.name}.\n` +
      `Frozen and adapted to Fashion-MNIST, ${size.steps} steps of ${size.batch} images in every way:\n`,
  );
  const outcomes: Outcome[] = [];
  for (const way of WAYS) {
    outcomes.push(
      await adapt(model, way, { train: clothes.train, test }, { size, seed, before, folder }),
    );
  }
  console.log(table(outcomes.map(({ row }) => shown(row))) + "\n");

  const adapters = outcomes.filter(({ path }) => path);
  const best = adapters.reduce((a, b) => (b.row.after > a.row.after ? b : a));
  console.log(await reopen(model, best, test));
  const rows = outcomes.map(({ row }) => row);
  if (values.json) await writeFile(values.json, JSON.stringify(rows, null, 2) + "\n");
  const lost = adapters.filter(({ row }) => row.after <= row.before).map(({ row }) =>
    row.algorithm
  );
  tf.dispose(outcomes.map(({ predictions }) => predictions));
  model.dispose();
  console.log(
    `${
      ((performance.now() - start) / 1000).toFixed(0)
    } seconds, ${tf.memory().numTensors} tensors left over`,
  );
  if (lost.length > 0) {
    throw new Error(
      `Cannot call this adapted as accuracy must rise: current losers are ${lost.join(", ")}`,
    );
  }
}

try {
  await main();
} catch (error) {
  const { code, message } = error as Error & { code?: string };
  console.error(message);
  process.exit(code?.startsWith("ERR_PARSE_ARGS") || error instanceof RangeError ? 2 : 1);
}
