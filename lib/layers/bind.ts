/** An algorithm's verbs as one namespace: what `mod.ts` exports as `lora`, `loha`, and the others. */
import type * as tf from "@tensorflow/tfjs";
import type {
  Algorithm,
  Cost,
  CostOptions,
  Factors,
  InitOptions,
} from "../algorithms/algorithm.ts";
import type { AlgorithmName } from "../algorithms/table.ts";
import { type Adapter, type AdapterOptions, create, dispose } from "../adapter/adapter.ts";
import type { Shape } from "../tensor/shape.ts";
import { attach, type AttachOptions } from "./attach.ts";
import { createFor } from "./born.ts";
import { anatomy, type Kind } from "./host.ts";
import { adaptModel, type AttachedModel, type ModelOptions } from "./model.ts";
import { type Attached, attachedTo } from "./site.ts";

/** What a layer is given besides the rank. */
export type LayerOptions = AdapterOptions & AttachOptions;

/** The verbs of an algorithm that has a rank. */
export interface Ranked<F extends Factors> extends Algorithm<F> {
  /**
   * A new adapter on a convolution (Conv1D, Conv2D, Conv3D, DepthwiseConv2D), which computes what it did.
   *
   * @throws {TypeError} for another kind of layer, one that is not built, or one that has such an adapter
   * @throws {RangeError} for a rank above the layer's largest; nothing is changed in either case
   */
  conv(layer: tf.layers.Layer, rank: number, options?: LayerOptions): Attached;
  /** The same on a Dense layer. */
  linear(layer: tf.layers.Layer, rank: number, options?: LayerOptions): Attached;
  /** A new adapter on every chosen layer of a model, which computes what it did. */
  model(model: tf.LayersModel, rank: number, options?: ModelOptions): AttachedModel;
  /** A new adapter as a value, for a kernel `[kh, kw, I/G, O]` or `[I, O]`. */
  create(shape: Shape, rank: number, options?: AdapterOptions): Adapter<F>;
}

/** The verbs of an algorithm without a rank. */
export interface Rankless<F extends Factors> extends Pick<Algorithm<F>, "delta" | "bypass"> {
  /** A new adapter on a convolution, which computes what it did. */
  conv(layer: tf.layers.Layer, options?: LayerOptions): Attached;
  /** The same on a Dense layer. */
  linear(layer: tf.layers.Layer, options?: LayerOptions): Attached;
  /** A new adapter on every chosen layer of a model, which computes what it did. */
  model(model: tf.LayersModel, options?: ModelOptions): AttachedModel;
  /** A new adapter as a value, for a kernel `[kh, kw, I/G, O]` or `[I, O]`. */
  create(shape: Shape, options?: AdapterOptions): Adapter<F>;
  /** Factors of a kernel `[...k, I/G, O]`, born so that ΔW = 0. */
  init(shape: Shape, options?: InitOptions): F;
  /** Parameters and multiply-adds, counted from shapes alone. */
  cost(shape: Shape, options?: CostOptions): Cost;
}

/** A new adapter on a layer of one family. */
function adaptLayer(
  family: Kind["family"],
  algorithm: AlgorithmName,
  layer: tf.layers.Layer,
  rank: number,
  { strength, route, ...options }: LayerOptions = {},
): Attached {
  if (anatomy(layer).kind.family !== family) {
    const verb = family === "conv" ? "linear" : "conv";
    throw new TypeError(
      `Cannot attach ${algorithm}.${family} to "${layer.name}" as it is for ` +
        `${family === "conv" ? "convolutions" : "Dense layers"}: current class is ` +
        `${layer.getClassName()}, use ${algorithm}.${verb}`,
    );
  }
  if (attachedTo(layer).some(({ adapter }) => adapter.algorithm === algorithm)) {
    throw new TypeError(
      `Cannot attach a new ${algorithm} to "${layer.name}" as it must have none: current layer has one, ` +
        "detach it first, or stack another with attach(layer, adapter)",
    );
  }
  const adapter = createFor(layer, algorithm, rank, options);
  try {
    return attach(layer, adapter, { strength, route, seed: options.seed });
  } finally {
    dispose(adapter);
  }
}

/** The verbs of an algorithm that has a rank. */
export function ranked<F extends Factors>(name: AlgorithmName, algorithm: Algorithm<F>): Ranked<F> {
  const { init, delta, bypass, cost } = algorithm;
  return {
    conv: (layer, rank, options) => adaptLayer("conv", name, layer, rank, options),
    linear: (layer, rank, options) => adaptLayer("linear", name, layer, rank, options),
    model: (model, rank, options) => adaptModel(name, model, rank, options),
    create: (shape, rank, options) => create(name, shape, rank, options) as Adapter<F>,
    init,
    delta,
    bypass,
    cost,
  };
}

/** The verbs of an algorithm without a rank. */
export function rankless<F extends Factors>(
  name: AlgorithmName,
  algorithm: Algorithm<F>,
): Rankless<F> {
  const { init, delta, bypass, cost } = algorithm;
  return {
    conv: (layer, options) => adaptLayer("conv", name, layer, 0, options),
    linear: (layer, options) => adaptLayer("linear", name, layer, 0, options),
    model: (model, options) => adaptModel(name, model, 0, options),
    create: (shape, options) => create(name, shape, 0, options) as Adapter<F>,
    init: (shape, options) => init(shape, 0, options),
    delta,
    bypass,
    cost: (shape, options) => cost(shape, 0, options),
  };
}
