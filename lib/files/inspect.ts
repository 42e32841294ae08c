/** What a file of adapters is and holds, as plain values: nothing is kept but numbers. */
import { type Adapter, dispose, parameters, scale } from "../adapter/adapter.ts";
import { energyOf, scoped } from "../adapter/matrices.ts";
import { delta } from "../adapter/merge.ts";
import { decomposing, singularValues } from "../adapter/singular_values.ts";
import { rowOf } from "../algorithms/table.ts";
import { adaptersOf, openModules, type OpenOptions, type Part } from "./adapter_modules.ts";
import type { Metadata } from "./dialect.ts";
import type { DialectName } from "./dialects.ts";
import type { Dtype } from "./dtypes.ts";
import { type Hashes, hashes } from "./hashes.ts";
import type { TensorFile } from "./safetensors.ts";
import type { Place } from "./source.ts";
import { storedHashes, tagsOf, trainedOn } from "./told.ts";

/** What the singular values of a ΔW tell. */
export interface SpectrumSummary {
  /** the largest, descending */
  largest: number[];
  /** how many there are that are not 0 */
  rank: number;
  /** `exp(−Σ p log p)` with p the shares of σ: how many would be as diverse if all were alike (Roy & Vetterli 2007) */
  effectiveRank: number;
  /** `‖ΔW‖² / σ₁²` */
  stableRank: number;
  /** how many of the largest keep 90 % of ‖ΔW‖² */
  rank90: number;
}

/** A module of a file. */
export interface InspectedLayer {
  name: string;
  algorithm: Adapter["algorithm"];
  /** of the kernel, `[...k, I/G, O]`; −1 where the file does not tell */
  shape: number[];
  rank: number;
  alpha: number;
  /** what ΔW is multiplied by */
  scale: number;
  parameters: number;
  bytes: number;
  dtypes: Dtype[];
  dora: Adapter["dora"];
  /** ‖scale · ΔW‖, the Frobenius norm; under DoRA before the lengths; none where ΔW depends on the base */
  norm?: number;
  /** none where ΔW depends on the base, or its factors are too many for a look */
  spectrum?: SpectrumSummary;
  /** what is wrong with it: numbers that are not finite */
  broken?: string;
}

/** What a file of adapters is and holds. */
export interface Inspection {
  dialect: DialectName;
  /** what it was trained on, and by what that is told */
  base?: { model: string; by: string };
  /** modules by algorithm */
  algorithms: Record<string, number>;
  layers: InspectedLayer[];
  parameters: number;
  bytes: number;
  /** ‖·‖ of all scale · ΔW together that do not depend on the base */
  norm: number;
  /** keys that belong to no adapter */
  leftovers: string[];
  metadata: Metadata;
  /** how often each tag occurs, most first, from kohya's `ss_tag_frequency`, over all folders */
  tags: [tag: string, count: number][];
  /** the hashes that the metadata has, and those that the tensors have */
  hashes: { stored: Partial<Hashes>; computed: Hashes };
}

/** How a file is inspected. */
export interface InspectOptions extends OpenOptions {
  /** singular values of every layer, of none, or (default) of those whose factors are soon decomposed */
  spectra?: boolean | "all";
  /** how many of the largest singular values are told of each layer; default 16 */
  values?: number;
  /** told of every module that is done, of so many */
  onModule?: (done: number, all: number) => void;
}

/**
 * What a file is and holds, of whichever dialect; a module at a time is in memory.
 *
 * Singular values come from triangles of the factors (`singular_values.ts`), never from a ΔW larger than they are.
 *
 * @throws {SyntaxError} for a file that is not safetensors, or factors that do not fit each other
 *
 * @example
 * ```ts
 * import { files, lora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const bytes = await files.encode(new Map([["conv", lora.create([3, 3, 4, 8], 2, { alpha: 1 })]]));
 * const { dialect, layers: [conv] } = await files.inspect(bytes);
 * assert.is(dialect, "kohya");
 * assert.equal(conv.shape, [3, 3, 4, 8]);
 * assert.is(conv.scale, 0.5);
 * assert.is(conv.norm, 0); // born as ΔW = 0
 * ```
 */
export async function inspect(place: Place, options: InspectOptions = {}): Promise<Inspection> {
  const { onModule } = options;
  await using file = await openModules(place, options);
  const { tensors, metadata, dialect } = file, layers: InspectedLayer[] = [];
  const left = new Set(tensors.tensors.keys());
  let done = 0;
  for await (const { name, adapter, parts } of adaptersOf(file)) {
    try {
      layers.push(layerOf(name, adapter, parts, tensors, options));
    } finally {
      dispose(adapter);
    }
    for (const { key } of parts) left.delete(key);
    onModule?.(++done, file.modules.size);
  }
  const sum = (of: (layer: InspectedLayer) => number) =>
    layers.reduce((total, layer) => total + of(layer), 0);
  const algorithms: Record<string, number> = {};
  for (const { algorithm } of layers) algorithms[algorithm] = (algorithms[algorithm] ?? 0) + 1;
  const base = trainedOn(layers, metadata);
  return {
    dialect,
    ...(base && { base }),
    algorithms,
    layers,
    parameters: sum(({ parameters }) => parameters),
    bytes: sum(({ bytes }) => bytes),
    norm: Math.sqrt(sum(({ norm = 0 }) => norm ** 2)),
    leftovers: [...left],
    metadata,
    tags: tagsOf(metadata),
    hashes: {
      stored: storedHashes(metadata),
      computed: await hashes([...tensors.tensors.keys()].map(tensors.entry), metadata),
    },
  };
}

function layerOf(
  name: string,
  adapter: Adapter,
  parts: readonly Part[],
  { tensors }: TensorFile,
  options: InspectOptions,
): InspectedLayer {
  const slots = parts.map(({ key }) => tensors.get(key)!);
  const told = {
    name,
    algorithm: adapter.algorithm,
    shape: [...adapter.shape],
    rank: adapter.rank,
    alpha: adapter.alpha,
    scale: scale(adapter),
    parameters: parameters(adapter),
    bytes: slots.reduce((sum, { start, end }) => sum + end - start, 0),
    dtypes: [...new Set(slots.map(({ dtype }) => dtype))],
    dora: adapter.dora,
  };
  const broken = brokenFactor(adapter);
  if (broken) return { ...told, broken };
  return { ...told, ...measured(adapter, options) };
}

/** The first factor with a number that is not finite, in words. */
function brokenFactor({ factors }: Adapter): string | undefined {
  for (const [name, tensor] of Object.entries(factors)) {
    if (tensor && !Number.isFinite(energyOf(tensor))) {
      return `${name} has a number that is not finite`;
    }
  }
}

/** ‖scale · ΔW‖, and what its singular values tell, where ΔW needs no base. */
function measured(
  adapter: Adapter,
  { spectra = true, values = 16 }: InspectOptions,
): Pick<InspectedLayer, "norm" | "spectrum"> {
  const plain: Adapter = { ...adapter, dora: false };
  if (rowOf(plain.algorithm).relative) return {};
  const wanted = adapter.shape.length > 1 && spectra &&
    (spectra === "all" || decomposing(plain) <= LARGEST);
  if (!wanted) return { norm: Math.sqrt(scoped(() => energyOf(delta(plain)))) };
  const s = singularValues(plain), energy = s.reduce((sum, σ) => sum + σ * σ, 0);
  return { norm: Math.sqrt(energy), spectrum: summary(s, energy, values) };
}

/** Multiply-adds beyond which a layer's singular values take longer than a look. */
const LARGEST = 1.5e8;

/** What singular values tell. */
function summary(s: Float64Array, energy: number, values: number): SpectrumSummary {
  const total = s.reduce((sum, σ) => sum + σ, 0);
  const entropy = total === 0 ? 0 : -s.reduce((sum, σ) => {
    const p = σ / total;
    return p > 0 ? sum + p * Math.log(p) : sum;
  }, 0);
  let kept = 0, rank90 = 0;
  while (rank90 < s.length && kept < 0.9 * energy) kept += s[rank90++] ** 2;
  return {
    largest: [...s.subarray(0, values)],
    rank: s.filter((σ) => σ > ROUNDING * s[0]).length,
    effectiveRank: total === 0 ? 0 : Math.exp(entropy),
    stableRank: s[0] > 0 ? energy / s[0] ** 2 : 0,
    rank90,
  };
}

/** Singular values below this share of the largest are what rounding of float32 factors leaves. */
const ROUNDING = 1e-7;
