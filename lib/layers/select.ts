/** Which layers of a model take an adapter, and what they are called. */
import type * as tf from "@tensorflow/tfjs";
import { glob, isGlob } from "../adapter/match.ts";
import { type Module, modulesOf } from "../adapter/modules.ts";
import type { Preset } from "../adapter/presets.ts";
import { type NetworkSettings, type Part, pick, type Settled } from "../adapter/rules.ts";
import { anatomy, hostOf, kindOf } from "./host.ts";

/**
 * Layers by name (`head`), by a glob on the name (`block?_*`; in a model inside the model `*` stops at the dot and `**`
 * does not), by class (`Conv2D`), by a pattern that the name matches, by a question about the layer, or by several.
 */
export type Where =
  | string
  | RegExp
  | ((layer: tf.layers.Layer, name: string) => boolean)
  | readonly Where[];

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

/** How a text means a layer, from the most general on. */
const WAYS: readonly ((text: string, layer: tf.layers.Layer, name: string) => boolean)[] = [
  (text, layer) => text === layer.getClassName(),
  (text, layer, name) => isGlob(text) && (glob(name, text) || glob(layer.name, text)),
  (text, layer, name) => text === name || text === layer.name,
];

/** Whether a layer is meant. */
export function matches(where: Where, layer: tf.layers.Layer, name: string): boolean {
  if (typeof where === "string") return WAYS.some((means) => means(where, layer, name));
  // not `test`, which goes on where it last stopped if the pattern is global
  if (where instanceof RegExp) return name.search(where) >= 0;
  return typeof where === "function"
    ? where(layer, name)
    : where.some((one) => matches(one, layer, name));
}

/** What a record says of a layer: first by its class, then by globs, last by its name. */
export function meant<T>(
  record: Readonly<Record<string, T>>,
  layer: tf.layers.Layer,
  name: string,
): T[] {
  const entries = Object.entries(record);
  return WAYS.flatMap((means) =>
    entries.filter(([text]) => means(text, layer, name)).map(([, value]) => value)
  );
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

/** What PyTorch calls the classes of tf.layers: presets are written in its names. */
const CLASSES: Record<string, string> = {
  Dense: "Linear",
  Conv1D: "Conv1d",
  Conv2D: "Conv2d",
  Conv3D: "Conv3d",
  DepthwiseConv2D: "Conv2d",
  GroupConv2D: "Conv2d",
  Conv2DTranspose: "ConvTranspose2d",
  Conv3DTranspose: "ConvTranspose3d",
  LayerNormalization: "LayerNorm",
  BatchNormalization: "BatchNorm2d",
};

/** LyCORIS adapts linear layers and convolutions, and none of these. */
const PASSED_BY = ["Embedding", "ConvTranspose2d", "ConvTranspose3d"];

/** A model as a list of modules; what its layers are in is told from dots in their names. */
function modulesIn(model: tf.LayersModel): Module[] {
  return modulesOf([...namedLayers(model)].map(([path, layer]) => {
    const own = layer.getClassName(), name = CLASSES[own] ?? own, family = kindOf(layer)?.family;
    return family && family !== "norm" && !PASSED_BY.includes(name)
      ? { path, class: name, kernel: anatomy(layer).shape }
      : { path, class: name };
  }));
}

/** The parts of a preset that a model is judged by: both halves of a diffusion model where it has lists for them. */
function partsOf(preset: Preset): Part[] {
  const halves = ["unet", "text_encoder"] as const;
  const split = halves.some((half) =>
    `${half}_target_module` in preset || `${half}_target_name` in preset
  );
  return split && !preset.target_module && !preset.target_name ? [...halves] : ["network"];
}

/** What a preset gives the layers of a model that it picks, by name. */
export function pickLayers(
  model: tf.LayersModel,
  preset: Preset,
  network: NetworkSettings,
): Map<string, Settled> {
  const modules = modulesIn(model);
  const picked = partsOf(preset).flatMap((part) => pick(modules, preset, network, part));
  // the first one counts
  return new Map(picked.reverse().map(({ module, settings }) => [module.path, settings]));
}
