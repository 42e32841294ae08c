/** Which layers of a model take an adapter, and what they are called. */
import type * as tf from "@tensorflow/tfjs";
import { hostOf, kindOf } from "./host.ts";

/** A name, a pattern that a name matches, or a question about the layer. */
export type Where = string | RegExp | ((layer: tf.layers.Layer, name: string) => boolean);

/**
 * The layers of a model by name, in order; a layer of a model inside the model as `inner.name`.
 *
 * A layer that several models share stands where it comes first.
 */
export function namedLayers(
  model: tf.LayersModel,
  prefix = "",
  named: Map<string, tf.layers.Layer> = new Map(),
): Map<string, tf.layers.Layer> {
  const seen = new Set(named.values());
  for (const layer of model.layers) {
    if (seen.has(layer)) continue;
    const name = prefix + layer.name;
    if (hostOf(layer).layers) namedLayers(layer as unknown as tf.LayersModel, `${name}.`, named);
    else named.set(name, layer);
  }
  return named;
}

/** Whether a layer is meant. */
export function matches(where: Where, layer: tf.layers.Layer, name: string): boolean {
  if (typeof where === "string") return where === name || where === layer.name;
  return where instanceof RegExp ? where.test(name) : where(layer, name);
}

/** The layers of a model that can take an adapter and are meant, by name. */
export function select(
  model: tf.LayersModel,
  { where, exclude }: { where?: Where; exclude?: Where } = {},
): Map<string, tf.layers.Layer> {
  const chosen = [...namedLayers(model)].filter(([name, layer]) =>
    kindOf(layer) && (where === undefined || matches(where, layer, name)) &&
    !(exclude !== undefined && matches(exclude, layer, name))
  );
  return new Map(chosen);
}
