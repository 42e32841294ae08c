/** The rules of a rank as options. */
import type { Command } from "commander";
import type { Cut } from "../adapter/rank.ts";
import { number, size } from "./words.ts";

/** What each rule keeps, as help says it. */
const RULES: { readonly [rule in keyof Cut]-?: string } = {
  rank: "so many singular values",
  threshold: "those above a number",
  ratio: "those above a share of the largest",
  percentile: "as many as sum to less than a share of all (LyCORIS's quantile)",
  cumulative: "the fewest that sum to a share of all (kohya's sv_cumulative)",
  fro: "the fewest with a share of the norm (kohya's sv_fro)",
  energy: "the fewest with a share of the norm's square",
  error: "the fewest that miss at most a share of the norm",
};

/** The rules as the parser tells them: `rank`, `convRank`, … */
export type Ruled = Cut & { readonly [rule: `conv${string}`]: unknown } & { bytes?: number };

const capital = (rule: string) => rule[0].toUpperCase() + rule.slice(1);

/** Adds `--rank`, `--conv-rank` and so on for every rule of {@link Cut}, and `--bytes` for all layers together. */
export function ranking(command: Command): Command {
  command.optionsGroup("Rank, of several rules the smallest:");
  for (const [rule, kept] of Object.entries(RULES)) {
    command.option(`--${rule} <number>`, kept, number);
  }
  for (const rule of Object.keys(RULES)) {
    command.option(`--conv-${rule} <number>`, "the same, of kernels wider than 1×1", number);
  }
  return command
    .option(
      "--bytes <size>",
      "least error of all layers together in a file so large, as 20MiB",
      size,
    );
}

/** The rules of both kinds of layers, as `resizeAll` and `extractAll` take them. */
export function cutOf(options: Ruled): { rules: Cut; conv?: Cut } {
  const told = (name: (rule: string) => string) =>
    Object.fromEntries(
      Object.keys(RULES).flatMap((rule) => {
        const value = (options as Record<string, unknown>)[name(rule)];
        return value === undefined ? [] : [[rule, value]];
      }),
    ) as Cut;
  const rules = told((rule) => rule), conv = told((rule) => `conv${capital(rule)}`);
  return Object.keys(conv).length > 0 ? { rules, conv } : { rules };
}

/** Whether anything says how large the ranks are. */
export function isRuled(options: Ruled): boolean {
  const { rules, conv } = cutOf(options);
  return conv !== undefined || options.bytes !== undefined || Object.keys(rules).length > 0;
}
