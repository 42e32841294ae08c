/** `lowrank metadata`: what a file tells of itself, shown, set or stripped; its tensors stay as they are. */
import type { Command } from "commander";
import { hashed } from "../../files/hashes.ts";
import { open, write } from "../../files/safetensors.ts";
import { answer, command, type Common, mayWrite, misuse } from "../command.ts";

interface Options extends Common {
  set?: string[];
  remove?: string[];
  strip?: boolean;
  keep?: string[];
  output?: string;
  inPlace?: boolean;
  force?: boolean;
}

/** `key=value`, where the value may have more of "=". */
function pairOf(text: string): [key: string, value: string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  misuse(`Cannot set metadata as it must be key=value: current text is ${text}`);
}

/** The metadata after all changes: stripped first, then removed, then set. */
function changed(
  metadata: Record<string, string>,
  { set = [], remove = [], strip, keep = [] }: Options,
): Record<string, string> {
  const missing = remove.find((key) => !Object.hasOwn(metadata, key));
  if (missing !== undefined) {
    throw new RangeError(
      `Cannot remove "${missing}" from the metadata as it must be there: current keys are ` +
        (Object.keys(metadata).join(", ") || "none"),
    );
  }
  const kept = Object.entries(metadata).filter(([key]) =>
    !remove.includes(key) && (!strip || keep.includes(key))
  );
  return Object.fromEntries([...kept, ...set.map(pairOf)]);
}

/** Values that are JSON themselves, as kohya's tag counts, are shown on one line each all the same. */
const shown = (metadata: Record<string, string>) =>
  Object.entries(metadata).map(([key, value]) => `${key}: ${value}`).join("\n") || "no metadata";

async function run(file: string, options: Options): Promise<void> {
  const { set, remove, strip, output, inPlace, force } = options;
  await using tensors = await open(file);
  if (!set && !remove && !strip) {
    return answer(options, tensors.metadata, shown(tensors.metadata));
  }
  const target = output ?? (inPlace ? file : undefined);
  if (target === undefined) {
    misuse(
      "Cannot change metadata as it must go somewhere: current output is none; " +
        "give -o FILE, or --in-place",
    );
  }
  await mayWrite({ output: target, force: force || (inPlace && target === file) });
  const entries = [...tensors.tensors.keys()].map(tensors.entry);
  const metadata = await hashed(entries, changed(tensors.metadata, options));
  await write(target, entries, metadata);
  answer(
    options,
    { output: target, metadata },
    `${target} has ${Object.keys(metadata).length} keys`,
  );
}

export const metadata = (): Command =>
  command(
    "metadata",
    "show what a file tells of itself, or change it",
    'metadata style.safetensors --set ss_output_name="my style" -o renamed.safetensors',
  )
    .argument("<file>", "a safetensors file; a URL is read by ranges")
    .option("--set <key=value...>", "set keys")
    .option("--remove <key...>", "remove keys")
    .option("--strip", "remove all keys")
    .option("--keep <key...>", "with --strip, but these")
    .option("-o, --output <file>", "write the changed file here")
    .option("--in-place", "write it over the file itself, at once and whole")
    .option("--force", "replace a file that is there")
    .action(run);
