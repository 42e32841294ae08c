/** `lowrank join`: several files of adapters as one, exact, and smaller if asked. */
import { basename } from "node:path";
import type { Command } from "commander";
import { joinAll } from "../../adapter/join_all.ts";
import { resizeAll } from "../../adapter/resize.ts";
import { progress } from "../../display/progress.ts";
import { alike } from "../../files/alike.ts";
import { carried, free, opened, overhead, saved, type Saving, saving } from "../adapters.ts";
import { baseOf } from "../base.ts";
import { command, mayWrite } from "../command.ts";
import { cutOf, isRuled, ranking, type Ruled } from "../ranks.ts";
import { weighted } from "../words.ts";

interface Options extends Saving {
  base?: string;
}

async function run(words: string[], options: Options & Ruled): Promise<void> {
  const since = performance.now(), parts = words.map(weighted);
  if (!options.dryRun) await mayWrite(options);
  await using base = await baseOf(options.base);
  const files = await opened(parts.map(({ place }) => place));
  const leftovers = files.flatMap((file, i) => carried(file, parts[i].place, options.leftovers));
  const model = options.model ?? base.model;
  const named = alike(files.map(({ adapters }) => adapters), model);
  const line = progress("joining", new Set(named.flatMap((file) => [...file.keys()])).size);
  const joined = await joinAll(
    named.map((adapters, i) => ({ adapters, strength: parts[i].strength })),
    { base: base.kernel, onModule: () => options.quiet || line.step() },
  );
  line.done();
  for (const { adapters } of files) free(adapters);
  const { rules, conv } = cutOf(options), { bytes, dtype } = options;
  const resized = isRuled(options) &&
    resizeAll(joined, { ...rules, conv, bytes, dtype, overhead: overhead(joined) });
  if (resized) free(joined);
  await saved(resized ? resized.adapters : joined, options, {
    dialect: files[0].dialect,
    leftovers,
    after: {
      "modelspec.merged_from": parts.map(({ place, strength }) => `${basename(place)}:${strength}`)
        .join(", "),
    },
    report: resized ? resized.report : undefined,
    since,
  });
}

export const join = (): Command =>
  ranking(saving(
    command(
      "join",
      "several files of adapters as one: any mix of algorithms and dialects, exact unless a rank is asked for",
      "join style.safetensors:0.8 face.safetensors:-0.2 -o both.safetensors --bytes 20MiB",
    )
      .argument("<adapters...>", "files; a number after the last colon is the strength")
      .option("--base <checkpoint>", "what they were trained on, for DoRA, (IA)^3, OFT, GLoRA"),
  )).action(run);
