/** The exact ways to write an adapter, of which another program may read one where it does not read another. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, copy } from "../adapter/adapter.ts";
import { conform } from "../adapter/conform.ts";
import { convert } from "../adapter/convert.ts";
import { folded, isFoldable } from "../adapter/folded.ts";
import { plain } from "../adapter/plain.ts";
import { rowOf } from "../algorithms/table.ts";
import { tidy } from "../tensor/tidy.ts";
import { change } from "./doctor.ts";

/** A layer on its way: what it was trained to be, and its kernel where that is at hand. */
export interface Patient {
  name: string;
  trained: Adapter;
  kernel?: tf.Tensor;
  /** whether it has a bias, where that is known */
  biased?: boolean;
}

/** An exact way to write an adapter; throws an error whose message is why it is none for this one. */
export interface Way {
  told: string;
  make(patient: Patient): Adapter;
  /** the keys of GLoRA's factors exchanged, as before LyCORIS 3.0 */
  older?: true;
}

/** From the closest to what it was to the last resort. */
export const WAYS: readonly Way[] = [
  { told: "as it is", make: ({ trained }) => copy(trained) },
  {
    told: "scale or constraint folded in",
    make: ({ trained }) => {
      if (!isFoldable(trained)) none("it has no scale to fold in");
      return folded(trained);
    },
  },
  {
    told: "in the order of factors before LyCORIS 3.0",
    older: true,
    make: ({ trained }) => {
      if (trained.algorithm !== "glora") none("it is no GLoRA");
      return folded(trained);
    },
  },
  {
    told: "as LoRA",
    make: (patient) => {
      const { trained } = patient;
      if (rowOf(trained.algorithm).relative || trained.dora) none("it is no sum of outer products");
      return tidy(() => folded(convert(sure(patient), "lora")));
    },
  },
  { told: "as plain difference", make: differenceOf },
  {
    told: "as LoRA of all ranks",
    make: (patient) =>
      tidy(() => {
        const difference = differenceOf(patient);
        if (difference.factors.bias) none("it has no place for a bias");
        return convert(difference, "lora");
      }),
  },
];

const DEPENDS = "its ΔW depends on the base kernel, which was not given";

/** What an error says. */
export const reasonOf = (error: unknown) => error instanceof Error ? error.message : String(error);

/** Refuses a way, by a reason. */
export function none(reason: string): never {
  throw new TypeError(reason);
}

/** Layers that are convolutions, by their names in any dialect. */
const CONVOLUTION =
  /(conv(_in|_out|_shortcut|\d)?|_op|[._]0[._]op|in_layers[._]2|out_layers[._]3|skip_connection|input_blocks[._]0[._]0|proj_(in|out))$/;

/** The adapter with its kernel's shape, where that is known. */
function sure({ name, trained, kernel }: Patient): Adapter {
  if (kernel) return conform(trained, kernel.shape);
  const flat = trained.shape.length === 2 &&
    ["loha", "lokr"].includes(trained.algorithm) && !trained.factors.w2;
  if (flat && CONVOLUTION.test(name)) {
    none("its file does not tell the kernel of a convolution, and the base was not given");
  }
  return trained;
}

/** W′ − W itself. */
function differenceOf(patient: Patient): Adapter {
  const { trained, kernel } = patient, { algorithm, dora, factors: { bias } } = trained;
  if ((rowOf(algorithm).relative || dora) && !kernel) none(DEPENDS);
  if (algorithm === "norm") none("it has no place for a normalization's vectors");
  const factors = tidy(() => {
    const known = sure(patient), W = kernel ?? tf.zeros([...known.shape]);
    return { difference: change(known, W, 1), ...(bias && { bias: tf.clone(bias) }) };
  });
  return plain("full", factors.difference.shape, 0, factors);
}
