/**
 * What the keys of a file cannot tell of an adapter, kept in its metadata under `lowrank`.
 *
 * The kernel shape of a LoHa, a layer's true name, DyLoRA's block: whoever does not know of the note reads the
 * same ΔW without it; only a T-LoRA from other triplets than the principal needs it, which LyCORIS's files lose.
 * A note that does not fit the tensors it comes with is passed over.
 */
import * as dylora from "../algorithms/dylora.ts";
import type { Triplets } from "../algorithms/algorithm.ts";
import {
  type Adapter,
  checkOptions,
  copy,
  dispose,
  type RankScale,
  scale,
} from "../adapter/adapter.ts";
import { conform } from "../adapter/conform.ts";
import { same, type Shape } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { read, type Torch } from "./kohya.ts";

/** A bfloat16 alpha is off by up to 2⁻⁸, and so is the scale. */
const STORED = 2 ** -7;

/** What is noted of one module, as far as the keys do not tell it. */
interface Note {
  name?: string;
  shape?: Shape;
  block?: number;
  alpha?: number;
  rankScale?: RankScale;
  triplets?: Triplets;
}

/**
 * What is to be noted of a layer's adapter that is stored as `torch`, or nothing.
 *
 * @param told the layer's name as the keys tell it
 */
export function note(
  layer: string,
  told: string,
  adapter: Adapter,
  torch: Torch,
): Note | undefined {
  const found = read(torch)!;
  dispose(found);
  const { shape, block, alpha, rankScale, triplets, factors } = adapter;
  // LoKr with both parts whole is stored with its scale multiplied in
  const scaled = !(factors.w1 && factors.w2) && (block || rankScale !== "alpha/r");
  const noted: Note = {
    ...(layer !== told && { name: layer }),
    ...(!same(found.shape, shape) && { shape }),
    ...(block && { block }),
    ...(scaled && { alpha, rankScale }),
    ...(triplets && { triplets }),
  };
  return Object.keys(noted).length > 0 ? noted : undefined;
}

/** The note of a module in a file's metadata, as far as it is one. */
function noteOf({ lowrank }: Record<string, string>, module: string): Note {
  try {
    const noted = (JSON.parse(lowrank ?? "{}") as Record<string, Note>)[module];
    return typeof noted === "object" && noted !== null ? noted : {};
  } catch {
    return {};
  }
}

/**
 * The adapter as it was before it was stored.
 *
 * @param found what the keys alone tell; its tensors go over into the adapter returned, or are disposed
 */
export function recall(
  metadata: Record<string, string>,
  module: string,
  found: Adapter,
): { name?: string; adapter: Adapter } {
  const noted = noteOf(metadata, module);
  const { name, shape, block, triplets, alpha = found.alpha, rankScale = "alpha/r" } = noted;
  const told = typeof name === "string" && name !== "" ? { name } : {};
  try {
    const adapter = tidy(() => {
      if (triplets !== undefined) checkOptions(found.algorithm, { triplets });
      let known = shape ? copy(conform(found, shape)) : copy(found);
      if (block !== undefined) known = blocked(known, block);
      const scaled = { ...known, alpha, rankScale, ...(triplets && { triplets }) };
      if (Math.abs(scale(scaled) - scale(found)) > STORED * Math.abs(scale(found))) {
        throw new RangeError("the note has another scale than the tensors");
      }
      return scaled;
    });
    dispose(found);
    return { ...told, adapter };
  } catch {
    return { ...told, adapter: found };
  }
}

/** A LoRA as the DyLoRA that it was stored from. */
function blocked(lora: Adapter, block: number): Adapter {
  if (lora.algorithm !== "lora" || lora.rank % block !== 0) throw new RangeError("not a DyLoRA");
  const { down, up } = lora.factors;
  return {
    ...lora,
    algorithm: "dylora",
    factors: dylora.split({ down: down!, up: up! }, block),
    block,
  };
}
