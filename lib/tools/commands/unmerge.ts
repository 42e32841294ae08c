/** `lowrank unmerge`: the checkpoint before adapters were merged into it. */
import type { Command } from "commander";
import { type UnmergedFrom, unmergeFrom } from "../../files/merge_into.ts";
import { answer, command, mayWrite, misuse } from "../command.ts";
import { type Merging, merging, partsOf, sayLeft, watched } from "../merging.ts";
import { bytes, time } from "../words.ts";

function told({ output, dryRun }: Merging, unmerged: UnmergedFrom, ms: number): string {
  const { bytes: size, tensors, changed, exact, error } = unmerged;
  const how = exact
    ? "bit for bit what it was"
    : error
    ? `no number off by more than about ${error.share.toPrecision(2)} of its tensor's largest ` +
      `("${error.tensor}"), as it was rounded when it was merged and now`
    : "by subtraction, with its rounding";
  return `${output} ${dryRun ? "would be" : "is"} ${
    bytes(size)
  }, ${changed.length} of ${tensors} ` +
    `tensors changed, ${how}${dryRun ? "" : `, in ${time(ms)}`}`;
}

async function run(merged: string, adapters: string[], options: Merging): Promise<void> {
  const since = performance.now(), { output, backup, dryRun, skipMissing } = options;
  if (adapters.length === 0 && backup === undefined) {
    misuse(
      "Cannot unmerge as it must be told what to take out: current adapters are none; " +
        "name them as they were merged, or give --backup FILE",
    );
  }
  const parts = partsOf(adapters, options);
  if (!dryRun) {
    await mayWrite(options);
    await sayLeft(options, output);
  }
  const unmerged = await watched(
    "unmerging",
    options,
    (watch) => unmergeFrom(merged, parts, output, { skipMissing, backup, dryRun, ...watch }),
  );
  const ms = performance.now() - since;
  answer(options, { output, ...unmerged, seconds: ms / 1000 }, told(options, unmerged, ms));
}

export const unmerge = (): Command =>
  merging(
    command(
      "unmerge",
      "a checkpoint as it was before adapters were merged into it",
      "unmerge out.safetensors style.safetensors:0.8 -o base.safetensors",
    )
      .argument("<merged>", "the checkpoint: a file, shards' index or a folder")
      .argument("[adapters...]", "what was merged into it, in the same order and as strong"),
  )
    .option("--backup <file>", "what merge --backup kept: gives everything back bit for bit")
    .action(run);
