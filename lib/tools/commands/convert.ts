/** `lowrank convert`: the same adapters in another dialect, or as LoRAs where that is exact. */
import { type Command, Option } from "commander";
import { convert as converted } from "../../adapter/convert.ts";
import { copy } from "../../adapter/adapter.ts";
import { carried, free, metadataOf, opened, saved, type Saving, saving } from "../adapters.ts";
import { command, mayWrite } from "../command.ts";

interface Options extends Saving {
  algorithm?: "lora";
}

async function run(word: string, options: Options): Promise<void> {
  const since = performance.now();
  if (!options.dryRun) await mayWrite(options);
  const [file] = await opened([word]), leftovers = carried(file, word, options.leftovers);
  const adapters = new Map(
    [...file.adapters].map(([name, adapter]) =>
      [name, options.algorithm ? converted(adapter, options.algorithm) : copy(adapter)] as const
    ),
  );
  free(file.adapters);
  const told = options.algorithm ? "before" : "after";
  await saved(adapters, options, {
    dialect: file.dialect,
    leftovers,
    [told]: metadataOf(file),
    since,
  });
}

export const convert = (): Command =>
  saving(
    command(
      "convert",
      "the same adapters for other programs",
      "convert style.safetensors --dialect peft -o style_peft",
    )
      .argument("<adapter>", "a file of adapters, or PEFT's folder")
      .addOption(
        new Option("--algorithm <name>", "LoHa, LoKr, DyLoRA and cores as plain LoRAs")
          .choices(["lora"]),
      ),
  ).action(run);
