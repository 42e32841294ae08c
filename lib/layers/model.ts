/** Adapters on a whole model: chosen layers, each with its own settings, as one thing. */
import type * as tf from "@tensorflow/tfjs";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import {
  type Adapter,
  type AdapterOptions,
  dispose,
  optionsOf,
  parameters,
} from "../adapter/adapter.ts";
import { save, type SaveOptions } from "../files/adapters.ts";
import { subseed } from "../tensor/random.ts";
import { isWide, type Shape } from "../tensor/shape.ts";
import { attach, type AttachOptions, checkAttach } from "./attach.ts";
import { createFor } from "./born.ts";
import { freeze, wake } from "./freeze.ts";
import { anatomy } from "./host.ts";
import { teach } from "./models.ts";
import { namedLayers, select, type Where } from "./select.ts";
import { type Attached, attachedTo } from "./site.ts";

/** What one layer is given. */
export interface LayerSettings extends AdapterOptions, AttachOptions {
  /** 0 leaves the layer out */
  rank?: number;
  /** another algorithm than the model's */
  algorithm?: AlgorithmName;
}

/** What a model is given. */
export interface ModelOptions extends AdapterOptions, AttachOptions {
  /** the rank of kernels wider than a point, 0 to leave them out; default: the rank of all others */
  conv?: number;
  /** the alpha of kernels wider than a point; default: as given for all */
  convAlpha?: number;
  /** the layers to adapt; default: every layer that can be */
  where?: Where;
  /** layers not to adapt */
  exclude?: Where;
  /** settings of single layers by name, over all others */
  overrides?: Record<string, LayerSettings>;
  /** keep every layer without an adapter as it is, batch normalization too; default true */
  freeze?: boolean;
}

/** The adapters of a model. */
export interface AttachedModel {
  readonly model: tf.LayersModel;
  /** by the name of their layer */
  readonly attached: ReadonlyMap<string, Attached>;
  /** the live values, by the name of their layer */
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** s of all of them: read from the first, set on every one */
  strength: number;
  /** DyLoRA, T-LoRA: how many ranks all of them use; undefined: all, which of DyLoRA are drawn in training */
  active?: number;
  /** how many numbers are trained */
  readonly parameters: number;
  /** writes every W′ into its layer and detaches */
  merge(): void;
  /** takes every adapter off; the model is what it was, bit for bit */
  detach(options?: { keep?: boolean }): Map<string, Adapter> | undefined;
  /** writes the adapters as a safetensors file, in the kohya / LyCORIS dialect unless asked otherwise */
  save(path: string, options?: SaveOptions): Promise<void>;
}

/**
 * The settings of one layer: its own over the model's, conv's over the rest on a wide kernel.
 *
 * A layer with another algorithm than the model's inherits what that algorithm reads too.
 */
function settingsOf(
  algorithm: AlgorithmName,
  rank: number,
  { conv = rank, convAlpha, ...options }: ModelOptions,
  name: string,
  shape: Shape,
): LayerSettings & { rank: number; algorithm: AlgorithmName } {
  const { where: _where, exclude: _exclude, overrides, freeze: _freeze, ...common } = options;
  // LyCORIS: a pointwise convolution has the linear rank, and the convolutions' where that is 0
  const wide = isWide(shape) || (shape.length > 2 && rank === 0), own = overrides?.[name];
  const settings = {
    algorithm,
    ...common,
    ...(isWide(shape) && convAlpha !== undefined && { alpha: convAlpha }),
    rank: wide ? conv : rank,
    seed: subseed(common.seed ?? 0, name),
  };
  const reads = [
    "algorithm",
    "rank",
    "strength",
    "route",
    ...optionsOf(own?.algorithm ?? algorithm),
  ];
  const inherited = Object.entries(settings).filter(([name]) =>
    !own?.algorithm || reads.includes(name)
  );
  return { ...Object.fromEntries(inherited) as typeof settings, ...own };
}

/** One layer's settings as its adapter's and its seat's. */
function split(
  { strength, route, rank: _rank, algorithm: _algorithm, ...options }: LayerSettings,
): {
  options: AdapterOptions;
  seat: AttachOptions;
} {
  return { options, seat: { strength, route, seed: options.seed } };
}

/** Puts a map of adapters on the layers of a model that have their names. All or none. */
export function attachAll(
  model: tf.LayersModel,
  adapters: ReadonlyMap<string, Adapter>,
  options: AttachOptions & { freeze?: boolean; seats?: ReadonlyMap<string, AttachOptions> } = {},
): AttachedModel {
  const layers = namedLayers(model), { freeze: frozen = true, seats, ...common } = options;
  // a file knows no dots in names
  const flat = new Map([...layers].map(([name, layer]) => [name.replaceAll(".", "_"), layer]));
  const pairs = [...adapters].map(([name, adapter]) => {
    const layer = layers.get(name) ?? flat.get(name);
    if (!layer) {
      throw new RangeError(
        `Cannot attach ${adapter.algorithm} to "${name}" as the model must have a layer of that name: ` +
          `current layers are ${[...layers.keys()].join(", ")}`,
      );
    }
    const seat = seats?.get(name) ?? common;
    checkAttach(layer, adapter, seat);
    return { name, layer, adapter, seat };
  });
  teach(Object.getPrototypeOf(Object.getPrototypeOf(model)));
  const attached = new Map(
    pairs.map(({ name, layer, adapter, seat }) => [name, attach(layer, adapter, seat)]),
  );
  const others = [...layers.values()].filter((layer) => attachedTo(layer).length === 0);
  const undo = [wake(model), frozen ? freeze(others) : () => {}];
  return group(model, attached, () => undo.forEach((restore) => restore()));
}

/** Attached adapters as one thing. */
function group(
  model: tf.LayersModel,
  attached: ReadonlyMap<string, Attached>,
  thaw: () => void,
): AttachedModel {
  const each = [...attached.values()];
  return {
    model,
    attached,
    adapters: new Map([...attached].map(([name, { adapter }]) => [name, adapter])),
    get strength() {
      return each[0].strength;
    },
    set strength(strength) {
      for (const one of each) one.strength = strength;
    },
    get active() {
      return each[0].active;
    },
    set active(active) {
      for (const one of each) one.active = active;
    },
    get parameters() {
      return each.reduce((sum, { adapter }) => sum + parameters(adapter), 0);
    },
    merge() {
      for (const one of each) one.merge();
      thaw();
    },
    detach(options) {
      const kept = [...attached].map(([name, one]) => [name, one.detach(options)] as const);
      thaw();
      return options?.keep ? new Map(kept as [string, Adapter][]) : undefined;
    },
    async save(path, options) {
      await save(path, this.adapters, options);
    },
  };
}

/**
 * An adapter on every chosen layer of a model, new, so that the model computes what it did.
 *
 * @throws {RangeError} when nothing is chosen, an override names no layer, or a rank is above a layer's largest
 * @throws {TypeError} for options that an algorithm does not have; in every case nothing is changed
 */
export function adaptModel(
  algorithm: AlgorithmName,
  model: tf.LayersModel,
  rank: number,
  options: ModelOptions = {},
): AttachedModel {
  const chosen = select(model, options);
  const unknown = Object.keys(options.overrides ?? {}).find((name) =>
    !namedLayers(model).has(name)
  );
  if (unknown !== undefined || chosen.size === 0) {
    const rule = chosen.size === 0
      ? "where must choose a layer that takes an adapter"
      : `overrides must name layers: current override is ${unknown}`;
    throw new RangeError(
      `Cannot adapt "${model.name}" as ${rule}; current layers are ` +
        [...namedLayers(model).keys()].join(", "),
    );
  }
  const adapters = new Map<string, Adapter>(), seats = new Map<string, AttachOptions>();
  try {
    for (const [name, layer] of chosen) {
      const { shape } = anatomy(layer);
      const settings = settingsOf(algorithm, rank, options, name, shape);
      if (settings.rank === 0 && rowOf(settings.algorithm).ranked) continue;
      const { options: born, seat } = split(settings);
      adapters.set(name, createFor(layer, settings.algorithm, settings.rank, born));
      seats.set(name, seat);
    }
    return attachAll(model, adapters, { freeze: options.freeze, seats });
  } finally {
    for (const adapter of adapters.values()) dispose(adapter);
  }
}

/** Puts an adapter on a layer, or a map of adapters (a file's) on the layers of a model by their names. */
export function attachAny(
  layer: tf.layers.Layer,
  adapter: Adapter,
  options?: AttachOptions,
): Attached;
export function attachAny(
  model: tf.LayersModel,
  adapters: ReadonlyMap<string, Adapter>,
  options?: AttachOptions & { freeze?: boolean },
): AttachedModel;
export function attachAny(
  target: tf.layers.Layer | tf.LayersModel,
  adapters: Adapter | ReadonlyMap<string, Adapter>,
  options?: AttachOptions & { freeze?: boolean },
): Attached | AttachedModel {
  return adapters instanceof Map
    ? attachAll(target as tf.LayersModel, adapters, options)
    : attach(target as tf.layers.Layer, adapters as Adapter, options);
}
