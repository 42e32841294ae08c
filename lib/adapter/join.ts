/**
 * LoRA Join: several adapters of a kernel as one LoRA, `[A₁ A₂ …] Σ [B₁ B₂ …]ᵀ` with a diagonal Σ that stays live.
 *
 * After cloneofsimo, "LoRA Join operation" (github.com/cloneofsimo/lora, pull request 160), where it holds for linear
 * layers and is lost when saved; here for any kernel and any algorithm, with Σ inside `up` at every moment, so
 * that whoever merges, saves or copies the value sees it, once.
 */
import * as tf from "@tensorflow/tfjs";
import * as full from "../algorithms/full.ts";
import type { Factors } from "../algorithms/lora.ts";
import type { Shape } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Adapter } from "./adapter.ts";
import { conform } from "./conform.ts";
import { foldedForm, hasLowRankForm } from "./low_rank.ts";
import { merge } from "./merge.ts";
import { plain } from "./plain.ts";

/** The ranks of one source in a joined adapter. */
export interface Slice {
  /** the first of them */
  readonly start: number;
  /** the first after them */
  readonly end: number;
}

/**
 * One LoRA made of several adapters, and the Σ that they are mixed by.
 *
 * A layer that it is attached to has a copy of it as it was; there attach the sources, each with a strength of its own.
 */
export interface Joined extends Adapter<Factors> {
  /** Σ, a number a rank, of each source's ΔW at its own scale; setting it makes `factors.up` anew */
  diagonal: readonly number[];
  /** which ranks came from which source */
  readonly slices: Readonly<Record<string, Slice>>;
}

/** A list, whose names are "0", "1", …, or a record by name. */
export type Named<T> = Readonly<Record<string, T>> | readonly T[];

/** How much of each adapter, and what of. */
export interface JoinOptions {
  /** s of each source, by its name or place; may be negative; default 1 */
  strengths?: Named<number>;
  /** the kernel, for sources whose ΔW depends on it */
  base?: tf.Tensor;
}

/** One of the adapters that become one. */
export interface Source {
  name: string;
  adapter: Adapter;
  strength: number;
}

/** The adapters and their strengths, checked. */
export function sourcesOf(adapters: Named<Adapter>, strengths: Named<number>): Source[] {
  const sources = Object.entries(adapters), asked = new Map(Object.entries(strengths));
  if (sources.length === 0) {
    throw new TypeError("Cannot join adapters as there must be one: current count is 0");
  }
  const stranger = [...asked.keys()].find((name) => !Object.hasOwn(adapters, name));
  if (stranger !== undefined) {
    throw new TypeError(
      `Cannot join adapters as strengths are for ${Object.keys(adapters).join(", ")}: ` +
        `current strength is for ${stranger}`,
    );
  }
  return sources.map(([name, adapter]) => ({ name, adapter, strength: asked.get(name) ?? 1 }));
}

/** The kernel shape that all sources are fitted to: the one that tells most. */
export function commonShape(sources: readonly Source[], base?: tf.Tensor): Shape {
  if (base) return base.shape;
  const told = ({ adapter: { shape } }: Source) => shape.includes(-1) ? 0 : shape.length;
  return sources.reduce((best, source) => told(source) > told(best) ? source : best).adapter.shape;
}

/** What an adapter adds to a base at a strength, where it is no sum by itself. */
export function differenceOf(
  name: string,
  adapter: Adapter,
  strength: number,
  base: tf.Tensor | undefined,
): tf.Tensor {
  if (base) return tf.tidy(() => tf.sub(merge(base, adapter, { strength }), base));
  throw new TypeError(
    `Cannot join "${name}" as ${adapter.algorithm}${adapter.dora ? " with dora" : ""} is no sum ` +
      "without the base kernel: current base is undefined, pass { base: kernel }",
  );
}

/** One source as a pair, and what its ranks have on the diagonal. */
function pairOf(name: string, adapter: Adapter, strength: number, base?: tf.Tensor) {
  if (adapter.factors.bias || adapter.algorithm === "norm") {
    throw new TypeError(
      `Cannot join "${name}" as a LoRA has a kernel and no bias: current adapter is ` +
        `${adapter.algorithm}, use sum`,
    );
  }
  if (hasLowRankForm(adapter)) return { ...foldedForm(adapter), sigma: strength };
  const difference = differenceOf(name, adapter, strength, base);
  return { ...full.lowRank({ difference }), sigma: 1 };
}

/**
 * One LoRA with W + ΔW = W + Σ s_j · scale_j · ΔW_j, exact: the sources' ranks side by side, no cross terms.
 *
 * Any mix of algorithms, ranks, alphas and scales: a LoHa comes with r² ranks, a LoKr with rank(w1) · rank(w2), also
 * beside another LoKr (a sum of two Kronecker products is none, unless they share w1 or w2). {@link resize} gives
 * the best adapter of a smaller rank. With `base` a source that is no plain sum (DoRA, (IA)^3) comes as its
 * difference from the base at its strength, of full rank, and stands with 1 on the diagonal.
 *
 * @param adapters of one kernel, by name or in a list
 * @returns a value of its own: `up` `[R, O]` and `down` `[...k, I/G, R]` are freed by `dispose`, alpha is R
 * @throws {TypeError} for sources of different kernels, or one that needs the base and has none
 *
 * @example
 * ```ts
 * import { join, lora, delta, dispose } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const style = lora.create([3, 3, 4, 8], 2), face = lora.create([3, 3, 4, 8], 1);
 * const joined = join({ style, face }, { strengths: { style: 0.5 } });
 * assert.equal(joined.diagonal, [0.5, 0.5, 1]);
 * assert.equal(joined.slices.face, { start: 2, end: 3 });
 * joined.diagonal = [0, 0, 1]; // only the face
 * assert.equal(delta(joined).shape, [3, 3, 4, 8]);
 * dispose(joined);
 * ```
 */
export function join(
  adapters: Named<Adapter>,
  { strengths = {}, base }: JoinOptions = {},
): Joined {
  const sources = sourcesOf(adapters, strengths);
  const slices: Record<string, Slice> = {}, diagonal: number[] = [];
  const { down, up } = tidy(() => {
    const shape = commonShape(sources, base);
    const pairs = sources.map(({ name, adapter, strength }) => {
      const { sigma, down, up } = pairOf(name, conform(adapter, shape), strength, base);
      const start = diagonal.length, [ranks] = up.shape;
      diagonal.push(...Array<number>(ranks).fill(sigma));
      slices[name] = { start, end: start + ranks };
      return { down, up };
    });
    return {
      down: tf.concat(pairs.map(({ down }) => down), -1),
      up: tf.concat(pairs.map(({ up }) => up), 0),
    };
  });
  const joined = live(down, up.dataSync<"float32">(), diagonal, slices);
  up.dispose();
  return joined;
}

/** The joined value over `down` and the rows of `up` where Σ is 1. */
function live(
  down: tf.Tensor,
  rows: Float32Array,
  born: readonly number[],
  slices: Joined["slices"],
): Joined {
  const R = born.length, O = rows.length / R;
  const weighted = (sigma: readonly number[]) =>
    tf.tensor2d(rows.map((value, i) => value * sigma[Math.floor(i / O)]), [R, O]);
  let diagonal = born;
  const factors = { down, up: weighted(born) };
  return {
    ...plain("lora", [...down.shape.slice(0, -1), O], R, factors),
    slices,
    get diagonal() {
      return diagonal;
    },
    set diagonal(sigma) {
      if (sigma.length !== R || !sigma.every(Number.isFinite)) {
        throw new RangeError(
          `Cannot set the diagonal of a joined adapter as it is ${R} finite numbers: ` +
            `current diagonal is ${sigma.join(", ")}`,
        );
      }
      diagonal = [...sigma];
      const before = factors.up;
      factors.up = tf.keep(weighted(diagonal)); // it is the value's, not the scope's it is set in
      before.dispose();
    },
  };
}
