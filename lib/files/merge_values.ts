/** The numbers of a stored tensor before and after adapters: float32 in between, rounded once. */
import * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../adapter/adapter.ts";
import { conform } from "../adapter/conform.ts";
import { delta, merge, unmerge } from "../adapter/merge.ts";
import { rowOf } from "../algorithms/table.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { type CheckpointModule, fromTorch, toTorch } from "./checkpoint_modules.ts";
import { fromFloat32, toFloat32 } from "./floats.ts";
import type { Step, Uses } from "./merge_plan.ts";

/** Whether adapters go in, or out again. */
export type Way = "merge" | "unmerge";

/** Numbers of a tensor. */
type Values = Float32Array<ArrayBuffer>;

const read = async ({ file, part }: Step): Promise<Adapter> => (await file.read(part))!.adapter;

/** Numbers of a tensor, which is let go. */
async function take(tensor: tf.Tensor): Promise<Values> {
  const values = await tensor.data<"float32">() as Values;
  tensor.dispose();
  return values;
}

/** Whether W′ − W does not depend on W. */
const isSum = ({ algorithm, dora }: Adapter) => !dora && !rowOf(algorithm).relative;

/** One step on a kernel, in place. */
async function onKernel(values: Values, module: CheckpointModule, step: Step, way: Way) {
  const adapter = await read(step), { strength } = step, factors = Object.values(adapter.factors);
  const free = () => tf.dispose(factors.filter((factor) => factor !== undefined));
  try {
    if (isSum(adapter)) {
      const s = way === "merge" ? strength : -strength;
      const added = await take(
        tidy(() => toTorch(module, delta(conform(adapter, module.shape)))),
      );
      for (let i = 0; i < values.length; i++) values[i] += s * added[i];
      return;
    }
    const change = way === "merge" ? merge : unmerge;
    values.set(
      await take(
        tidy(() => toTorch(module, change(fromTorch(module, values), adapter, { strength }))),
      ),
    );
  } finally {
    free();
  }
}

/** One step on a bias, in place. */
async function onBias(values: Values, step: Step, way: Way) {
  const { factors: { bias, vector, ...rest } } = await read(step), { strength } = step;
  const own = bias ?? vector!, others = Object.values({ ...rest, bias, vector });
  const numbers = await own.data<"float32">();
  tf.dispose(others.filter((factor) => factor !== undefined));
  const s = way === "merge" ? strength : -strength;
  for (let i = 0; i < values.length; i++) {
    if (bias) values[i] += s * numbers[i];
    else if (way === "merge") values[i] *= 1 + strength * numbers[i];
    else values[i] /= 1 + strength * numbers[i];
  }
}

/** What a change did. */
export interface Changed {
  bytes: Uint8Array;
  /** the largest |value| before and after */
  largest: { before: number; after: number };
}

function largest(values: Values): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i]);
    if (!(size <= most)) most = size; // a NaN stays
  }
  return most;
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
  const { dtype, bytes } = await checkpoint.read(key);
  const all = toFloat32(dtype, bytes) as Values, before = largest(all);
  for (const { module, steps } of uses) {
    const rows = all.length / (module.third === undefined ? 1 : 3),
      start = rows * (module.third ?? 0);
    const own = all.subarray(start, start + rows);
    for (const step of way === "merge" ? steps : steps.toReversed()) {
      if (side === "weight") await onKernel(own, module, step, way);
      else await onBias(own, step, way);
    }
  }
  const after = largest(all);
  if (!(after <= (dtype === "F16" ? 65519 : Number.MAX_VALUE))) {
    throw new RangeError(
      `Cannot write "${key}" as its numbers must be finite in ${dtype}: current largest is ${after}`,
    );
  }
  return { bytes: fromFloat32(dtype, all), largest: { before, after } };
}
