/**
 * What tf.layers' models must know of adapters, taught once: three methods of the model class, each calling the
 * one it replaces.
 *
 * - A model collects what it trains when it is compiled. One that holds an adapted layer collects it again
 *   before it trains, so that an adapter may come and go at any time.
 * - A saved model has the weights that it computes with, W′, and none that another program would not know
 *   (Keras saves its own LoRA so): it opens anywhere and predicts the same. The adapter alone is saved with
 *   `lib/files`.
 */
import * as tf from "@tensorflow/tfjs";
import { anatomy, type Host } from "./host.ts";
import { factorsOf, mergedBias, mergedKernel, sites, touched } from "./site.ts";

/** The parts of a model that its class keeps to itself in the types. */
interface Model {
  readonly layers: Host[];
  readonly trainableWeights: unknown[];
  collectedTrainableWeights?: unknown[];
  checkTrainableWeightsConsistency(): void;
  makeTrainFunction(): unknown;
  getNamedWeights(config?: tf.io.SaveConfig): { name: string; tensor: tf.Tensor }[];
  save(target: tf.io.IOHandler | string, config?: tf.io.SaveConfig): Promise<tf.io.SaveResult>;
}

const known = new WeakSet<object>();

/** All layers of a model, those of the models inside it too. */
export function layersOf(model: { readonly layers: readonly Host[] }): Host[] {
  return model.layers.flatMap((
    layer,
  ) => (layer.layers ? layersOf({ layers: layer.layers }) : [layer]));
}

/** Teaches a class of models (TensorFlow.js's own, or that of another copy of it) once. */
export function teach(models: object = tf.LayersModel.prototype): void {
  if (known.has(models)) return;
  known.add(models);
  const model = models as Model;
  const { checkTrainableWeightsConsistency, makeTrainFunction, getNamedWeights, save } = model;
  const collect = (model: Model) => {
    if (model.collectedTrainableWeights && layersOf(model).some((layer) => touched.has(layer))) {
      model.collectedTrainableWeights = model.trainableWeights;
    }
  };
  const made = new WeakMap<object, tf.Tensor[]>();

  model.checkTrainableWeightsConsistency = function (this: Model) {
    collect(this);
    checkTrainableWeightsConsistency.call(this);
  };
  model.makeTrainFunction = function (this: Model) {
    collect(this);
    return makeTrainFunction.call(this);
  };
  model.getNamedWeights = function (this: Model, config) {
    const adapted = new Map<tf.Tensor, () => tf.Tensor | undefined>();
    const factors = new Set<tf.Tensor>();
    for (const host of layersOf(this)) {
      const site = sites.get(host), layer = host as unknown as tf.layers.Layer;
      if (!site) continue;
      const { variable, bias } = anatomy(layer);
      adapted.set(variable.read(), () => mergedKernel(layer, site));
      if (bias) adapted.set(bias.read(), () => mergedBias(layer, site));
      for (const factor of factorsOf(site)) factors.add(factor);
    }
    const weights = getNamedWeights.call(this, config).filter(({ tensor }) => !factors.has(tensor));
    return weights.map(({ name, tensor }) => {
      const merged = adapted.get(tensor)?.();
      if (!merged) return { name, tensor };
      made.set(this, [...made.get(this) ?? [], merged]);
      return { name, tensor: merged };
    });
  };
  model.save = async function (this: Model, target, config) {
    try {
      return await save.call(this, target, config);
    } finally {
      tf.dispose(made.get(this) ?? []);
      made.delete(this);
    }
  };
}
