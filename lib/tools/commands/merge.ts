/** `lowrank merge`: adapters into a checkpoint. */
import type { Command } from "commander";
import { type MergedInto, mergeInto } from "../../files/merge_into.ts";
import { answer, command, mayWrite } from "../command.ts";
import { type Merging, merging, partsOf, sayLeft, watched } from "../merging.ts";
import { bytes, time } from "../words.ts";

const few = (names: readonly string[]) =>
  names.slice(0, 5).join(", ") + (names.length > 5 ? ` and ${names.length - 5} more` : "");

function told({ output, dryRun }: Merging, merged: MergedInto, ms: number): string {
  const { bytes: size, tensors, changed, parts, backup } = merged;
  const lines = parts.map(({ file, strength, textEncoder, modules, missing }) =>
    `${file} at ${strength}${textEncoder === undefined ? "" : `, text encoders ${textEncoder}`}: ` +
    `${modules} modules${missing.length > 0 ? `; left out: ${few(missing)}` : ""}`
  );
  const verb = dryRun ? "would be" : "is";
  return [
    ...lines,
    `${output} ${verb} ${bytes(size)}, ${changed.length} of ${tensors} tensors changed` +
    (backup === undefined ? "" : `; the backup ${verb} ${bytes(backup)}`) +
    (dryRun ? "" : `, in ${time(ms)}`),
  ].join("\n");
}

async function run(base: string, adapters: string[], options: Merging): Promise<void> {
  const since = performance.now(), { output, backup, force, dryRun, skipMissing } = options;
  const parts = partsOf(adapters, options);
  if (!dryRun) {
    await mayWrite(options);
    if (backup !== undefined) await mayWrite({ output: backup, force });
    await sayLeft(options, output);
  }
  const merged = await watched(
    "merging",
    options,
    (watch) => mergeInto(base, parts, output, { skipMissing, backup, dryRun, ...watch }),
  );
  const ms = performance.now() - since;
  answer(options, { output, ...merged, seconds: ms / 1000 }, told(options, merged, ms));
}

export const merge = (): Command =>
  merging(
    command(
      "merge",
      "adapters into a checkpoint, which keeps its dtypes, its order and its metadata",
      "merge base.safetensors style.safetensors:0.8 other.safetensors:-0.5 -o out.safetensors",
    )
      .argument("<base>", "the checkpoint: a file, shards' index or a folder; a URL of a file")
      .argument(
        "<adapters...>",
        "files of adapters; the number after the last colon is the strength",
      ),
  )
    .option("--backup <file>", "keep the tensors that change, for unmerge to give back bit for bit")
    .action(run);
