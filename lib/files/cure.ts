/** A file rewritten so that a host reads it right: the first of some exact ways in which it does. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { tidy } from "../tensor/tidy.ts";
import { type AdapterFile, encode, type SaveOptions } from "./adapters.ts";
import { adaptersOf, openModules } from "./adapter_modules.ts";
import { dialectOf } from "./dialects.ts";
import { asTrained, compared, type HostReading, kernelFor, opened } from "./doctor.ts";
import { hashed } from "./hashes.ts";
import type { Sight } from "./hosts/host.ts";
import { type HostName, hostOf } from "./hosts/hosts.ts";
import * as kohya from "./kohya.ts";
import { described } from "./lycoris.ts";
import type { Model } from "./names.ts";
import { CONFIG } from "./peft.ts";
import { parse, serialize, type TensorView } from "./safetensors.ts";
import { spell } from "./spell.ts";
import { none, type Patient, reasonOf, type Way, WAYS } from "./ways.ts";

/** What became of a layer. */
export interface CuredLayer {
  name: string;
  /** how it is written now */
  by?: string;
  /** ‖theirs − trained‖ / ‖trained‖ of the file written, as the host reads it */
  error?: number;
  /** why there is no way */
  reason?: string;
}

/** A file that a host reads right, or why there is none. */
export interface Cured {
  layers: CuredLayer[];
  /** the file; none where a layer has no way */
  bytes?: Uint8Array;
}

/** How a file is rewritten. */
export interface CureOptions extends Partial<Sight>, Pick<SaveOptions, "dtype" | "leftovers"> {
  /** a layer's kernel in the library's layout, the tensor goes over: a plain difference may need it */
  base?: (name: string) => Promise<tf.Tensor | undefined>;
  /** whether a layer has a bias, where that is known: PEFT's (IA)^3 multiplies it too */
  biased?: (name: string) => boolean;
  /** whose names the adapters have; default: found by the names */
  model?: Model;
}

/** A BOFT is no line between strengths 0 and 1, and all forms but its own are. */
const strengthsOf = ({ trained }: Patient, written: Adapter) =>
  trained.algorithm === "boft" && written.algorithm !== "boft" ? [1] : undefined;

/** Judges one way to write one layer; throws an error whose message is why it does not do. */
type Judge = (patient: Patient, way: Way, written: Adapter) => void;

/** By what the host computes of the layer's tensors alone. */
function byReading(host: HostName): Judge {
  return (patient, way, written) => {
    const { name, trained, kernel } = patient;
    const own = kohya.write(written), torch = way.older ? exchanged(own) : own;
    const module = name.replaceAll(".", "_"), W = kernel ?? kernelFor(trained);
    try {
      const parts = Object.keys(torch).map((suffix) => ({ suffix, key: `${module}.${suffix}` }));
      const alpha = torch.alpha?.dataSync()[0];
      const reader = hostOf(host).open({
        dialect: "kohya",
        metadata: {},
        keys: parts.map(({ key }) => key),
        modules: new Map([[module, parts]]),
        alphas: new Map(alpha === undefined ? [] : [[module, alpha]]),
      }, { names: false });
      const readings = compared(
        trained,
        W,
        { module, parts, torch },
        new Map([[host, reader]]),
        strengthsOf(patient, written),
      );
      const { right, refused, ...told } = readings[host]!;
      if (!right) none(refused ?? wrong(told));
    } finally {
      tf.dispose(torch);
      if (!kernel) W.dispose();
    }
  };
}

const wrong = ({ error, strength }: Pick<HostReading, "error" | "strength">) =>
  `it would be off by ${error!.toExponential(1)} at strength ${strength}`;

/** By what the host's own dialect can hold: PEFT's and diffusers' have no other meaning. */
function byHolding(host: HostName, onlyLora: boolean): Judge {
  const dialect = dialectOf(hostOf(host).dialect);
  return ({ name, biased }, { older }, written) => {
    if (older) none("it has no such order");
    if (biased && written.factors.vector?.shape[0] === 1) none("it multiplies the bias too");
    if (onlyLora && (written.algorithm !== "lora" || written.dora)) {
      none("its file is all of one kind, LoRA where layers differ");
    }
    tidy(() => {
      dialect.hold(name, written);
    });
  };
}

/** GLoRA's keys with the roles of before LyCORIS 3.0. */
function exchanged(torch: kohya.Torch): kohya.Torch {
  return Object.fromEntries(Object.entries(torch).map(([key, tensor]) => [older(key), tensor]));
}

const older = (key: string) =>
  key.replace(/\b([ab])([12])\.weight$/, (_, term, n) => `${term}${3 - Number(n)}.weight`);

/** The first way that does. */
function written(patient: Patient, judge: Judge): { way: Way; adapter: Adapter } | string {
  const reasons: string[] = [];
  for (const way of WAYS) {
    let adapter: Adapter | undefined;
    try {
      adapter = way.make(patient);
      judge(patient, way, adapter);
      return { way, adapter };
    } catch (error) {
      if (adapter) dispose(adapter);
      reasons.push(reasonOf(error));
    }
  }
  return reasons.at(-1)!; // what stands in the way of the last resort
}

/**
 * The adapters of a file in the bytes of one that the host reads as they were trained: each in the first way that does of
 * as it is, scale folded in and alpha the rank, GLoRA's older order, as LoRA, as plain difference, as LoRA of all
 * ranks.
 *
 * @returns how each layer is written, and with what error the host reads it, from the bytes; no bytes where a layer has
 * no way, and why
 *
 * @example
 * ```ts
 * import { cure, files, loha } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
 * const born = loha.create([8, 16], 2, { alpha: 1 });
 * const file = await files.open(await files.encode(new Map([[name, born]])));
 * const { layers: [layer], bytes } = await cure(file, "kohya");
 * assert.is(layer.by, "as LoRA");
 * assert.is((await files.diagnose(bytes!)).hosts.kohya!.right, 1);
 * ```
 */
export async function cure(
  file: AdapterFile,
  host: HostName,
  options: CureOptions = {},
): Promise<Cured> {
  const judges = hostOf(host).dialect === "kohya"
    ? [byReading(host)]
    : [byHolding(host, false), byHolding(host, true)];
  let cured: Cured = { layers: [] };
  for (const judge of judges) {
    cured = await attempted(file, host, judge, options);
    if (cured.bytes) break;
  }
  return cured;
}

/** A layer with its kernel, for as long as it is worked on. */
async function attended<T>(
  name: string,
  { adapters, metadata }: AdapterFile,
  { base, biased }: CureOptions,
  work: (patient: Patient) => T,
): Promise<T> {
  const kernel = await base?.(name);
  try {
    const trained = asTrained(adapters.get(name)!, metadata);
    return work({ name, trained, kernel, biased: biased?.(name) });
  } finally {
    kernel?.dispose();
  }
}

/** All layers in the first way that the judge lets pass. */
async function attempted(
  file: AdapterFile,
  host: HostName,
  judge: Judge,
  options: CureOptions,
): Promise<Cured> {
  const adapters = new Map<string, Adapter>(), exchange = new Set<string>();
  const layers: CuredLayer[] = [];
  try {
    for (const name of file.adapters.keys()) {
      const found = await attended(name, file, options, (patient) => written(patient, judge));
      if (typeof found === "string") {
        layers.push({ name, reason: found });
        continue;
      }
      adapters.set(name, found.adapter);
      if (found.way.older) exchange.add(name);
      layers.push({ name, by: found.way.told });
    }
    if (adapters.size < layers.length) return { layers };
    const bytes = await encoded(file, host, adapters, exchange, options).catch(reasonOf);
    if (typeof bytes === "string") {
      return { layers: layers.map(({ name }) => ({ name, reason: bytes })) };
    }
    const spelled = spell(adapters, hostOf(host).dialect, options.model);
    const readings = await verified(bytes, host, file, [...spelled.keys()], options);
    const judged = layers.map((layer, i): CuredLayer => {
      const { right, error = 1, refused } = readings[i], told = { ...layer, error };
      const stored = refused === undefined && error <= STORED[options.dtype ?? "f32"];
      return right || stored ? told : { ...told, reason: refused ?? wrong(readings[i]) };
    });
    const cured = judged.every(({ reason }) => reason === undefined);
    return { layers: judged, ...(cured && { bytes }) };
  } finally {
    for (const adapter of adapters.values()) dispose(adapter);
  }
}

/** What storing numbers in fewer bits may move ΔW by, of itself: some of their last places. */
const STORED = { f32: 0, f16: 2 ** -8, bf16: 2 ** -5 } as const;

/** The file's bytes, with what its metadata still says rightly. */
async function encoded(
  { metadata }: AdapterFile,
  host: HostName,
  adapters: ReadonlyMap<string, Adapter>,
  exchange: ReadonlySet<string>,
  { dtype, leftovers, model }: CureOptions,
): Promise<Uint8Array> {
  const { dialect } = hostOf(host);
  const { [CONFIG]: _config, lora_adapter_metadata: _packed, lowrank: _notes, ...told } = metadata;
  // what kohya's trainer said of its own adapters is not true of these
  const made = described(adapters), kept = Object.entries(told).filter(([key]) => !(key in made));
  const own = { ...Object.fromEntries(kept), ...(dialect === "kohya" && made) };
  const bytes = await encode(adapters, { dialect, dtype, leftovers, model, metadata: own });
  if (exchange.size === 0) return bytes;
  const { tensors, metadata: all } = parse(bytes), spelled = spell(adapters, dialect, model);
  const names = [...adapters.keys()],
    exchanged = new Set(
      [...spelled.keys()].filter((_, i) => exchange.has(names[i])).map(dialectOf(dialect).told),
    );
  const views = [...tensors].map(([key, view]): [string, TensorView] => {
    const module = key.replace(/\.[ab][12]\.weight$/, "").replace(/^lycoris_/, "");
    return [exchanged.has(module) ? older(key) : key, view];
  });
  const entries = views.map(([name, view]) => ({ ...view, name, bytes: () => view.bytes }));
  return serialize(views, await hashed(entries, all));
}

/** What the host computes of every layer of the file written; by the names that the layers have there. */
async function verified(
  bytes: Uint8Array,
  host: HostName,
  before: AdapterFile,
  names: readonly string[],
  options: CureOptions,
): Promise<HostReading[]> {
  await using file = await openModules(bytes);
  const readers = await opened(file, [host], options), own = [...before.adapters.keys()];
  const readings = new Map<string, HostReading>();
  for await (const { name, module, adapter, parts } of adaptersOf(file)) {
    dispose(adapter);
    const torch = await file.torch(module);
    const was = own[names.indexOf(name)];
    const read = (patient: Patient) => {
      const { trained, kernel } = patient;
      const W = kernel ?? kernelFor(trained);
      const stored = { module, parts, torch }, strengths = strengthsOf(patient, adapter);
      const { [host]: reading } = compared(trained, W, stored, readers, strengths);
      if (!kernel) W.dispose();
      return reading!;
    };
    if (was !== undefined) readings.set(name, await attended(was, before, options, read));
    tf.dispose(torch);
  }
  const lost: HostReading = { right: false, refused: "it is not found again in the file written" };
  return names.map((name) => readings.get(name) ?? lost);
}
