/** `lowrank resize`: the same adapters at smaller ranks, each the best there is of its rank. */
import type { Command } from "commander";
import { resizeAll } from "../../adapter/resize.ts";
import {
  carried,
  free,
  metadataOf,
  opened,
  overhead,
  saved,
  type Saving,
  saving,
} from "../adapters.ts";
import { command, mayWrite, misuse } from "../command.ts";
import { cutOf, isRuled, ranking, type Ruled } from "../ranks.ts";

async function run(word: string, options: Saving & Ruled): Promise<void> {
  const since = performance.now();
  if (!isRuled(options)) {
    misuse(
      "Cannot resize adapters as a rule must say to which rank: current rules are none; " +
        "give --rank 8, --error 0.05, --bytes 20MiB or another",
    );
  }
  if (!options.dryRun) await mayWrite(options);
  const [file] = await opened([word]);
  const leftovers = carried(file, word, options.leftovers);
  const { rules, conv } = cutOf(options), { bytes, dtype } = options, { adapters: before } = file;
  const { adapters, report } = resizeAll(before, {
    ...rules,
    ...{ conv, bytes, dtype, overhead: overhead(before) },
  });
  free(before);
  await saved(adapters, options, {
    dialect: file.dialect,
    leftovers,
    before: metadataOf(file),
    report,
    since,
  });
}

export const resize = (): Command =>
  ranking(saving(
    command(
      "resize",
      "the same adapters at smaller ranks: LoRA, LoHa, LoKr, DyLoRA, Tucker cores, whole differences",
      "resize style.safetensors --error 0.05 --rank 32 -o smaller.safetensors",
    ).argument("<adapter>", "a file of adapters"),
  )).action(run);
