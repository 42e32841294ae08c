/** Which adapter goes into which weight of a checkpoint, and how strong: all that can be refused is refused here. */
import { basename } from "node:path";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { blockOf, blockWeights } from "../adapter/block.ts";
import { conform } from "../adapter/conform.ts";
import { show } from "../tensor/shape.ts";
import { rowOf } from "../algorithms/table.ts";
import { tidy } from "../tensor/tidy.ts";
import { adaptersOf, type ModuleFile, openModules, type OpenOptions } from "./adapter_modules.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { type CheckpointModule, scaleOf } from "./checkpoint_modules.ts";
import type { Dtype } from "./dtypes.ts";
import { lookup } from "./names.ts";
import { pathOf, type Place, urlOf } from "./source.ts";

/** A file of adapters, and how much of it. */
export interface MergePart extends OpenOptions {
  place: Place;
  /** s; may be negative; default 1 */
  strength?: number;
  /** s of text encoders; default: as all */
  textEncoder?: number;
  /** what s is multiplied by, block by block: see `blockWeights` */
  blocks?: string;
}

/** What one adapter does to one module. */
export interface Step {
  file: ModuleFile;
  /** what the file calls the module, see `ModuleFile.read` */
  part: string;
  strength: number;
  /** whether W′ − W does not depend on W */
  sum: boolean;
  /** the key under which the file has that difference as it is, in PyTorch's layout */
  difference?: string;
}

/** A tensor that changes: the modules that lie in it, and what is done to each, in order. */
export type Uses = { module: CheckpointModule; steps: Step[] }[];

/** What is to be done. */
export interface Plan extends AsyncDisposable {
  /** of each tensor that changes, by the checkpoint's key */
  weights: ReadonlyMap<string, Uses>;
  biases: ReadonlyMap<string, Uses>;
  /** for each part, as the checkpoint's metadata tells it */
  notes: Note[];
  /** names of adapters, by part, of which the checkpoint has no module or several, and keys that are no adapter's */
  missing: string[][];
  /** for each part, how many modules it changes */
  counts: number[];
}

/** What was merged, as the metadata of a checkpoint tells it. */
export interface Note {
  file: string;
  strength: number;
  textEncoder?: number;
  blocks?: string;
}

/** Dtypes that merged weights are rounded to. */
const ROUNDED: readonly Dtype[] = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"];

/** kohya's suffixes of a difference that is stored whole; no dialect lays them out in another way. */
const DIFFERENCES = ["diff", "w_norm"];

/** A text encoder's module, in a model of any kind. */
const TEXT = /^(text_encoder|conditioner|cond_stage_model)/;

/** A file's name without its folders, for people and for metadata. */
export function nameOf(place: Place): string {
  const path = pathOf(place) ?? urlOf(place)?.pathname;
  return path === undefined ? "bytes" : basename(path);
}

/**
 * Whether an adapter changes its module's bias: with a Δb of its own, or as (IA)^3 of outputs, by which PEFT multiplies
 * the bias too, and LyCORIS does not.
 */
function changesBias({ factors }: Adapter, file: ModuleFile, module: CheckpointModule): boolean {
  if (factors.bias) return true;
  return file.dialect === "peft" && factors.vector?.shape[0] === 1 && module.bias !== undefined;
}

/** Throws unless an adapter fits a module that can be written. */
function check(
  name: string,
  adapter: Adapter,
  { tensors }: Checkpoint,
  module: CheckpointModule,
  bias: boolean,
): void {
  const refuse = (Kind: typeof TypeError | typeof RangeError, rule: string, current: string) => {
    throw new Kind(`Cannot merge "${name}" as ${rule}: current ${current}`);
  };
  try {
    tidy(() => void conform(adapter, module.shape));
  } catch {
    refuse(
      TypeError,
      `"${module.weight}" has a kernel ${show(module.shape)}`,
      `${adapter.algorithm} is for ${
        show(adapter.shape.map((n) => (n < 0 ? "any" : n) as number))
      }`,
    );
  }
  if (bias && !module.bias) {
    refuse(
      RangeError,
      `"${module.weight}" must have a bias beside it`,
      "adapter has one, and it none",
    );
  }
  for (const key of bias ? [module.weight, module.bias!] : [module.weight]) {
    const { dtype } = tensors.get(key)!;
    if (ROUNDED.includes(dtype)) continue;
    refuse(
      TypeError,
      `weights are rounded to ${ROUNDED.join(", ")}`,
      `dtype of "${key}" is ${dtype}, convert the checkpoint to one of them first`,
    );
  }
  const scaled = scaleOf(tensors, module);
  if (scaled) {
    refuse(
      TypeError,
      `the numbers of "${module.weight}" must be its weights`,
      `"${scaled}" scales them, convert the checkpoint to one without scales first`,
    );
  }
}

function note({ place, strength = 1, textEncoder, blocks }: MergePart): Note {
  return {
    file: nameOf(place),
    strength,
    ...(textEncoder !== undefined && { textEncoder }),
    ...(blocks !== undefined && { blocks }),
  };
}

/**
 * Looks every adapter of every part up in a checkpoint; the adapters are read once, and let go.
 *
 * @throws {TypeError} for an adapter that does not fit its module, or a dtype that is not written
 * @throws {SyntaxError} for a file that is malformed
 */
export async function planMerge(
  checkpoint: Checkpoint,
  parts: readonly MergePart[],
): Promise<Plan> {
  const names = lookup(checkpoint.model), files: ModuleFile[] = [];
  const weights = new Map<string, Uses>(), biases = new Map<string, Uses>();
  const add = (uses: Map<string, Uses>, key: string, module: CheckpointModule, step: Step) => {
    const own = uses.get(key) ?? [];
    uses.set(key, own);
    const steps = own.find((use) => use.module === module)?.steps;
    if (steps) steps.push(step);
    else own.push({ module, steps: [step] });
  };
  const close = async () => {
    for (const file of files) await file[Symbol.asyncDispose]();
  };
  const missing: string[][] = [], counts: number[] = [];
  try {
    for (const { place, config, strength = 1, textEncoder = strength, blocks } of parts) {
      const file = await openModules(place, { config }), used = new Set<string>();
      files.push(file);
      const weightOf = blocks === undefined ? () => 1 : blockWeights(blocks);
      const lost: string[] = [];
      let count = 0;
      for await (const { name, adapter, module: part, parts: keys } of adaptersOf(file)) {
        try {
          for (const { key } of keys) used.add(key);
          const found = names.get(name.replace(/^oft_(?=unet_|te\d?_)/, "lora_"));
          const module = found && checkpoint.modules.get(found.diffusers);
          if (!module) {
            lost.push(name);
            continue;
          }
          const bias = changesBias(adapter, file, module);
          check(name, adapter, checkpoint, module, bias);
          const s = (TEXT.test(module.name) ? textEncoder : strength) *
            weightOf(blockOf(module.name));
          if (s === 0) continue;
          const step = {
            ...{ file, part, strength: s },
            sum: !adapter.dora && !rowOf(adapter.algorithm).relative,
            difference: keys.find(({ suffix }) => DIFFERENCES.includes(suffix))?.key,
          };
          add(weights, module.weight, module, step);
          if (bias) add(biases, module.bias!, module, step);
          count++;
        } finally {
          dispose(adapter);
        }
      }
      const keys = [...file.tensors.tensors.keys()];
      if (used.size === 0) {
        throw new TypeError(
          `Cannot merge "${nameOf(place)}" as it must hold adapters: current tensors are ` +
            (keys.slice(0, 4).join(", ") || "none"),
        );
      }
      lost.push(...keys.filter((key) => !used.has(key)));
      missing.push(lost);
      counts.push(count);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { weights, biases, notes: parts.map(note), missing, counts, [Symbol.asyncDispose]: close };
}
