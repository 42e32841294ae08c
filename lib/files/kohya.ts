/**
 * The kohya / LyCORIS dialect: an adapter as the tensors of its module, `<module>.<suffix>`, and back.
 *
 * The factors' keys and layouts are in `keys.ts`; here they become an adapter. The scale is always alpha / rank, so
 * that a reader needs to know of nothing else.
 */
import * as tf from "@tensorflow/tfjs";
import type { Factors } from "../algorithms/algorithm.ts";
import * as dylora from "../algorithms/dylora.ts";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import { type Adapter, scale } from "../adapter/adapter.ts";
import { outputs, same, show, size, space } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";
import { KEYS } from "./keys.ts";
import type { Torch } from "./layout.ts";

export type { Torch } from "./layout.ts";

/** Every suffix of the dialect, longest first, so that `a.b` is looked for before `b`. */
export const SUFFIXES: readonly string[] = [
  ...new Set(Object.values(KEYS).flatMap((keys) => [...keys.required.flat(), ...keys.optional])),
].sort((a, b) => b.length - a.length);

/** The algorithm whose keys these are, all that belong together and none beside them. */
function recognize(torch: Torch): keyof typeof KEYS | undefined {
  const names = Object.keys(torch);
  const found = Object.entries(KEYS).find(([, { required, optional, is }]) =>
    required.some((group) =>
      group.every((name) => names.includes(name)) &&
      names.every((name) => group.includes(name) || optional.includes(name))
    ) && (!is || is(torch))
  );
  return found?.[0] as keyof typeof KEYS | undefined;
}

/** Axes of factors that must be of one length: the rank of a pair, the sides of LoHa's two halves, and others. */
function checkLengths(algorithm: AlgorithmName, factors: Factors): void {
  const axis = (name: string, from: number) => {
    const tensor = factors[name];
    return tensor && [`${name} ${show(tensor.shape)}`, tensor.shape.at(from)!] as const;
  };
  const equal = (...axes: (readonly [string, number] | undefined)[]) => {
    const there = axes.filter((axis) => axis !== undefined);
    if (there.some(([, length]) => length !== there[0][1])) {
      throw new RangeError(`current factors are ${there.map(([told]) => told).join(", ")}`);
    }
  };
  for (const n of ["", "1", "2", "A", "B"]) {
    equal(axis(`down${n}`, -1), axis(`core${n}`, -2), axis(`core${n}`, -1), axis(`up${n}`, 0));
  }
  equal(axis("down", -1), axis("lambda", 0));
  equal(axis("downA", 0), axis("upA", -1), axis("downB", -2));
  equal(axis("blocks", -1), axis("blocks", -2));
  if (algorithm === "boft") {
    const [m, n, b] = factors.blocks!.shape;
    if (n % 2 ** (m - 1) !== 0 || b % 2 !== 0) {
      throw new RangeError(`current blocks are ${show(factors.blocks!.shape)}, no butterfly`);
    }
  }
  equal(axis("difference", -1), axis("bias", 0));
  for (const [name, tensor] of Object.entries(factors)) {
    if (tensor?.size === 0) throw new RangeError(`current ${name} is ${show(tensor.shape)}`);
  }
  if (algorithm !== "loha") return;
  equal(axis("down1", 0), axis("down2", 0));
  equal(axis("up1", -1), axis("up2", -1));
  const cores = [factors.core1, factors.core2].filter((core) => core !== undefined);
  if (cores.some(({ shape }) => !same(shape, cores[0].shape))) {
    throw new RangeError(`current cores are ${cores.map(({ shape }) => show(shape)).join(", ")}`);
  }
}

/** `[O, 1, 1, 1]` → output, `[1, I, 1, 1]` → input: LyCORIS wrote either, and reads only the first. */
function magnitudeOf(dora: tf.Tensor, O: number): Pick<Adapter, "dora"> & { magnitude: tf.Tensor } {
  const byOutput = dora.shape[0] === O && size(dora.shape) === O;
  return byOutput
    ? { dora: "output", magnitude: tf.reshape(dora, [1, O]) }
    : { dora: "input", magnitude: tf.reshape(dora, [-1, 1]) };
}

/**
 * The adapter that a module's tensors are, or none when they are not one whole adapter.
 *
 * @param torch the module's tensors by suffix, in PyTorch's layout; not disposed
 * @throws {RangeError} when the factors do not fit each other
 */
export function read(torch: Torch): Adapter | undefined {
  const algorithm = recognize(torch);
  if (!algorithm) return undefined;
  return tidy(() => {
    const { factors, shape, rank } = KEYS[algorithm].read(torch);
    checkLengths(algorithm, factors);
    if (shape.length === 0 || !shape.every(Number.isInteger)) {
      const found = Object.entries(torch).map(([key, { shape }]) => `${key} [${shape}]`);
      throw new RangeError(`current tensors are ${found.join(", ")}`);
    }
    const decomposed = torch.dora_scale && magnitudeOf(torch.dora_scale, outputs(shape));
    const [alpha, ...more] = torch.alpha?.dataSync() ?? [0];
    if (more.length > 0 || !Number.isFinite(alpha) && rank > 0 && !(factors.w1 && factors.w2)) {
      throw new RangeError(`current alpha is ${[alpha, ...more].join(", ")}`);
    }
    const rotates = algorithm === "oft" || algorithm === "boft";
    return {
      algorithm,
      shape,
      rank,
      alpha: !rotates && Number.isFinite(alpha) && alpha || rank || 1,
      rankScale: "alpha/r",
      factors: { ...factors, ...(decomposed && { magnitude: decomposed.magnitude }) },
      dora: decomposed?.dora ?? false,
      dropouts: { dropout: 0, rankDropout: 0, rankDropoutScale: false, moduleDropout: 0 },
      ...(rotates && alpha > 0 && { constraint: alpha }),
    };
  });
}

/** What is stored as alpha: what makes alpha / rank the scale; of OFT and BOFT the constraint, a whole 0 for none. */
function alphaOf(adapter: Adapter): tf.Tensor | undefined {
  const { algorithm, rank, constraint = 0, factors } = adapter,
    { ranked, scaled } = rowOf(algorithm);
  if (!ranked) return undefined;
  if (!scaled) return tf.scalar(constraint, constraint === 0 ? "int32" : "float32");
  return tf.scalar(factors.w1 && factors.w2 ? rank : scale(adapter) * rank);
}

/** The factors that take what must be multiplied in, those of them that are there: no key holds a `scalar`. */
const FOLDED: Partial<Record<AlgorithmName, readonly string[]>> = {
  lora: ["up"],
  loha: ["up1"],
  lokr: ["w1", "up1"],
  glora: ["downA", "downB"],
};

/**
 * A module's tensors by suffix, in PyTorch's layout, from which every reader gets the same W′.
 *
 * `scalar` is multiplied into a factor, as LyCORIS does. Alpha is stored so that alpha / rank is the scale: times
 * √r under rsLoRA, times the block for DyLoRA, which is stored as a LoRA.
 */
export function write(adapter: Adapter): Torch {
  return tidy(() => {
    const { algorithm, shape, dora } = adapter;
    const { scalar, magnitude, ...own } = adapter.factors as Torch;
    const plain = algorithm === "dylora" ? dylora.join(own as dylora.Factors) as Torch : { ...own };
    const keys = KEYS[algorithm === "dylora" ? "lora" : algorithm], alpha = alphaOf(adapter);
    const whole = algorithm === "lokr" && own.w1 && own.w2;
    for (const name of FOLDED[algorithm]?.filter((name) => name in plain) ?? []) {
      if (scalar) plain[name] = tf.mul(plain[name], scalar);
      // nor does LoKr with both parts whole have a scale
      if (whole) plain[name] = tf.mul(plain[name], scale(adapter));
    }
    const ones = space(shape).map(() => 1);
    return {
      ...(alpha && { alpha }),
      ...keys.write(plain, shape),
      ...(magnitude && {
        dora_scale: tf.reshape(
          magnitude,
          dora === "output" ? [outputs(shape), 1, ...ones] : [1, -1, ...ones],
        ),
      }),
    };
  });
}
