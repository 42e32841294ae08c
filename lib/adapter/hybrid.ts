/**
 * The route `hybrid`: one convolution forward and one backward, as without adapters, and the gradients of the factors
 * without a gradient of W′'s full size.
 *
 * - LoRA, DyLoRA, and LoHa as its LoRA of rank r²: through W′ = W + f·ΔW, factors through the bottleneck ({@link pair});
 * - with DoRA: the same for V = W + scale·ΔW, times its {@link stretch} on the output or the input;
 * - (IA)^3: W itself, times 1 + f·v on the output or the input.
 */
import * as tf from "@tensorflow/tfjs";
import { join } from "../algorithms/dylora.ts";
import type * as dylora from "../algorithms/dylora.ts";
import type { Factors } from "../algorithms/algorithm.ts";
import * as loha from "../algorithms/loha.ts";
import * as lora from "../algorithms/lora.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { convolve, inputGradient, kernelGradient } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { operation } from "../tensor/operation.ts";
import { stretch } from "./decompose.ts";
import type { View } from "./view.ts";

/** ΔW as `down` · `up`, for the algorithms whose it is. */
type Pair = lora.Factors;
const PAIRS: { readonly [name in AlgorithmName]?: (factors: Factors) => Pair } = {
  lora: (factors) => factors as lora.Factors,
  dylora: (factors) => join(factors as dylora.Factors),
  loha: (factors) => loha.lowRank(factors as loha.Factors),
};

/** What a hybrid pass reads: the frozen kernel `[...k, I, O]` and how it moves. */
interface Frozen {
  kernel: tf.Tensor;
  geometry: Geometry;
}

/**
 * y = op(x; W′); dx through W′; with h = op(x; down) and g = f · dy · upᵀ: d up = f · hᵀ · dy, d down = the kernel
 * gradient of g.
 *
 * W′ is made again for dx rather than kept: k·I·r·O multiply-adds, against a kernel held through the step.
 */
function pair(x: tf.Tensor, { kernel, geometry }: Frozen, factors: Pair, f: number): tf.Tensor {
  const { bornDown, bornUp } = factors;
  const merged = (down: tf.Tensor, up: tf.Tensor) => {
    const birth = bornUp && { bornDown, bornUp: tf.mul(bornUp, f) };
    return tf.add(kernel, lora.delta({ down, up: tf.mul(up, f), ...birth }));
  };
  return operation(
    { x, down: factors.down, up: factors.up },
    ({ x, down, up }) => convolve(x, merged(down, up), geometry),
    {
      x: (dy, { x, down, up }) => inputGradient(dy, merged(down, up), x.shape, geometry),
      down: (dy, { x, down, up }) =>
        kernelGradient(
          x,
          inputGradient(dy, tf.mul(up, f), [...dy.shape.slice(0, -1), up.shape[0]]),
          down.shape,
          geometry,
        ),
      up: (dy, { x, down, up }) =>
        tf.mul(kernelGradient(convolve(x, down, geometry), dy, up.shape), f),
    },
  );
}

/** op(x; W ⊙ c) for numbers of the outputs, `[1, O]`, or of the inputs, `[I, 1]`: they multiply activations. */
function channelwise(
  x: tf.Tensor,
  c: tf.Tensor,
  move: (x: tf.Tensor) => tf.Tensor,
  onInput: boolean,
): tf.Tensor {
  const channels = tf.reshape(c, [-1]);
  return onInput ? move(tf.mul(x, channels)) : tf.mul(move(x), channels);
}

/** op(x; W′) of one adapter that has this route, at strength s. */
export function hybrid(x: tf.Tensor, frozen: Frozen, view: View, strength: number): tf.Tensor {
  const { adapter: { algorithm, dora, factors: { scalar, magnitude } }, factors, scale } = view;
  if (algorithm === "ia3") {
    const vector = factors.vector!, onInput = vector.shape[0] !== 1;
    const c = tf.add(tf.mul(vector, scale * strength), 1);
    return channelwise(x, c, (x) => convolve(x, frozen.kernel, frozen.geometry), onInput);
  }
  const own = PAIRS[algorithm]!(factors);
  const learned = { ...own, up: scalar ? tf.mul(own.up, scalar) : own.up };
  if (!dora) return pair(x, frozen, learned, scale * strength);
  const V = tf.add(frozen.kernel, tf.mul(lora.delta(learned), scale));
  const c = stretch(V, magnitude!, dora, strength);
  return channelwise(x, c, (x) => pair(x, frozen, learned, scale), dora === "input");
}
