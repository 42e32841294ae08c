/** Adapters on a whole model: chosen layers, each with its own settings, as one thing. */
import type * as tf from "@tensorflow/tfjs";
import { type AlgorithmName, rowOf } from "../algorithms/table.ts";
import {
  type Adapter,
  type AdapterOptions,
  checkOptions,
  dispose,
  type Dropouts,
  optionsOf,
  parameters,
} from "../adapter/adapter.ts";
import type { TrainerSettings } from "../adapter/arguments.ts";
import type { Preset, PresetName } from "../adapter/presets.ts";
import type { Settled } from "../adapter/rules.ts";
import { layered, legible, type ModuleSettings } from "../adapter/settings.ts";
import { save, type SaveOptions } from "../files/adapters.ts";
import { subseed } from "../tensor/random.ts";
import { isWide } from "../tensor/shape.ts";
import { attach, type AttachOptions, checkAttach } from "./attach.ts";
import { createFor } from "./born.ts";
import { freeze, wake } from "./freeze.ts";
import { anatomy, kindOf } from "./host.ts";
import { teach } from "./models.ts";
import { readPreset } from "./preset.ts";
import { matches, meant, namedLayers, pickLayers, select, type Where } from "./select.ts";
import { type Attached, attachedTo } from "./site.ts";

/** What a model is given. */
export interface ModelOptions extends AdapterOptions, AttachOptions {
  /** the rank of kernels wider than a point, 0 to leave them out; default: the rank of all others */
  conv?: number;
  /** the alpha of kernels wider than a point; default: as given for all */
  convAlpha?: number;
  /** adapt normalizations too, by the algorithm `norm` (LyCORIS `train_norm`); default false */
  norm?: boolean;
  /** the layers to adapt; default: every layer that can be, but for normalizations */
  where?: Where;
  /** layers not to adapt */
  exclude?: Where;
  /**
   * which of these take part and with what of their own, as LyCORIS has it: a built-in preset, the path of a TOML file,
   * or a value; layers have the names of diffusers and transformers there (`down_blocks.0.attentions.0.proj_in`)
   */
  preset?: PresetName | Preset | `${string}.toml`;
  /** settings of layers by class, glob or name, over all others; the name counts over the glob, that over the class */
  overrides?: Record<string, ModuleSettings>;
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
  /** what a training step drops of those that have such a dropout; a probability that is not named stays */
  drop(probabilities: Partial<Dropouts>): void;
  /** how many numbers are trained */
  readonly parameters: number;
  /** writes every W′ into its layer and detaches */
  merge(): void;
  /** takes every adapter off; the model is what it was, bit for bit */
  detach(options?: { keep?: boolean }): Map<string, Adapter> | undefined;
  /** writes the adapters as a safetensors file, in the kohya / LyCORIS dialect unless asked otherwise */
  save(path: string, options?: SaveOptions): Promise<void>;
}

/** What a model is given that its layers are not. */
const OF_MODEL = ["conv", "convAlpha", "norm", "where", "exclude", "preset", "overrides", "freeze"];

/** What of a model's options is about adapters and their seats. */
function commonOf(options: ModelOptions): AdapterOptions & AttachOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => !OF_MODEL.includes(name)));
}

/** The model's settings for a layer, conv's over the rest on a wide kernel; none for one that they are not for. */
function settingsFor(
  layer: tf.layers.Layer,
  algorithm: AlgorithmName,
  rank: number,
  options: ModelOptions,
): Settled | undefined {
  const common = commonOf(options), { conv = rank, convAlpha, norm } = options;
  if (kindOf(layer)?.family === "norm") {
    return norm || algorithm === "norm"
      ? legible({ ...common, algorithm: "norm", rank: 0 }, "norm")
      : undefined;
  }
  if (algorithm === "norm") return undefined;
  const { shape } = anatomy(layer);
  // LyCORIS: a pointwise convolution has the linear rank, and the convolutions' where that is 0
  const wide = isWide(shape) || (shape.length > 2 && rank === 0);
  return {
    algorithm,
    ...common,
    ...(isWide(shape) && convAlpha !== undefined && { alpha: convAlpha }),
    rank: wide ? conv : rank,
  };
}

/** The layers that a model's options mean, with the settings of each. */
function plan(
  algorithm: AlgorithmName,
  model: tf.LayersModel,
  rank: number,
  options: ModelOptions,
): [name: string, layer: tf.layers.Layer, settings: Settled][] {
  const { conv, convAlpha, norm, overrides = {} } = options, common = commonOf(options);
  const picked = options.preset && pickLayers(model, readPreset(options.preset), {
    ...common,
    algorithm,
    rank: rowOf(algorithm).ranked ? rank : 1,
    conv,
    convAlpha,
    norm,
  });
  return [...select(model, options)].flatMap(([name, layer]) => {
    const own = meant(overrides, layer, name);
    const general = picked ? picked.get(name) : settingsFor(layer, algorithm, rank, options);
    if (!general && (picked || !own.some((settings) => settings.algorithm))) return [];
    const seed = subseed(common.seed ?? 0, name);
    const first = general ?? { algorithm, ...common, rank };
    return [[name, layer, layered([{ ...first, seed }, ...own])]];
  });
}

/** Without the layers that their algorithm cannot be on, which are named; all of them where none can, to be refused. */
function fitting(chosen: ReturnType<typeof plan>): ReturnType<typeof plan> {
  const fits = ([, layer, { algorithm, rank }]: (typeof chosen)[number]) =>
    rowOf(algorithm).fits?.(anatomy(layer).shape, rank) ?? true;
  const passed = chosen.filter((one) => !fits(one));
  if (passed.length === 0 || passed.length === chosen.length) return chosen;
  const told = passed.map(([name, , { algorithm, rank }]) =>
    `"${name}" (${algorithm} of rank ${rank})`
  );
  console.warn(`Left out ${told.join(", ")}: the outputs do not split into such blocks`);
  return chosen.filter(fits);
}

/** One layer's settings as its adapter's and its seat's. */
function split(
  { strength, route, rank: _rank, algorithm: _algorithm, ...options }: ModuleSettings,
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
    drop(probabilities) {
      for (const [name, p] of Object.entries(probabilities)) {
        const having = each.filter(({ adapter }) => optionsOf(adapter.algorithm).includes(name));
        if (having.length === 0) each[0].drop({ [name]: p }); // which is refused
        for (const one of having) one.drop({ [name]: p });
      }
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
 * A layer whose outputs BOFT cannot split is left out, with a warning, unless it is the only one.
 *
 * @throws {RangeError} when nothing is chosen, an override means no layer, or a rank is above a layer's largest
 * @throws {TypeError} for options that an algorithm does not have; in every case nothing is changed
 */
export function adaptModel(
  algorithm: AlgorithmName,
  model: tf.LayersModel,
  rank: number,
  options: ModelOptions = {},
): AttachedModel {
  const layers = [...namedLayers(model)];
  const refuse = (rule: string) => {
    throw new RangeError(
      `Cannot adapt "${model.name}" as ${rule}; current layers are ${
        layers.map(([name]) => name).join(", ")
      }`,
    );
  };
  const unknown = Object.keys(options.overrides ?? {}).find((text) =>
    !layers.some(([name, layer]) => matches(text, layer, name))
  );
  if (unknown !== undefined) refuse(`overrides must mean layers: current override is ${unknown}`);
  const { strength: _strength, route: _route, ...common } = commonOf(options);
  checkOptions(algorithm, common);
  const chosen = plan(algorithm, model, rank, options);
  if (chosen.length === 0) {
    const others = options.preset ? " and the preset" : "";
    refuse(`where${others} must choose a layer that takes an adapter`);
  }
  const adapters = new Map<string, Adapter>(), seats = new Map<string, AttachOptions>();
  try {
    for (const [name, layer, settings] of fitting(chosen)) {
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

/**
 * A new adapter on every layer of a model that the settings of a trainer mean: `fromArguments(args).settings`, or one's own.
 *
 * Their `loraPlus` is for the optimizer: `loraPlus(optimizer, adapt(model, settings), settings.loraPlus)`.
 *
 * @throws as `lora.model` does
 */
export function adapt(
  model: tf.LayersModel,
  { algorithm, rank, llmAdapter: _llmAdapter, loraPlus: _loraPlus, ...options }:
    & TrainerSettings
    & ModelOptions,
): AttachedModel {
  return adaptModel(algorithm, model, rank, options);
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
