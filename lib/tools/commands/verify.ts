/** `lowrank verify`: whether an adapter is in a checkpoint, and at what strength. */
import type { Command } from "commander";
import { progress } from "../../display/progress.ts";
import { table } from "../../display/table.ts";
import { type Estimate, type Verified, verify as verified } from "../../files/verify.ts";
import { answer, command, type Common } from "../command.ts";

interface Options extends Common {
  base?: string;
  layers?: boolean;
}

/** Each verdict as a sentence, with the strength in it. */
const SENTENCES: Record<Verified["verdict"], (told: string) => string> = {
  yes: (told) => `it is in there at ${told}, and nothing else was changed in its layers`,
  "among others": (told) => `it is in there at ${told}, among other changes`,
  no: () => "it is not in there",
  likely: (told) =>
    `it seems to be in there at about ${told}; the checkpoint it was merged into would tell: --base FILE`,
  unknown: () => "without the checkpoint it was merged into there is no telling: --base FILE",
};

const percent = (share: number) => share < 1e-5 ? "0 %" : `${(100 * share).toPrecision(3)} %`;

/** A strength as it is told. */
function strengthIn({ strength, deviation, residual }: Estimate) {
  return {
    strength: strength.toFixed(4),
    "±": deviation.toPrecision(2),
    ...(residual !== undefined && { unexplained: percent(residual) }),
  };
}

function text(words: readonly [string, string], found: Verified, layers = false): string {
  const { verdict, strength, deviation, residual, networks, missing } = found;
  const told = `strength ${strength.toFixed(3)} ± ${deviation.toPrecision(2)}`;
  const rows = layers
    ? found.layers.map((layer) => ({ layer: layer.name, ...strengthIn(layer) }))
    : Object.entries(networks).map(([network, own]) => ({ network, ...strengthIn(own) }));
  return [
    `${words[1]} in ${words[0]}: ${SENTENCES[verdict](told)}`,
    ...(residual !== undefined
      ? [`${percent(residual)} of what changed in ${found.layers.length} layers is not explained`]
      : []),
    ...(missing.length > 0
      ? [`${missing.length} layers are not the checkpoint's: ${missing.slice(0, 4).join(", ")}`]
      : []),
    "",
    table(rows),
  ].join("\n");
}

async function run(model: string, adapter: string, options: Options): Promise<void> {
  let line: ReturnType<typeof progress> | undefined;
  const found = await verified(model, adapter, {
    base: options.base,
    onModule: (_, all) => {
      if (!options.quiet) (line ??= progress("verifying", all)).step();
    },
  });
  line?.done();
  answer(options, found, text([model, adapter], found, options.layers));
  if (found.verdict === "no" || found.verdict === "unknown") {
    throw new Error(
      `Cannot find "${adapter}" in "${model}" as it must explain what differs: ` +
        `current verdict is ${found.verdict}`,
    );
  }
}

export const verify = (): Command =>
  command(
    "verify",
    "tell whether an adapter is in a checkpoint, and at what strength; ends with 1 if it is not",
    "verify merged.safetensors style.safetensors --base base.safetensors",
  )
    .argument("<model>", "the checkpoint: a file, an index of shards, a folder")
    .argument("<adapter>", "adapters of any dialect")
    .option("--base <checkpoint>", "what it was merged into; without it there are only guesses")
    .option("--layers", "tell every layer")
    .action(run);
