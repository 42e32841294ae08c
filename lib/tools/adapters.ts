/** What commands that write adapters share: how they are opened, what goes with them, and how they are saved. */
import { stat } from "node:fs/promises";
import { type Command, Option } from "commander";
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { bytesOf } from "../adapter/bytes.ts";
import { type AdapterFile, open, save, type SaveOptions } from "../files/adapters.ts";
import { NAMES } from "../files/dialects.ts";
import { described } from "../files/lycoris.ts";
import { CONFIG } from "../files/peft.ts";
import { MODELS } from "../files/stable_diffusion.ts";
import { answer, type Common, mayWrite, type Target, writing } from "./command.ts";
import { type Layer, whole } from "./report.ts";
import { bytes, time } from "./words.ts";

/** The options of every command that writes a file of adapters. */
export interface Saving extends Common, Target {
  dialect?: SaveOptions["dialect"];
  dtype: NonNullable<SaveOptions["dtype"]>;
  model?: keyof typeof MODELS;
  leftovers?: "keep" | "drop";
}

/** Adds the options of {@link Saving}. */
export function saving(command: Command): Command {
  return writing(command)
    .addOption(new Option("--dialect <name>", "whose keys it has").choices(NAMES))
    .addOption(
      new Option("--dtype <name>", "how it stores numbers").choices(["f32", "f16", "bf16"])
        .default("f32"),
    )
    .addOption(
      new Option("--model <name>", "whose modules it adapts, where the names do not tell")
        .choices(Object.keys(MODELS)),
    )
    .addOption(
      new Option("--leftovers <what>", "tensors that are no adapter's").choices(["keep", "drop"]),
    );
}

/** What a file holds besides adapters, and kohya's readers know: textual inversions. */
const EMBEDDING = /^bundle_emb\./;

/**
 * The tensors beside adapters that go over into the file written: embeddings, and all others if told so.
 *
 * @throws {TypeError} for others, as nothing is dropped silently
 */
export function carried(
  { leftovers }: AdapterFile,
  file: string,
  told: Saving["leftovers"],
): [string, NonNullable<ReturnType<AdapterFile["leftovers"]["get"]>>][] {
  const others = [...leftovers.keys()].filter((key) => !EMBEDDING.test(key));
  if (others.length > 0 && told === undefined) {
    throw new TypeError(
      `Cannot write the adapters of "${file}" as every tensor must be understood: current tensors ` +
        `that are not: ${others.slice(0, 4).join(", ")}` +
        (others.length > 4 ? ` and ${others.length - 4} more` : "") +
        "; --leftovers keep writes them as they are, --leftovers drop leaves them out",
    );
  }
  return [...leftovers].filter(([key]) => told === "keep" || EMBEDDING.test(key));
}

/** Opens files one after the other; if one cannot be, the adapters of the others are freed. */
export async function opened(places: readonly string[]): Promise<AdapterFile[]> {
  const files: AdapterFile[] = [];
  try {
    for (const place of places) {
      const file = await open(place);
      files.push(file);
      if (file.adapters.size > 0) continue;
      const keys = [...file.leftovers.keys()];
      throw new TypeError(
        `Cannot use "${place}" as it must hold adapters: current tensors are ` +
          (keys.slice(0, 4).join(", ") || "none"),
      );
    }
    return files;
  } catch (error) {
    for (const { adapters } of files) free(adapters);
    throw error;
  }
}

/** A file's metadata without what is told of its own tensors. */
export function metadataOf({ metadata }: AdapterFile): AdapterFile["metadata"] {
  const { [CONFIG]: _config, lowrank: _notes, ...told } = metadata;
  return told;
}

/** Frees the tensors of adapters. */
export function free(adapters: ReadonlyMap<string, Adapter>): void {
  for (const adapter of adapters.values()) dispose(adapter);
}

/** What all layers miss together, and which misses most. */
function missed(report: ReadonlyMap<string, Layer>): string {
  const percent = (share: number) => `${(100 * share).toPrecision(3)} %`;
  const [name, { error }] = [...report].reduce((worst, next) =>
    worst[1].error >= next[1].error ? worst : next
  );
  return `error ${percent(whole(report).error)}, at most ${percent(error)} in ${name}`;
}

/** Saves adapters where the options say, answers with what is in the file, and frees them. */
export async function saved(
  adapters: ReadonlyMap<string, Adapter>,
  options: Saving,
  { dialect = "kohya", leftovers = [], before, after, report, since }: {
    /** where the options tell none */
    dialect?: SaveOptions["dialect"];
    leftovers?: ReturnType<typeof carried>;
    /** of the file that they are from; what kohya's readers look for is made anew */
    before?: AdapterFile["metadata"];
    /** whatever is made anew */
    after?: AdapterFile["metadata"];
    report?: ReadonlyMap<string, Layer>;
    /** when the work began */
    since: number;
  },
): Promise<void> {
  const { output, dtype, model, dryRun } = options, own = options.dialect ?? dialect;
  if (!dryRun) {
    await mayWrite(options);
    const made = own === "kohya" ? described(adapters) : {};
    const metadata = { ...before, ...made, ...after };
    await save(output, adapters, {
      ...{ dialect: own, dtype, model, metadata },
      leftovers: new Map(leftovers),
    });
  }
  const all = [...adapters.values()], ranks = all.map(({ rank }) => rank);
  const algorithms = [...new Set(all.map(({ algorithm }) => algorithm))];
  const size = await sizeOf(output, dryRun ? adapters : undefined, dtype);
  const [least, most] = [Math.min(...ranks), Math.max(...ranks)];
  const text = [
    `${dryRun ? "would write " : ""}${output}: ${adapters.size} modules as ${
      algorithms.join(", ")
    }`,
    ...(most > 0 ? [least === most ? `rank ${most}` : `rank ${least} to ${most}`] : []),
    `${bytes(size)} as ${own}, ${dtype}`,
    `in ${time(performance.now() - since)}`,
    ...(report ? [missed(report)] : []),
  ].join("; ");
  const layers = report && Object.fromEntries(report);
  free(adapters);
  answer(options, { output, dialect: own, dtype, bytes: size, algorithms, layers }, text);
}

/** The bytes of a file, or of what it would hold. */
async function sizeOf(
  output: string,
  planned: ReadonlyMap<string, Adapter> | undefined,
  dtype: Saving["dtype"],
): Promise<number> {
  if (planned) {
    return [...planned.values()].reduce((sum, adapter) => sum + bytesOf(adapter, dtype), 0);
  }
  const found = await stat(output);
  return found.isDirectory()
    ? (await stat(`${output}/adapter_model.safetensors`)).size
    : found.size;
}

/** Bytes of a file of these adapters that are no numbers of theirs, at the most. */
export function overhead(adapters: ReadonlyMap<string, Adapter>): number {
  const keys = [...adapters].map(([name, { factors }]) =>
    (Object.keys(factors).length + 1) * (name.length + 90)
  );
  return keys.reduce((sum, length) => sum + length, 1024);
}
