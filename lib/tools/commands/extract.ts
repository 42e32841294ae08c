/** `lowrank extract`: what a training changed, as an adapter. */
import { writeFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import type { Adapter } from "../../adapter/adapter.ts";
import { extractAll, type ExtractAllOptions } from "../../adapter/extract_all.ts";
import type { Extracted } from "../../adapter/extract/options.ts";
import { type Cut, UNCUT } from "../../adapter/rank.ts";
import { progress } from "../../display/progress.ts";
import { type Checkpoint, openCheckpoint, readBias, readKernel } from "../../files/checkpoint.ts";
import type { CheckpointModule } from "../../files/checkpoint_modules.ts";
import { rename } from "../../files/names.ts";
import type { TensorEntry } from "../../files/safetensors.ts";
import { entriesOf } from "../../files/residual.ts";
import { keyOf } from "../../files/lycoris.ts";
import { saved, type Saving, saving } from "../adapters.ts";
import { command, mayWrite, misuse } from "../command.ts";
import { figureOf, type Layer, whole } from "../report.ts";
import { number, size } from "../words.ts";

/** LyCORIS's modes, and the rule that each sets. */
const MODES = {
  fixed: "rank",
  threshold: "threshold",
  ratio: "ratio",
  percentile: "percentile",
  quantile: "percentile",
  full: undefined,
} as const satisfies Record<string, keyof Cut | undefined>;

const ALGORITHMS = ["lora", "lokr", "loha", "ia3", "full", "auto"] as const;

/** Ranks where none is told. */
const RANK = { lora: 16, loha: 4 } as const;

interface Options extends Saving {
  mode: keyof typeof MODES;
  algorithm: (typeof ALGORITHMS)[number];
  budget?: number;
  error?: number;
  tucker?: boolean;
  sparse?: boolean;
  useSparseBias?: boolean;
  sparsity: number;
  norms?: boolean;
  minDiff?: number;
  clamp?: number;
  factor?: number;
  restarts?: number;
  lycoris?: boolean;
  report?: string;
  figure?: string;
  /** `linearDim`, `convRatio` and so on */
  [rule: `${"linear" | "conv"}${string}`]: unknown;
}

/** What `--linear-…` or `--conv-…` tells of the rank in the mode asked for. */
function cutOf(options: Options, kind: "linear" | "conv"): Cut {
  const { mode, algorithm } = options, rule = MODES[mode];
  if (!rule || options.error !== undefined) return {};
  const name = mode === "fixed" ? "Dim" : mode[0].toUpperCase() + mode.slice(1);
  const told = options[`${kind}${name}`] ?? options[`linear${name}`];
  if (told !== undefined) return { [rule]: told };
  if (mode === "fixed") return algorithm in RANK ? { rank: RANK[algorithm as "lora"] } : {};
  misuse(
    `Cannot extract by ${mode} as it needs a number: current --linear-${mode} is not given`,
  );
}

/** The command's options as `extractAll` takes them. */
function asked(options: Options): ExtractAllOptions {
  const { mode, algorithm, budget, error, sparsity, dtype, factor, restarts } = options;
  const sparse = options.sparse || options.useSparseBias;
  if (algorithm === "auto" && budget === undefined && error === undefined) {
    misuse(
      "Cannot extract by the best of all algorithms as more bytes are always better: current limits " +
        "are none; give --budget 20MiB or --error 0.1",
    );
  }
  if (sparse && algorithm !== "lora") {
    misuse(`Cannot keep a sparse residual as it is a LoRA's: current algorithm is ${algorithm}`);
  }
  const { tucker, minDiff, clamp, lycoris } = options;
  return {
    algorithm: mode === "full" ? "full" : algorithm,
    ...cutOf(options, "linear"),
    conv: { ...UNCUT, ...cutOf(options, "conv"), error },
    ...{ error, bytes: budget, dtype, tucker, minDiff, clamp, lycoris, factor, restarts },
    ...(sparse && { sparsity }),
  };
}

/** The modules of both checkpoints that are to be compared, in the order of the first. */
function shared(base: Checkpoint, tuned: Checkpoint, options: Options): CheckpointModule[] {
  const full = options.mode === "full" || options.algorithm === "full";
  const kinds = ["linear", "conv", ...(full || options.norms ? ["norm"] : [])];
  return [...base.modules.values()].filter(({ name, kind, shape }) => {
    if (!kinds.includes(kind)) return false;
    const other = tuned.modules.get(name)?.shape;
    if (other?.join() === shape.join()) return true;
    throw new TypeError(
      `Cannot extract "${name}" as both checkpoints must be of one network: current shapes are ` +
        `${shape.join("×")} and ${other?.join("×") ?? "none"}`,
    );
  });
}

/** A layer as the report tells it. */
function layerOf({ adapter, norm, error, energy, sparse, missedBias }: Extracted): Layer {
  const { algorithm, rank } = adapter;
  return { algorithm, rank, norm, error: sparse?.error ?? error, energy, missedBias };
}

async function run(base: string, tuned: string, place: string | undefined, options: Options) {
  const since = performance.now(), output = options.output ?? place;
  if (output === undefined) {
    misuse("Cannot extract as the result must go somewhere: current output is none; give -o FILE");
  }
  const target = { ...options, output }, wanted = asked(options), { dtype } = options;
  if (!options.dryRun) await mayWrite(target);
  await using before = await openCheckpoint(base);
  await using after = await openCheckpoint(tuned);
  const modules = new Map(shared(before, after, options).map((module) => [module.name, module]));
  const names = rename(new Map([...modules.keys()].map((name) => [name, name])), {
    to: "kohya",
    model: before.model,
  });
  const kohya = new Map([...names].map(([kohya, name]) => [name, kohya]));
  const line = progress("extracting", modules.size * (options.budget === undefined ? 1 : 2));
  const side = async (checkpoint: Checkpoint, name: string) => {
    const module = checkpoint.modules.get(name)!;
    return [await readKernel(checkpoint, module), await readBias(checkpoint, module)] as const;
  };
  const load = async (name: string) => {
    if (!options.quiet) line.step(1, name);
    const [kernel, bias] = await side(before, name), [trained, bias2] = await side(after, name);
    return { base: kernel, tuned: trained, bias: { base: bias, tuned: bias2 } };
  };
  const overhead = [...names.keys()].reduce((sum, { length }) => sum + 3 * (length + 90), 1024);
  const { layers, left } = await extractAll(modules.keys(), load, { ...wanted, overhead });
  line.done();
  if (layers.size === 0) {
    throw new RangeError(
      `Cannot extract "${tuned}" as it must differ from "${base}": current number of layers that ` +
        `do is ${left.size}, of ${modules.size}`,
    );
  }
  const adapters = new Map<string, Adapter>(), all: [string, Layer][] = [];
  const leftovers: [string, TensorEntry][] = [];
  for (const [name, found] of layers) {
    const { sparse, adapter } = found, own = kohya.get(name)!;
    adapters.set(own, adapter);
    all.push([own, layerOf(found)]);
    if (!sparse) continue;
    const entries = entriesOf(keyOf(own), sparse, adapter.shape, dtype === "f32" ? "F32" : "F16");
    leftovers.push(...entries.map((entry): [string, TensorEntry] => [entry.name, entry]));
  }
  for (const [name, quality] of left) {
    all.push([kohya.get(name)!, { algorithm: "none", rank: 0, ...quality }]);
  }
  const told = new Map(all), report = new Map<string, Layer>();
  for (const own of names.keys()) if (told.has(own)) report.set(own, told.get(own)!);
  if (options.report) await writeFile(options.report, JSON.stringify(whole(report), null, 2));
  if (options.figure) await figureOf(report).save(options.figure);
  await saved(adapters, target, { leftovers, report, since });
}

const KINDS = { linear: "linear layers and 1×1 kernels", conv: "kernels wider than 1×1" } as const;

/** Adds `--linear-dim`, `--conv-threshold` and the other numbers of the modes. */
function modes(command: Command): Command {
  command.optionsGroup("The number of each mode; --conv-… is as --linear-… unless told:");
  for (const [kind, which] of Object.entries(KINDS)) {
    const add = (name: string, what: string) =>
      command.addOption(
        new Option(`--${kind}-${name} <number>`, `${what}, of ${which}`).argParser(number),
      );
    add("dim", `fixed: the rank (${RANK.lora}; LoHa ${RANK.loha})`);
    add("threshold", "threshold: singular values above it");
    add("ratio", "ratio: those above so much of the largest");
    add("percentile", "percentile: as many as sum to less than this share");
    add("quantile", "the same");
  }
  return command;
}

/** What LyCORIS's script calls otherwise, or has and needs not. */
const ACCEPTED = [
  "--use-sparse-bias",
  "--is-v2",
  "--is-sdxl",
  "--safetensors",
  "--disable-cp",
  "--device <name>",
];

export const extract = (): Command => {
  const made = command(
    "extract",
    "the difference of two checkpoints as an adapter",
    "extract base.safetensors tuned.safetensors -o style.safetensors --mode fixed --linear-dim 16",
  )
    .argument("<base>", "the checkpoint before the training: a file, shards' index or a folder")
    .argument("<tuned>", "the checkpoint after it")
    .argument("[output]", "the file to write, as -o")
    .addOption(
      new Option("--mode <name>", "what each layer's rank is chosen by").choices(Object.keys(MODES))
        .default("fixed"),
    )
    .addOption(
      new Option("--algorithm <name>", "of the adapter").choices(ALGORITHMS).default("lora"),
    )
    .option("--budget <size>", "least error of all layers together in a file so large", size)
    .option("--error <number>", "the fewest bytes that miss at most so much of each layer", number)
    .option("--tucker", "kernels wider than 1×1 with a core between two pointwise factors")
    .option("--sparse", "keep the largest of what a LoRA misses too")
    .option("--sparsity <number>", "the share of what is missed that stays missed", number, 0.98)
    .option("--norms", "normalizations too, whole")
    .option("--min-diff <number>", "layers that differ by no more are left out", number)
    .option("--clamp <number>", "clip factors to this quantile, as kohya does with 0.99", number)
    .option("--factor <number>", "LoKr: the size of its first part", number)
    .option("--restarts <number>", "LoHa: random starts", number)
    .option("--lycoris", "LyCORIS's own rules: whole from half the outputs on, its second stage")
    .option("--report <file>", "each layer's error and energy as JSON")
    .option("--figure <file>", "each layer's error drawn, .png or .svg");
  for (const accepted of ACCEPTED) made.addOption(new Option(accepted).hideHelp());
  return modes(saving(made)).action(run);
};
