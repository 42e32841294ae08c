/**
 * Which LoKr PEFT would build: its parameters follow from one configuration for all modules, and a file whose
 * tensors have other shapes does not load.
 *
 * Source: PEFT 0.21.2, `tuners/lokr/layer.py`.
 */
import { factorPair } from "../tensor/kronecker.ts";
import { inputs, isWide, outputs, space } from "../tensor/shape.ts";
import { refuse, type Stored } from "./dialect.ts";
import type { Config } from "./peft_config.ts";

/** ΔW = w1 ⊗ w2 of `[a, c]` and `[b, d]`, W being `[a·b, c·d]`. */
interface Split {
  a: number;
  b: number;
  c: number;
  d: number;
  whole1: boolean;
  whole2: boolean;
  cored: boolean;
  rank: number;
}

function splitOf({ adapter, torch }: Stored): Split {
  const { shape } = adapter, cored = "lokr_t2" in torch;
  const length = (name: string, axis: number) => torch[name]?.shape[axis];
  const a = length("lokr_w1", 0) ?? length("lokr_w1_a", 0)!;
  const c = length("lokr_w1", 1) ?? length("lokr_w1_b", 1)!;
  const [whole1, whole2] = ["lokr_w1", "lokr_w2"].map((name) => name in torch);
  const rank = length("lokr_t2", 0) ?? length("lokr_w2_b", 0) ?? length("lokr_w1_b", 0) ??
    adapter.rank;
  return { a, b: outputs(shape) / a, c, d: inputs(shape) / c, whole1, whole2, cored, rank };
}

/** The factor that splits all channels as the tensors are split. */
function factorOf(splits: readonly (readonly [string, Split])[]): number {
  const largest = Math.max(...splits.map(([, { a, c }]) => Math.max(a, c)));
  const fits = (factor: number) => ({ a, b, c, d }: Split) =>
    factorPair(a * b, factor)[0] === a && factorPair(c * d, factor)[0] === c;
  const factors = [-1, ...Array.from({ length: largest + 1 }, (_, i) => i + 1).reverse()];
  const found = factors.find((factor) => splits.every(([, split]) => fits(factor)(split)));
  if (found !== undefined) return found;
  const near = factors.map((factor) => splits.findIndex(([, split]) => !fits(factor)(split)));
  const [layer, { a, b, c, d }] = splits[Math.max(...near)];
  return refuse(
    layer,
    "peft",
    "one decompose_factor splits the channels of every layer",
    `split is ${a}·${b} by ${c}·${d}, save it as kohya (if the kernel's shape is not known, conform it first)`,
  );
}

/**
 * The fields that make PEFT build these modules, and the rank by which it does.
 *
 * @throws {TypeError} for a module that no such field gives
 */
export function lokrFields(
  modules: ReadonlyMap<string, Stored>,
): { fields: Config; ranks: Map<string, number> } {
  const splits = [...modules].map(([layer, stored]) => [layer, splitOf(stored)] as const);
  const both = splits.some(([, { whole1 }]) => !whole1);
  const effective = splits.some(([, { cored }]) => cored);
  const ranks = new Map<string, number>();
  for (const [layer, split] of splits) {
    const { a, b, c, d, whole1, whole2, cored } = split, { shape } = modules.get(layer)!.adapter;
    const check = (holds: boolean, rule: string, current: string) => {
      if (!holds) refuse(layer, "peft", rule, `${current}, save it as kohya`);
    };
    const half1 = Math.max(a, c) / 2, half2 = Math.max(b, d) / 2;
    const free = whole1 && whole2; // then the rank only says that both are whole
    const rank = free
      ? Math.max(split.rank, Math.ceil(half2), both ? Math.ceil(half1) : 1)
      : split.rank;
    check(
      whole2 === rank >= half2,
      "its second factor is whole from half its size on",
      `rank is ${rank}`,
    );
    check(
      whole1 === !(both && rank < half1),
      "all first factors are low rank or none, up to half their size",
      `first factor is ${whole1 ? "whole" : "low rank"} at rank ${rank}`,
    );
    check(
      whole2 || cored || !effective || !isWide(shape),
      "all wide kernels have a core or none",
      "kernel has none",
    );
    // PEFT's Kronecker product takes the wrong axes of a convolution in one dimension, and it has none in three
    check(
      [0, 2].includes(space(shape).length),
      "it is of a dense or 2-D kernel",
      `shape is ${shape}`,
    );
    ranks.set(layer, rank);
  }
  return {
    fields: {
      decompose_both: both,
      decompose_factor: factorOf(splits),
      use_effective_conv2d: effective,
    },
    ranks,
  };
}
