/** The differences of many layers as adapters, one after the other, or for bytes that they share. */
import * as tf from "@tensorflow/tfjs";
import { isWide } from "../tensor/shape.ts";
import { allocate } from "./allocate.ts";
import { choices, extract } from "./extract.ts";
import type { Choice, Extracted, ExtractOptions } from "./extract/options.ts";
import type { Quality } from "./fit.ts";
import { energyOf } from "./matrices.ts";
import { type Cut, UNCUT } from "./rank.ts";

/** A layer before and after training. */
export interface Pair {
  /** the kernel before, `[...k, I/G, O]` */
  base: tf.Tensor;
  /** the kernel after */
  tuned: tf.Tensor;
  /** the layer's bias in both */
  bias?: ExtractOptions["bias"];
}

/** How layers are extracted together. */
export interface ExtractAllOptions extends Omit<ExtractOptions, "bias"> {
  /** rules for kernels wider than one position, in the place of the others */
  conv?: Cut;
  /** of `bytes`, what the rest of the file takes: header and metadata; default 0 */
  overhead?: number;
  /** with `bytes`, count what a layer misses as a share of its ‖W‖; default as it is */
  relative?: boolean;
  /** told of every layer when it is done, without a result where it does not differ or is left out */
  onLayer?: (layer: string, extracted?: Extracted) => void;
}

/** Extracted layers. */
export interface ExtractedAll {
  /** by layer; their adapters' tensors are the caller's */
  layers: Map<string, Extracted>;
  /** layers that differ and for which no bytes were left */
  left: Map<string, Quality>;
}

/**
 * Every layer by {@link extract}, or with `bytes` all of them at once: min Σ ‖ΔW − ΔW′‖², one way for each layer.
 *
 * One pair is in memory at a time. With `bytes` every layer is loaded twice: to weigh the ways to store it, and, when
 * the bytes are divided, to do it.
 *
 * @param layers their names
 * @param load a layer's kernels; the tensors go over to this function, which frees them
 * @throws {RangeError} for a value that a rule cannot have
 *
 * @example
 * ```ts
 * import { extractAll, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const load = (size: number) => ({ base: tf.zeros([4, 4]), tuned: tf.fill([4, 4], size) });
 * const { layers, left } = await extractAll([1, 2].map(String), (name) => load(Number(name)), {
 *   bytes: 40, // one rank of one layer: 8 numbers and alpha
 * });
 * assert.equal([...layers.keys()], ["2"]);
 * assert.equal([...left.keys()], ["1"]);
 * ```
 */
export async function extractAll(
  layers: Iterable<string>,
  load: (layer: string) => Pair | Promise<Pair>,
  options: ExtractAllOptions = {},
): Promise<ExtractedAll> {
  const { conv, bytes, overhead = 0, relative = false, onLayer, ...rest } = options;
  const done: ExtractedAll = { layers: new Map(), left: new Map() };

  const visit = async <T>(layer: string, use: (pair: Pair, options: ExtractOptions) => T) => {
    const pair = await load(layer), { base, tuned, bias = {} } = pair;
    try {
      const ruled = conv && isWide(base.shape) ? { ...rest, ...UNCUT, ...conv } : rest;
      return use(pair, { ...ruled, bias });
    } finally {
      tf.dispose([base, tuned, ...Object.values(bias).filter((tensor) => tensor !== undefined)]);
    }
  };
  const finish = async (layer: string, choice: ExtractOptions = {}) => {
    const found = await visit(
      layer,
      ({ base, tuned }, own) => extract(base, tuned, { ...own, ...choice }),
    );
    if (found) done.layers.set(layer, found);
    onLayer?.(layer, found);
  };
  if (bytes === undefined) {
    for (const layer of layers) await finish(layer);
    return done;
  }

  const names = [...layers], ways: (Choice & { rank?: number })[][] = [], energies: number[] = [];
  for (const layer of names) {
    const { vector, unit, energy, ...found } = await visit(layer, ({ base, tuned }, own) => ({
      vector: base.shape.length === 1,
      unit: relative ? 1 / (energyOf(base) || 1) : 1,
      ...choices(base, tuned, own),
    }));
    const nothing: Choice = { algorithm: "full", options: {}, bytes: 0, loss: energy };
    const all = [nothing, ...found.choices];
    // LoRAs are a layer's ranks; a vector, which is whole at every rank, has the first
    const rankOf = ({ algorithm, options }: Choice, i: number) =>
      i === 0 ? 0 : vector ? 1 : algorithm === "lora" ? options.rank : undefined;
    ways.push(
      all.map((choice, i) => ({ ...choice, loss: choice.loss * unit, rank: rankOf(choice, i) })),
    );
    energies.push(energy);
  }
  const chosen = allocate(ways, bytes - overhead);
  for (const [i, layer] of names.entries()) {
    const { algorithm, options: own } = ways[i][chosen[i]];
    if (chosen[i] > 0) await finish(layer, { error: undefined, ...own, algorithm });
    else {
      if (energies[i] > 0) {
        done.left.set(layer, { norm: Math.sqrt(energies[i]), error: 1, energy: 0 });
      }
      onLayer?.(layer);
    }
  }
  return done;
}
