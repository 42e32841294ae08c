import type * as tf from "@tensorflow/tfjs";
import { hostOf, type LayerVariable } from "./host.ts";

/**
 * Keeps layers as they are while a model trains; the function returned undoes it, flag by flag.
 *
 * A frozen batch normalization also normalizes by what it has learnt, as in Keras 2: in training mode tf.layers'
 * would go on moving its averages, frozen or not.
 */
export function freeze(layers: readonly tf.layers.Layer[]): () => void {
  const undo = layers.map((layer) => {
    const host = hostOf(layer), { trainable_ } = host;
    const weights = host._trainableWeights.map((weight): [LayerVariable, boolean] => [
      weight,
      weight.trainable,
    ]);
    host.trainable = false;
    if (layer.getClassName() === "BatchNormalization") {
      const { call } = host;
      host.call = (inputs, options) => call.call(host, inputs, { ...options, training: false });
    }
    return () => {
      if (layer.getClassName() === "BatchNormalization") delete (host as { call?: unknown }).call;
      for (const [weight, trainable] of weights) weight.trainable = trainable;
      host.trainable_ = trainable_;
    };
  });
  return () => undo.forEach((restore) => restore());
}

/** Lets the factors in a model train that its owner has frozen as a whole; the function returned undoes it. */
export function wake(model: tf.LayersModel): () => void {
  const hosts = [hostOf(model), hostOf(model).model].filter((host) => host !== undefined);
  const flags = hosts.map(({ trainable_ }) => trainable_);
  for (const host of hosts) host.trainable_ = true;
  return () => hosts.forEach((host, i) => host.trainable_ = flags[i]);
}
