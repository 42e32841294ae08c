/** What one module is given: its settings, in this library's names and in LyCORIS's. */
import { type AlgorithmName, ALGORITHMS } from "../algorithms/table.ts";
import { type AdapterOptions, optionsOf } from "./adapter.ts";
import type { PresetSettings } from "./presets.ts";
import type { Route } from "./route.ts";

/** The settings of one module. */
export interface ModuleSettings extends AdapterOptions {
  /** another algorithm than the network's */
  algorithm?: AlgorithmName;
  /** 0 leaves the module out */
  rank?: number;
  /** s in W′ = W + s · scale · ΔW */
  strength?: number;
  /** force one of the three routes */
  route?: Route;
}

/** LyCORIS's names of algorithms where they are not this library's. */
const NAMES: { readonly [name: string]: AlgorithmName } = { locon: "lora", "diag-oft": "oft" };

/**
 * The algorithm that LyCORIS calls by a name, in any case.
 *
 * @throws {RangeError} for a name that is none
 */
export function algorithmNamed(name: string): AlgorithmName {
  const lower = name.toLowerCase(), known = NAMES[lower] ?? lower;
  if (Object.hasOwn(ALGORITHMS, known) && !["oft", "norm"].includes(lower)) {
    return known as AlgorithmName;
  }
  const names = Object.keys(ALGORITHMS).filter((own) => !["oft", "norm"].includes(own));
  throw new RangeError(
    `Cannot choose "${name}" as algo must be one of ${
      [...names, ...Object.keys(NAMES)].join(", ")
    }`,
  );
}

/** LyCORIS's name of an algorithm. */
export function lycorisName(algorithm: AlgorithmName): string {
  return algorithm === "oft" ? "diag-oft" : algorithm;
}

type Value = PresetSettings[string];

/** What the keys of a preset's own settings are here. LyCORIS asks of most whether they are true as Python is. */
const KEYS: { readonly [key: string]: (value: Value, all: PresetSettings) => ModuleSettings } = {
  algo: (value) => ({ algorithm: algorithmNamed(String(value)) }),
  dim: (value) => ({ rank: Number(value) }),
  alpha: (value) => ({ alpha: Number(value) }),
  use_tucker: (value) => ({ tucker: Boolean(value) }),
  use_scalar: (value) => ({ scalar: Boolean(value) }),
  factor: (value) => ({ factor: Number(value) }),
  decompose_both: (value) => ({ decomposeBoth: Boolean(value) }),
  full_matrix: (value) => ({ full: Boolean(value) }),
  unbalanced_factorization: (value) => ({ unbalanced: Boolean(value) }),
  block_size: (value) => ({ block: Number(value) }),
  constraint: (value) => ({ constraint: Number(value) }),
  rescaled: (value) => ({ rescaled: Boolean(value) }),
  weight_decompose: (value, { wd_on_out = true }) => ({
    dora: value ? (wd_on_out ? "output" : "input") : false,
  }),
  wd_on_out: () => ({}),
  rs_lora: (value) => ({ rankScale: value ? "alpha/sqrt(r)" : "alpha/r" }),
  rank_dropout_scale: (value) => ({ rankDropoutScale: Boolean(value) }),
  bypass_mode: (value) => ({ route: value ? "bypass" : undefined }),
  train_on_input: (value) => ({ onInput: Boolean(value) }),
  sig_type: (value) => ({ triplets: value as AdapterOptions["triplets"] }),
};

/**
 * A preset's settings of a class or name in this library's names.
 *
 * @param name of the class or name, for the message
 * @throws {TypeError} for a key that LyCORIS does not read there (`linear_dim`, `conv_dim` and `dora_wd` among them)
 * @throws {RangeError} for an algorithm that does not exist
 */
export function settingsFrom(preset: PresetSettings, name: string): ModuleSettings {
  const settings = Object.entries(preset).map(([key, value]) => {
    if (Object.hasOwn(KEYS, key)) return KEYS[key](value, preset);
    throw new TypeError(
      `Cannot read the settings of "${name}" as their keys are ${Object.keys(KEYS).join(", ")}: ` +
        `current key is ${key}, which LyCORIS does not read there`,
    );
  });
  return Object.assign({}, ...settings);
}

/**
 * Settings of a module, the more general first: a later one counts over an earlier one.
 *
 * Where a level names an algorithm, what earlier levels say counts as far as that algorithm reads it.
 */
export function layered<S extends ModuleSettings>(levels: readonly [S, ...ModuleSettings[]]): S {
  return levels.reduce((settings, own) => {
    const { algorithm } = own;
    return { ...(algorithm ? legible(settings as S, algorithm) : settings), ...own };
  }) as S;
}

/** What of some settings an algorithm reads. */
export function legible<S extends ModuleSettings>(settings: S, algorithm: AlgorithmName): S {
  const reads = ["algorithm", "rank", "strength", "route", ...optionsOf(algorithm)];
  const read = Object.entries(settings).filter(([name]) => reads.includes(name));
  return Object.fromEntries(read) as S;
}
