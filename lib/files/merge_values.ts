/** The numbers of a stored tensor before and after adapters: float32 in between, rounded once. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose, scale } from "../adapter/adapter.ts";
import { conform } from "../adapter/conform.ts";
import { delta, merge, unmerge } from "../adapter/merge.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { type CheckpointModule, fromTorch, toTorch } from "./checkpoint_modules.ts";
import { type Dtype, DTYPES } from "./dtypes.ts";
import { fromFloat32, toFloat32 } from "./floats.ts";
import { flat } from "./layout.ts";
import type { Step, Uses } from "./merge_plan.ts";
import { release } from "./release.ts";

/** Whether adapters go in, or out again. */
export type Way = "merge" | "unmerge";

/** Numbers of a tensor. */
type Values = Float32Array<ArrayBuffer>;

/** What a change did. */
export interface Changed {
  bytes: Uint8Array;
  /** the largest |value| before and after */
  largest: { before: number; after: number };
}

/** The largest whole number that each dtype rounds to one that it has. */
const LARGEST: Partial<Record<Dtype, number>> = {
  F16: 65519,
  F8_E4M3: 464, // a tie, whose even side is 448
  F8_E5M2: 61439,
};

/** Numbers that are decoded and encoded at a time. */
const PIECE = 2 ** 16;

/** A step's adapter for as long as `use` takes. */
async function adapterOf<T>(step: Step, use: (adapter: Adapter) => Promise<T>): Promise<T> {
  const { adapter } = (await step.file.read(step.part))!;
  try {
    return await use(adapter);
  } finally {
    dispose(adapter);
  }
}

/** A tensor's numbers; it is let go. */
async function take(tensor: tf.Tensor): Promise<Values> {
  const values = await tensor.data<"float32">() as Values;
  tensor.dispose();
  return values;
}

/**
 * s · scale · ΔW in PyTorch's layout. A LoRA's is multiplied there at once, as transposing it would take as long
 * again, and s goes into its smaller factor.
 */
function torchDelta(module: CheckpointModule, adapter: Adapter, s: number): tf.Tensor {
  const own = conform(adapter, module.shape), { down, up, core, scalar } = own.factors;
  const stored = module.kind === "embedding" || module.transposed; // as it is here
  if (own.algorithm !== "lora" || core || scalar || stored) {
    const torch = toTorch(module, delta(own));
    return s === 1 ? torch : tf.mul(torch, s);
  }
  const scaled = tf.mul<tf.Tensor2D>(up!, s * scale(own));
  return tf.matMul(scaled, flat(down!) as tf.Tensor2D, true); // [O, r] · [r, I·k]
}

/** scale · ΔW of a step that needs no base, times its strength. */
async function added(module: CheckpointModule, step: Step, way: Way): Promise<Values> {
  const s = way === "merge" ? step.strength : -step.strength;
  if (step.difference === undefined) {
    return await adapterOf(step, (adapter) => take(tidy(() => torchDelta(module, adapter, s))));
  }
  const { dtype, bytes } = await step.file.tensors.read(step.difference);
  const values = toFloat32(dtype, bytes) as Values;
  release(bytes);
  if (s !== 1) { for (let i = 0; i < values.length; i++) values[i] *= s; }
  return values;
}

/** The sum of all that is added to a tensor of so many numbers. */
async function sumOf(count: number, uses: Uses, way: Way): Promise<Values> {
  let sum: Values | undefined;
  for (const { module, steps } of uses) {
    const share = module.third === undefined ? count : count / 3,
      start = share * (module.third ?? 0);
    for (const step of steps) {
      const term = await added(module, step, way);
      if (!sum && term.length === count) {
        sum = term;
        continue;
      }
      sum ??= new Float32Array(count);
      for (let i = 0; i < term.length; i++) sum[start + i] += term[i];
      release(term);
    }
  }
  return sum!;
}

/** The largest |value|, NaN where there is one: of float32 numbers without sign, the bits are in the same order. */
function largestOf(values: Values): number {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  let most = 0;
  for (let i = 0; i < bits.length; i++) {
    const size = bits[i] & 0x7fffffff;
    if (size > most) most = size;
  }
  return new Float32Array(Int32Array.of(most).buffer)[0];
}

/** W + sum, a piece at a time. */
async function withSum(
  { dtype, bytes }: { dtype: Dtype; bytes: Uint8Array },
  uses: Uses,
  way: Way,
): Promise<Changed> {
  const width = DTYPES[dtype] / 8, size = bytes.length / width;
  const sum = await sumOf(size, uses, way), out = new Uint8Array(bytes.length);
  const largest = { before: 0, after: 0 };
  for (let at = 0; at < size; at += PIECE) {
    const end = Math.min(size, at + PIECE);
    const values = toFloat32(dtype, bytes.subarray(at * width, end * width)) as Values;
    largest.before = Math.max(largest.before, largestOf(values)); // NaN stays
    for (let i = 0; i < values.length; i++) values[i] += sum[at + i];
    largest.after = Math.max(largest.after, largestOf(values));
    out.set(fromFloat32(dtype, values), at * width);
  }
  release(sum);
  release(bytes);
  return { bytes: out, largest };
}

/** One step on a kernel, in place; each tensor is let go before the next is made, as all are as large as the kernel. */
async function onKernel(values: Values, module: CheckpointModule, step: Step, way: Way) {
  const change = way === "merge" ? merge : unmerge, { strength } = step;
  const next = (tensor: tf.Tensor, make: (tensor: tf.Tensor) => tf.Tensor) => {
    try {
      return tidy(() => make(tensor));
    } finally {
      tensor.dispose();
    }
  };
  const changed = await adapterOf(step, (adapter) => {
    const W = tidy(() => fromTorch(module, values));
    const merged = next(W, (W) => change(W, adapter, { strength }));
    return take(next(merged, (kernel) => toTorch(module, kernel)));
  });
  values.set(changed);
  release(changed);
}

/** One step on a bias, in place. */
async function onBias(values: Values, step: Step, way: Way) {
  const { strength } = step, s = way === "merge" ? strength : -strength;
  await adapterOf(step, async ({ factors: { bias, vector } }) => {
    const numbers = await (bias ?? vector!).data<"float32">();
    for (let i = 0; i < values.length; i++) {
      if (bias) values[i] += s * numbers[i];
      else if (way === "merge") values[i] *= 1 + strength * numbers[i];
      else values[i] /= 1 + strength * numbers[i];
    }
  });
}

/** W′ step by step, where one needs what the ones before made. */
async function stepwise(
  { dtype, bytes }: { dtype: Dtype; bytes: Uint8Array },
  uses: Uses,
  side: "weight" | "bias",
  way: Way,
): Promise<Changed> {
  const all = toFloat32(dtype, bytes) as Values, before = largestOf(all);
  release(bytes);
  for (const { module, steps } of uses) {
    const share = module.third === undefined ? all.length : all.length / 3;
    const start = share * (module.third ?? 0), own = all.subarray(start, start + share);
    for (const step of way === "merge" ? steps : steps.toReversed()) {
      if (side === "weight") await onKernel(own, module, step, way);
      else await onBias(own, step, way);
    }
  }
  const changed = { bytes: fromFloat32(dtype, all), largest: { before, after: largestOf(all) } };
  release(all);
  return changed;
}

/**
 * The bytes of a tensor after all that is done to the modules in it, in its own dtype.
 *
 * @throws {RangeError} for numbers that are not finite, or too large for the dtype
 */
export async function changedTensor(
  checkpoint: Checkpoint,
  key: string,
  uses: Uses,
  side: "weight" | "bias",
  way: Way,
): Promise<Changed> {
  const stored = await checkpoint.read(key), { dtype } = stored;
  const isSum = side === "weight" && uses.every(({ steps }) => steps.every(({ sum }) => sum));
  const changed = await (isSum ? withSum(stored, uses, way) : stepwise(stored, uses, side, way));
  const { largest: { after } } = changed;
  if (!(after <= (LARGEST[dtype] ?? Number.MAX_VALUE))) {
    throw new RangeError(
      `Cannot write "${key}" as its numbers must be finite in ${dtype}: current largest is ${after}`,
    );
  }
  return changed;
}
