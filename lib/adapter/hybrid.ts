/**
 * The route `hybrid`: one convolution forward and one backward, as without adapters, and the gradients of the factors
 * without a gradient of W′'s full size.
 *
 * - LoRA, DyLoRA, and LoHa as its LoRA of rank r²: W′ = W + f·down·up;
 * - with DoRA on the output: W′ = c ⊙ (W + f·down·up), c the {@link stretched} lengths;
 * - (IA)^3 on the output: W′ = c ⊙ W, c = 1 + f·v;
 * - LoKr: W′ = W + f·w1 ⊗ w2, both of them whole;
 * - DoRA and (IA)^3 on the input: the same numbers multiply the input, which then has its gradient from TensorFlow.js.
 */
import * as tf from "@tensorflow/tfjs";
import { join } from "../algorithms/dylora.ts";
import type * as dylora from "../algorithms/dylora.ts";
import type { Factors } from "../algorithms/algorithm.ts";
import * as loha from "../algorithms/loha.ts";
import * as lokr from "../algorithms/lokr.ts";
import * as lora from "../algorithms/lora.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { apart } from "../tensor/apart.ts";
import { convolve, inputGradient, kernelGradient } from "../tensor/convolve.ts";
import { COLUMN_DOT, columnDot, hasKernel, multiplyAdd } from "../tensor/fused.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { kronecker } from "../tensor/kronecker.ts";
import { type Gradients, type Named, operation } from "../tensor/operation.ts";
import { type Axis, EPSILON, norms } from "./decompose.ts";
import type { View } from "./view.ts";

/** ΔW as `down` · `up`, for the algorithms whose it is. */
type Pair = lora.Factors;
const PAIRS: { readonly [name in AlgorithmName]?: (factors: Factors) => Pair } = {
  lora: (factors) => factors as lora.Factors,
  dylora: (factors) => join(factors as dylora.Factors),
  loha: (factors) => loha.lowRank(factors as loha.Factors),
};

/** The factors of a pair that there are, and nothing else. */
function present({ down, up, core, bornDown, bornUp }: Pair): Pair {
  return { down, up, ...(core && { core }), ...(bornDown && { bornDown, bornUp }) };
}

/** What a hybrid pass reads: the frozen kernel `[...k, I, O]`, how it moves, and its bias. */
interface Frozen {
  kernel: tf.Tensor;
  geometry: Geometry;
  bias?: tf.Tensor;
}

/** f·x. */
const times = (x: tf.Tensor, f: number) => f === 1 ? x : tf.mul(x, f);

/** W + f·ΔW. */
function merged(kernel: tf.Tensor, factors: Pair, f: number): tf.Tensor {
  const { down, up, core, bornDown, bornUp } = factors;
  const base = bornDown ? multiplyAdd(bornDown, tf.mul(bornUp!, -f), kernel) : kernel;
  return multiplyAdd(core ? lora.lowRank({ down, up, core }).down : down, times(up, f), base);
}

/** h = op(x; down), through the core if there is one: differentiable in the factors, as x has its gradient through W′. */
function bottleneck(x: tf.Tensor, { down, core }: Pair, geometry: Geometry): tf.Tensor {
  const own = core ? {} : geometry;
  const h = operation({ down }, ({ down }) => convolve(x, down, own), {
    down: (dy, { down, x }) => kernelGradient(x, dy, down.shape, own),
  }, { more: { x } });
  return core ? convolve(h, core, geometry) : h;
}

/** What a pass through W′ differentiates in besides x, what else it keeps, and how. */
interface Through {
  inputs: Named;
  /** W′ from what is kept, the frozen `kernel` and x among it */
  build(kept: Named): tf.Tensor;
  gradients: Gradients<Named, Named>;
  more?: Named;
  output?: boolean;
}

/**
 * y = op(x; W′) + b, where dx goes through W′ too.
 *
 * W′ is held through the step where it is no more than twice x, which the step holds anyway; a larger one is made again.
 */
function through(
  x: tf.Tensor,
  { kernel, geometry, bias }: Frozen,
  { inputs, build, gradients, more, output }: Through,
): tf.Tensor {
  const kept: Named = { kernel, ...more };
  return operation(
    { x, ...inputs },
    (inputs, made) => {
      const W = build({ ...inputs, ...kept });
      if (W.size <= 2 * x.size) made.W = W;
      return convolve(x, W, geometry, bias);
    },
    {
      x: (dy, kept) => inputGradient(dy, kept.W ?? build(kept), kept.x.shape, geometry),
      ...gradients,
    },
    { more: kept, output },
  );
}

/** The parts of W′ that a pass may have: a pair of factors at a scale, and a number for each output, `[1, O]`. */
interface Parts {
  pair?: Pair;
  f: number;
  c?: tf.Tensor;
}

/**
 * y = op(x; W′) + b with W′ = c ⊙ (W + f·down·up).
 *
 * With h = op(x; down): dh = f·dy·(c ⊙ up)ᵀ, which `down` has its gradient from; d up = f·c ⊙ hᵀ·dy;
 * dc = Σ dy ⊙ (y − b) / c over all places.
 */
function whole(x: tf.Tensor, frozen: Frozen, { pair, f, c }: Parts): tf.Tensor {
  const { geometry, bias } = frozen;
  const spread = (x: tf.Tensor, c?: tf.Tensor) => times(c ? tf.mul(x, c) : x, f);
  return through(x, frozen, {
    inputs: {
      ...(pair && { h: bottleneck(x, pair, geometry), up: pair.up }),
      ...(c && { c }),
    },
    build: ({ kernel, c, ...kept }) => {
      const V = pair ? merged(kernel, kept as Pair, f) : kernel;
      return c ? tf.mul(V, c) : V;
    },
    gradients: {
      h: (dy, { h, up, c }) => inputGradient(dy, spread(up, c), h.shape),
      up: (dy, { h, up, c }) => spread(kernelGradient(h, dy, up.shape), c),
      c: (dy, { c, bias }, y) => tf.div(tf.reshape(columnDot(dy, y, bias), c.shape), c),
    },
    more: { ...pair, ...(bias && { bias }) },
    output: c !== undefined,
  });
}

/**
 * y = op(x; W + f·w1 ⊗ w2) + b.
 *
 * With x and dy as blocks of channels, h[b] = op(x[b]; w2) and g[b] = Σ_a w1[b, a] · dy[a]: dw1[b, a] = f·⟨h[b], dy[a]⟩, and dw2
 * is f times the kernel's gradient of all x[b] with their g[b]. Blocks are made when the gradients are, and not held.
 */
function blockwise(
  x: tf.Tensor,
  frozen: Frozen,
  { w1, w2, f }: { w1: tf.Tensor; w2: tf.Tensor; f: number },
): tf.Tensor {
  const { geometry } = frozen, [im, om] = w1.shape;
  const rows = (blocks: tf.Tensor, m: number) => tf.reshape(blocks, [m, -1]);
  // I_m examples in the place of each, of the channels of one block
  const examples = (blocks: tf.Tensor, { shape: [N, ...rest] }: tf.Tensor, m: number) =>
    tf.reshape(blocks, [im * N, ...rest.slice(0, -1), rest[rest.length - 1] / m]);
  return through(x, frozen, {
    inputs: { w1, w2 },
    build: ({ kernel, w1, w2 }) => tf.add(kernel, kronecker(times(w1, f), w2)),
    gradients: {
      w1: (dy, { x, w2 }) => {
        const h = convolve(examples(apart(x, im), x, im), w2, geometry);
        return times(tf.matMul(rows(h, im), rows(apart(dy, om), om), false, true), f);
      },
      w2: (dy, { x, w1, w2 }) => {
        const g = examples(tf.matMul(w1, rows(apart(dy, om), om)), dy, om);
        return times(kernelGradient(examples(apart(x, im), x, im), g, w2.shape, geometry), f);
      },
    },
  });
}

/** op(x; W′) + b for numbers of the outputs, `[1, O]`, or of the inputs, `[I, 1]`, by multiplying activations. */
function channelwise(
  x: tf.Tensor,
  frozen: Frozen,
  { c, ...rest }: Required<Pick<Parts, "c">> & Parts,
): tf.Tensor {
  const channels = tf.reshape(c, [-1]);
  if (c.shape[0] !== 1) return whole(tf.mul(x, channels), frozen, rest);
  const y = tf.mul(whole(x, { ...frozen, bias: undefined }, rest), channels);
  return frozen.bias ? tf.add(y, frozen.bias) : y;
}

/**
 * c = s · (m / (n + ε) − 1) + 1 with n = ‖V‖ of V = W + f·ΔW: what DoRA multiplies V by.
 *
 * dm = s·dc / (n + ε); dn = −m·dm / (n + ε); dV = V ⊙ dn / n, from which the factors have theirs at once.
 */
function stretched(
  { kernel }: Frozen,
  pair: Pair,
  magnitude: tf.Tensor,
  { axis, f, strength }: { axis: Axis; f: number; strength: number },
): tf.Tensor {
  const { down, up, core } = pair, trained = core ? [down, up, core] : [down, up];
  const names = Object.keys(pair), tensors = Object.values(pair) as tf.Tensor[];
  const lengths = (V: tf.Tensor) =>
    axis === "input" ? norms(V, axis) : tf.reshape(tf.sqrt(columnDot(V, V)), [1, -1]);
  const operation = tf.customGrad((...parameters) => {
    const save = parameters.pop() as tf.GradSaveFunc;
    const n = lengths(merged(kernel, pair, f)), ratio = tf.div(magnitude, tf.add(n, EPSILON));
    save([kernel, magnitude, n, ...tensors]);
    return {
      value: tf.add(tf.mul(tf.sub(ratio, 1), strength), 1),
      gradFunc: (dc: tf.Tensor, [kernel, m, n, ...saved]: tf.Tensor[]) => {
        const kept = Object.fromEntries(names.map((name, i) => [name, saved[i]])) as Pair;
        const l = tf.add(n, EPSILON), dm = tf.div(times(dc, strength), l);
        const dn = tf.neg(tf.div(tf.mul(m, dm), l));
        const dV = tf.mul(merged(kernel, kept, f), times(tf.div(dn, n), f));
        const { down, up, core } = lora.gradient(kept, dV);
        return [dm, down, up, ...(core ? [core] : [])];
      },
    };
  });
  return operation(magnitude, ...trained);
}

/** Below this, dividing by a number of the channels would lose what it was multiplied into. */
const SMALL = 1 / 64;

/** Whether a gradient may be had from the output by dividing by c: where there is one kernel for it, and no c near 0. */
function divides(c: tf.Tensor): boolean {
  return c.shape[0] === 1 && hasKernel(COLUMN_DOT) &&
    c.dataSync().every((number) => Math.abs(number) >= SMALL);
}

/** op(x; W′) + b of one adapter that has this route, at strength s. */
export function hybrid(x: tf.Tensor, frozen: Frozen, view: View, strength: number): tf.Tensor {
  const { adapter: { algorithm, dora, factors: { scalar, magnitude } }, factors, scale } = view;
  const channels = (c: tf.Tensor, rest: Parts) =>
    divides(c) ? whole(x, frozen, { ...rest, c }) : channelwise(x, frozen, { ...rest, c });
  if (algorithm === "ia3") {
    return channels(tf.add(times(factors.vector!, scale * strength), 1), { f: 1 });
  }
  if (algorithm === "lokr") {
    const { w1, w2 } = lokr.whole(factors as lokr.Factors);
    const own = { w1: scalar ? tf.mul(w1, scalar) : w1, w2 };
    return blockwise(x, frozen, { ...own, f: scale * strength });
  }
  const own = present(PAIRS[algorithm]!(factors));
  const pair = scalar ? { ...own, up: tf.mul(own.up, scalar) } : own;
  if (!dora) return whole(x, frozen, { pair, f: scale * strength });
  const stretch = { axis: dora, f: scale, strength };
  return channels(stretched(frozen, pair, magnitude!, stretch), { pair, f: scale });
}
