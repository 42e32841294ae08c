/** A checkpoint that adapters were trained on, as far as a command needs it. */
import type * as tf from "@tensorflow/tfjs";
import { openCheckpoint, readKernel } from "../files/checkpoint.ts";
import { type Model, rename } from "../files/names.ts";

/** A base, or none. */
export interface Base extends AsyncDisposable {
  /** whose modules the adapters are looked up in */
  model?: Model;
  /** The kernel of a module, by any of its names; undefined where there is none. */
  kernel(name: string): Promise<tf.Tensor | undefined>;
  /** Whether a module has a bias; without a base nobody knows. */
  biased?: (name: string) => boolean;
}

/** Opens a checkpoint, if one is given. */
export async function baseOf(place: string | undefined): Promise<Base> {
  if (place === undefined) {
    const nothing = () => Promise.resolve(undefined);
    return { kernel: nothing, [Symbol.asyncDispose]: nothing };
  }
  const checkpoint = await openCheckpoint(place);
  const { model, modules } = checkpoint;
  const moduleOf = (name: string) => {
    const [own] = rename(new Map([[name, true]]), { to: "diffusers", model }).keys();
    return modules.get(own)!;
  };
  const kernel = (name: string) => readKernel(checkpoint, moduleOf(name));
  const biased = (name: string) => moduleOf(name).bias !== undefined;
  return { model, kernel, biased, [Symbol.asyncDispose]: () => checkpoint.close() };
}
