/**
 * The kohya / LyCORIS dialect: which keys an adapter has in a file, and how PyTorch lays its factors out.
 *
 * `<module>.<suffix>`; kernels there are `[O, I, kh, kw]`, here `[kh, kw, I, O]`. Names, layouts and rules are those
 * of LyCORIS 4.1.3 and of kohya's sd-scripts; the scale is always alpha / rank, so that a reader needs to know
 * of nothing else.
 */
import * as tf from "@tensorflow/tfjs";
import type { Factors } from "../algorithms/algorithm.ts";
import * as dylora from "../algorithms/dylora.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { type Adapter, scale } from "../adapter/adapter.ts";
import { inputs, outputs, type Shape, show, size, space } from "../tensor/shape.ts";
import { tidy } from "../tensor/tidy.ts";

/** Tensors of one module by suffix, in PyTorch's layout. */
export type Torch = Record<string, tf.Tensor>;

/** `[a, b, ...k]` → `[...k, b, a]`. */
function flip(tensor: tf.Tensor): tf.Tensor {
  const k = tensor.shape.slice(2).map((_, axis) => axis + 2);
  return tf.transpose(tensor, [...k, 1, 0]);
}

/** `[a, b, 1, 1]` or `[a, b]` → `[b, a]`. */
function matrix(tensor: tf.Tensor): tf.Tensor {
  const [a, b] = tensor.shape as number[];
  return tf.reshape(flip(tensor), [b, a]);
}

/** `[...k, b, a]` → `[a, b, ...k]`, the inverse of {@link flip}. */
function unflip(tensor: tf.Tensor): tf.Tensor {
  const k = space(tensor.shape).map((_, axis) => axis);
  return tf.transpose(tensor, [tensor.rank - 1, tensor.rank - 2, ...k]);
}

/** `[b, a]` → `[a, b, 1, 1]`, with an axis of one for each of the kernel's in space. */
function pointwise(tensor: tf.Tensor, k: Shape): tf.Tensor {
  const [b, a] = tensor.shape as number[];
  return tf.reshape(unflip(tensor), [a, b, ...k.map(() => 1)]);
}

/** `[...k, b, a]` → `[a, b·k]`, as LoHa and LoKr store the input side of every kernel. */
function flat(tensor: tf.Tensor): tf.Tensor {
  return tf.reshape(unflip(tensor), [outputs(tensor.shape), -1]);
}

/** An algorithm's keys: what must be there, what may be, and both directions. */
interface Keys {
  /** alternatives, each a list of suffixes that belong together */
  required: readonly (readonly string[])[];
  optional: readonly string[];
  read(torch: Torch): { factors: Factors; shape: number[]; rank: number };
  write(factors: Torch, shape: Shape): Torch;
}

const lora: Keys = {
  required: [["lora_down.weight", "lora_up.weight"]],
  optional: ["lora_mid.weight", "alpha", "dora_scale"],
  read: (torch) => {
    const up = matrix(torch["lora_up.weight"]), mid = torch["lora_mid.weight"];
    const down = (mid ? matrix : flip)(torch["lora_down.weight"]);
    const core = mid && flip(mid);
    const k = space((core ?? down).shape);
    return {
      factors: core ? { down, core, up } : { down, up },
      shape: [...k, inputs(down.shape), outputs(up.shape)],
      rank: outputs(down.shape),
    };
  },
  write: ({ down, core, up }, shape) => {
    const k = space(shape);
    return {
      "lora_up.weight": pointwise(up, k),
      "lora_down.weight": core ? pointwise(down, k) : unflip(down),
      ...(core && { "lora_mid.weight": unflip(core) }),
    };
  },
};

const loha: Keys = {
  required: [["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]],
  optional: ["hada_t1", "hada_t2", "alpha", "dora_scale"],
  read: ({ hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b, hada_t1, hada_t2 }) => {
    const cored = hada_t1 !== undefined && hada_t2 !== undefined;
    const up = cored ? tf.clone : matrix;
    const down1 = matrix(hada_w1_b), up1 = up(hada_w1_a);
    const core1 = cored ? flip(hada_t1) : undefined, core2 = cored ? flip(hada_t2) : undefined;
    return {
      factors: { down1, up1, core1, down2: matrix(hada_w2_b), up2: up(hada_w2_a), core2 },
      shape: [...space(core1?.shape ?? []), inputs(down1.shape), outputs(up1.shape)],
      rank: outputs(down1.shape),
    };
  },
  write: ({ down1, up1, core1, down2, up2, core2 }) => {
    const up = core1 ? tf.clone : unflip;
    return {
      hada_w1_a: up(up1),
      hada_w1_b: flat(down1),
      hada_w2_a: up(up2),
      hada_w2_b: flat(down2),
      ...(core1 && core2 && { hada_t1: unflip(core1), hada_t2: unflip(core2) }),
    };
  },
};

const lokr: Keys = {
  required: [
    ["lokr_w1", "lokr_w2"],
    ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
    ["lokr_w1_a", "lokr_w1_b", "lokr_w2"],
    ["lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"],
  ],
  optional: ["lokr_t2", "alpha", "dora_scale"],
  read: ({ lokr_w1, lokr_w1_a, lokr_w1_b, lokr_w2, lokr_w2_a, lokr_w2_b, lokr_t2, alpha }) => {
    const one: Torch = lokr_w1
      ? { w1: matrix(lokr_w1) }
      : { down1: matrix(lokr_w1_b), up1: matrix(lokr_w1_a) };
    const up2 = lokr_t2 ? tf.clone : matrix;
    const two: Torch = lokr_w2
      ? { w2: flip(lokr_w2) }
      : { down2: matrix(lokr_w2_b), up2: up2(lokr_w2_a), ...(lokr_t2 && { core2: flip(lokr_t2) }) };
    const { core2, down2, w2 } = two;
    const k = space((core2 ?? w2 ?? down2).shape);
    const inner = (w2 ?? down2).shape, ranked = core2 ?? down2 ?? one.down1;
    return {
      factors: { ...one, ...two },
      shape: [
        ...k,
        inputs((one.w1 ?? one.down1).shape) * inputs(inner),
        outputs((one.w1 ?? one.up1).shape) * outputs((w2 ?? two.up2).shape),
      ],
      // both parts whole: LyCORIS stores the rank that was asked for as alpha
      rank: ranked ? outputs(ranked.shape) : wholeRank(alpha),
    };
  },
  write: ({ w1, down1, up1, w2, down2, up2, core2 }) => ({
    ...(w1 ? { lokr_w1: unflip(w1) } : { lokr_w1_a: unflip(up1), lokr_w1_b: unflip(down1) }),
    ...(w2 ? { lokr_w2: unflip(w2) } : {
      lokr_w2_a: core2 ? tf.clone(up2) : unflip(up2),
      lokr_w2_b: flat(down2),
      ...(core2 && { lokr_t2: unflip(core2) }),
    }),
  }),
};

function wholeRank(alpha?: tf.Tensor): number {
  const [rank] = alpha ? alpha.dataSync() : [1];
  return Number.isInteger(rank) && rank >= 1 ? rank : 1;
}

const ia3: Keys = {
  required: [["weight", "on_input"]],
  optional: [],
  read: ({ weight, on_input }) => {
    const { size: n, rank } = weight, onInput = on_input.dataSync()[0] !== 0;
    const k = Array(Math.max(0, rank - 2)).fill(-1);
    return {
      factors: { vector: tf.reshape(weight, onInput ? [n, 1] : [1, n]) },
      shape: [...k, ...(onInput ? [n, -1] : [-1, n])],
      rank: 0,
    };
  },
  write: ({ vector }, shape) => {
    const k = space(shape).map(() => 1), n = vector.size;
    return {
      weight: tf.reshape(vector, shape.length === 2 ? [n] : [1, n, ...k]),
      on_input: tf.scalar(n === outputs(shape) && vector.shape[0] === 1 ? 0 : 1, "int32"),
    };
  },
};

const KEYS: Record<Exclude<AlgorithmName, "dylora">, Keys> = { lora, loha, lokr, ia3 };

/** Every suffix of the dialect, longest first, so that `a.b` is looked for before `b`. */
export const SUFFIXES: readonly string[] = [
  ...new Set(Object.values(KEYS).flatMap((keys) => [...keys.required.flat(), ...keys.optional])),
].sort((a, b) => b.length - a.length);

/** The algorithm whose keys these are, all that belong together and none beside them. */
function recognize(names: readonly string[]): keyof typeof KEYS | undefined {
  const found = Object.entries(KEYS).find(([, { required, optional }]) =>
    required.some((group) =>
      group.every((name) => names.includes(name)) &&
      names.every((name) => group.includes(name) || optional.includes(name))
    )
  );
  return found?.[0] as keyof typeof KEYS | undefined;
}

/** Axes of factors that must be of one length: the rank of a pair, and the sides of LoHa's two halves. */
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
  for (const n of ["", "1", "2"]) {
    equal(axis(`down${n}`, -1), axis(`core${n}`, -2), axis(`core${n}`, -1), axis(`up${n}`, 0));
  }
  if (algorithm !== "loha") return;
  equal(axis("down1", 0), axis("down2", 0));
  equal(axis("up1", -1), axis("up2", -1));
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
  const algorithm = recognize(Object.keys(torch));
  if (!algorithm) return undefined;
  return tidy(() => {
    const { factors, shape, rank } = KEYS[algorithm].read(torch);
    checkLengths(algorithm, factors);
    const decomposed = torch.dora_scale && magnitudeOf(torch.dora_scale, outputs(shape));
    const [alpha, ...more] = torch.alpha?.dataSync() ?? [0];
    if (more.length > 0 || !Number.isFinite(alpha) && rank > 0 && !(factors.w1 && factors.w2)) {
      throw new RangeError(`current alpha is ${[alpha, ...more].join(", ")}`);
    }
    return {
      algorithm,
      shape,
      rank,
      alpha: Number.isFinite(alpha) && alpha || rank || 1,
      rankScale: "alpha/r",
      factors: { ...factors, ...(decomposed && { magnitude: decomposed.magnitude }) },
      dora: decomposed?.dora ?? false,
      dropouts: { dropout: 0, rankDropout: 0, rankDropoutScale: false, moduleDropout: 0 },
    };
  });
}

/** The factor that takes what must be multiplied in: no key holds a `scalar`, and LoKr's `w1` no scale. */
const FOLDED: Partial<Record<AlgorithmName, readonly string[]>> = {
  lora: ["up"],
  loha: ["up1"],
  lokr: ["w1", "up1"],
};

/**
 * A module's tensors by suffix, in PyTorch's layout, from which every reader gets the same W′.
 *
 * `scalar` is multiplied into a factor, as LyCORIS does. Alpha is stored so that alpha / rank is the scale: times
 * √r under rsLoRA, times the block for DyLoRA, which is stored as a LoRA.
 */
export function write(adapter: Adapter): Torch {
  return tidy(() => {
    const { algorithm, shape, rank, dora } = adapter;
    const { scalar, magnitude, ...own } = adapter.factors as Torch;
    const plain = algorithm === "dylora" ? dylora.join(own as dylora.Factors) as Torch : { ...own };
    const keys = KEYS[algorithm === "dylora" ? "lora" : algorithm];
    const whole = algorithm === "lokr" && own.w1 && own.w2;
    const folded = FOLDED[algorithm]?.find((name) => name in plain);
    if (folded && scalar) plain[folded] = tf.mul(plain[folded], scalar);
    if (folded && whole) plain[folded] = tf.mul(plain[folded], scale(adapter));
    const ones = space(shape).map(() => 1);
    return {
      ...(algorithm !== "ia3" && { alpha: tf.scalar(whole ? rank : scale(adapter) * rank) }),
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
