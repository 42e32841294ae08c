/** What merging and unmerging share: which adapters how strong, progress that can be stopped, what cut-short runs left. */
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { type Command, InvalidArgumentError } from "commander";
import { blockWeights } from "../adapter/block.ts";
import { progress } from "../display/progress.ts";
import type { MergePart, WriteOptions } from "../files/merge_into.ts";
import { type Common, misuse, say, type Target, writing } from "./command.ts";
import { bytes, number, weighted } from "./words.ts";

/** The options of both commands. */
export interface Merging extends Common, Target {
  /** one for all adapters, or one each */
  textEncoder?: number[];
  blocks?: string[];
  skipMissing?: boolean;
  backup?: string;
}

function blocks(text: string, before: string[] = []): string[] {
  try {
    blockWeights(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
  return [...before, text];
}

/** Adds the options of {@link Merging}. */
export function merging(command: Command): Command {
  return writing(command)
    .option(
      "--text-encoder <number>",
      "the strength in text encoders; again for each adapter, in their order",
      (text: string, before: number[] = []) => [...before, number(text)],
    )
    .option(
      "--blocks <numbers>",
      "shares of the strength: 26, 17 (SD), 20 or 12 (SDXL) numbers, or IN=0.5,MID=1,OUT03=0; again for each adapter",
      blocks,
    )
    .option("--skip-missing", "leave out adapters that the checkpoint has no module for");
}

/** Each adapter with its own options. */
export function partsOf(words: readonly string[], options: Merging): MergePart[] {
  const { textEncoder = [], blocks = [] } = options;
  for (const [name, { length }] of [["text-encoder", textEncoder], ["blocks", blocks]] as const) {
    if (length <= 1 || length === words.length) continue;
    misuse(
      `Cannot merge as --${name} is told once or for every adapter: current count is ${length} ` +
        `for ${words.length}`,
    );
  }
  const of = <T>(all: readonly T[], i: number) => (all.length > 1 ? all[i] : all[0]);
  return words.map((word, i) => {
    const text = of(textEncoder, i), shares = of(blocks, i);
    return {
      ...weighted(word),
      ...(text !== undefined && { textEncoder: text }),
      ...(shares !== undefined && { blocks: shares }),
    };
  });
}

/** Runs work with a line of progress; Ctrl+C ends it by an error, so that nothing half done stays. */
export async function watched<T>(
  title: string,
  options: Common,
  work: (options: Required<Pick<WriteOptions, "onTensor">>) => Promise<T>,
): Promise<T> {
  let line: ReturnType<typeof progress> | undefined, stopped = false;
  const stop = () => {
    stopped = true;
  };
  process.once("SIGINT", stop);
  try {
    return await work({
      onTensor: (_, total) => {
        if (stopped) {
          throw new Error(`Cannot go on ${title} as it was interrupted: current output is none`);
        }
        if (!options.quiet) (line ??= progress(title, total)).step();
      },
    });
  } finally {
    line?.done();
    process.removeListener("SIGINT", stop);
  }
}

/** Says what runs that were killed have left beside a target. */
export async function sayLeft(options: Common, output: string): Promise<void> {
  const folder = dirname(output), left: string[] = [];
  for (const name of await readdir(folder).catch((): string[] => [])) {
    if (!/^\..*\.partial$/.test(name)) continue;
    const { size } = await stat(join(folder, name)).catch(() => ({ size: 0 }));
    left.push(`"${join(folder, name)}" (${bytes(size)})`);
  }
  if (left.length === 0) return;
  say(options, `left by runs that were cut short, unless one is writing now: ${left.join(", ")}`);
}
