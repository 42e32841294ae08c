#!/usr/bin/env bun
/** `lowrank`: what can be done with files of adapters and with checkpoints, a command each. */
import process from "node:process";
import { Command } from "commander";
import manifest from "../../package.json" with { type: "json" };
import { use } from "../engines/engine.ts";
import { exitCode, sentence } from "./command.ts";
import { convert } from "./commands/convert.ts";
import { doctor } from "./commands/doctor.ts";
import { extract } from "./commands/extract.ts";
import { inspect } from "./commands/inspect.ts";
import { join } from "./commands/join.ts";
import { merge } from "./commands/merge.ts";
import { metadata } from "./commands/metadata.ts";
import { prompt } from "./commands/prompt.ts";
import { resize } from "./commands/resize.ts";
import { unmerge } from "./commands/unmerge.ts";
import { verify } from "./commands/verify.ts";

/** In the order in which help lists them. */
const COMMANDS = [
  merge,
  unmerge,
  extract,
  join,
  resize,
  convert,
  metadata,
  inspect,
  doctor,
  verify,
  prompt,
];

/** The program: every command under one name. */
export function program(): Command {
  const all = new Command("lowrank")
    .description(
      "Adapters of convolutional and linear layers (LoRA, LoHa, LoKr, (IA)^3 …) as files.",
    )
    .version(manifest.version)
    .addHelpText("after", "\nlowrank <command> --help says more of each, with an example.")
    .hook("preAction", async () => {
      await use("auto");
    })
    .exitOverride();
  for (const make of COMMANDS) all.addCommand(make());
  return all;
}

/** `--linear_dim` as `--linear-dim`: LyCORIS's and kohya's scripts spell their options with underscores. */
function hyphened(word: string): string {
  return word.replace(/^--[a-z0-9_]+(?==|$)/, (option) => option.replaceAll("_", "-"));
}

/** Runs one command line; what went wrong is one sentence on standard error. */
export async function run(words: readonly string[]): Promise<0 | 1 | 2> {
  try {
    await program().parseAsync(words.map(hyphened), { from: "user" });
    return 0;
  } catch (error) {
    const told = sentence(error);
    if (told !== undefined) process.stderr.write(`${told}\n`);
    return exitCode(error);
  }
}

if (import.meta.main) process.exitCode = await run(process.argv.slice(2));
