/**
 * A layer and its adapters in one pass: y = op(x; W) + Σ s · scale · op(x; ΔW) + b + Σ s · Δb, by one of three routes.
 *
 * - `bypass`, the activation side: the base as it is, and each adapter's factors beside it;
 * - `rebuild`, the weight side: W′ is built and differentiated as a kernel of full size;
 * - `hybrid`, of one adapter alone: forward and input gradient as without an adapter, and the gradients of its factors
 *   without one of full size (`hybrid.ts`).
 *
 * All three are equal but for rounding; `route.ts` takes the one of least work.
 */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { convolve } from "../tensor/convolve.ts";
import type { Geometry } from "../tensor/geometry.ts";
import { stretch } from "./decompose.ts";
import { hybrid } from "./hybrid.ts";
import { adapted, adaptedBias, scaled } from "./merge.ts";
import type { Route } from "./route.ts";
import type { View } from "./view.ts";

/** An adapter in a pass, and how much of it. */
export interface Part {
  view: View;
  strength: number;
}

/** What a layer is to its adapters: its kernel and how that moves. */
export interface Layer {
  /** `[...k, I/G, O]`; of a normalization γ `[C]`, with what it has normalized for x */
  kernel: tf.Tensor;
  geometry: Geometry;
  /** `[O]` */
  bias?: tf.Tensor;
}

/** op(x; W) + b: a convolution, or for a normalization's vector x̂ ⊙ γ + β. */
function operate(x: tf.Tensor, { kernel, geometry, bias }: Layer): tf.Tensor {
  if (kernel.rank > 1) return convolve(x, kernel, geometry, bias);
  const y = tf.mul(x, kernel);
  return bias ? tf.add(y, bias) : y;
}

/** b + Σ (b′ − b) over the parts; undefined where there is none. */
export function rebuiltBias(
  bias: tf.Tensor | undefined,
  parts: readonly Part[],
): tf.Tensor | undefined {
  return parts.reduce(
    (sum, { view, strength }) => adaptedBias(sum, view, strength),
    bias,
  );
}

/** W + Σ (W′ − W) over the parts, each told from the layer's own W. */
export function rebuilt(kernel: tf.Tensor, parts: readonly Part[]): tf.Tensor {
  return tf.tidy(() => {
    const kernels = parts.map(({ view, strength }) => adapted(kernel, view, strength));
    if (kernels.length === 1) return kernels[0];
    return kernels.reduce((sum, next) => tf.add(sum, tf.sub(next, kernel)), kernel);
  });
}

/** s · scale · scalar · mask · op(x; ΔW) of one part, with its dropout. */
function aside(
  x: tf.Tensor,
  { kernel, geometry }: Layer,
  part: Part,
  output: tf.Tensor,
): tf.Tensor {
  const { view: { adapter, factors, scale, mask, dropout }, strength } = part;
  const { algorithm } = rowOf(adapter.algorithm), { triplets, factors: { scalar } } = adapter;
  const y = algorithm.bypass(factors, x, geometry, { base: kernel, output, strength, triplets });
  const learned = scalar ? tf.mul(y, scalar) : y;
  const masked = mask ? tf.mul(learned, mask) : learned;
  const dropped = dropout > 0 ? tf.dropout(masked, dropout) : masked;
  const factor = algorithm.adapt ? 1 : scale * strength;
  return factor === 1 ? dropped : tf.mul(dropped, factor);
}

/**
 * What DoRA adds to the base's output: c · op(x; V) − op(x; W) with c the {@link stretch} of V.
 *
 * c belongs to channels, so it multiplies the output, or the input before the convolution; V itself is built
 * for its lengths only.
 */
function decomposed(x: tf.Tensor, layer: Layer, part: Part, output: tf.Tensor): tf.Tensor {
  const { view, strength } = part, { dora, factors: { magnitude } } = view.adapter;
  const V = tf.add(layer.kernel, scaled(view, layer.kernel));
  const c = tf.reshape(stretch(V, magnitude!, dora as "output" | "input", strength), [-1]);
  const whole = { view, strength: 1 };
  if (dora === "output") {
    return tf.sub(tf.mul(tf.add(output, aside(x, layer, whole, output)), c), output);
  }
  const { geometry, kernel } = layer, stretched = tf.mul(x, tf.tile(c, [geometry.groups ?? 1]));
  const base = convolve(stretched, kernel, geometry);
  return tf.sub(tf.add(base, aside(stretched, layer, whole, base)), output);
}

/** Whether a part reads the base's output, which then must be without its bias. */
const readsOutput = ({ view: { adapter: { algorithm, dora } } }: Part) =>
  Boolean(dora) || rowOf(algorithm).relative;

function bypass(x: tf.Tensor, layer: Layer, parts: readonly Part[]): tf.Tensor {
  const bare = parts.some(readsOutput), { bias } = layer;
  const output = operate(x, bare ? { ...layer, bias: undefined } : layer);
  const added = parts.map((part) =>
    part.view.adapter.dora ? decomposed(x, layer, part, output) : aside(x, layer, part, output)
  );
  const y = added.reduce((sum, next) => tf.add(sum, next), output);
  return bare && bias ? tf.add(y, bias) : y;
}

function rebuild(x: tf.Tensor, layer: Layer, parts: readonly Part[]): tf.Tensor {
  return operate(x, { ...layer, kernel: rebuilt(layer.kernel, parts) });
}

/** Whether a gradient may be taken of what is computed now: TensorFlow.js knows, but not in its types. */
export function taped(): boolean {
  return (tf.engine() as unknown as { isTapeOn(): boolean }).isTapeOn();
}

const ROUTES = {
  bypass,
  rebuild,
  // without a gradient to be taken the factors have no use for their bottleneck
  hybrid: (x: tf.Tensor, layer: Layer, parts: readonly Part[]) =>
    taped() ? hybrid(x, layer, parts[0].view, parts[0].strength) : rebuild(x, layer, parts),
};

/**
 * The layer's output before its activation, adapters included.
 *
 * @param x `[N, ...space, I]`, dense `[..., I]`
 * @param parts adapters whose shape is the kernel's
 * @returns `[N, ...out, O]`; differentiable in x, in every factor and, but for `hybrid`, in the kernel
 */
export function forward(
  x: tf.Tensor,
  layer: Layer,
  parts: readonly Part[],
  route: Route,
): tf.Tensor {
  return tf.tidy(() => {
    const whole = { ...layer, bias: rebuiltBias(layer.bias, parts) };
    return parts.length === 0 ? operate(x, whole) : ROUTES[route](x, whole, parts);
  });
}
