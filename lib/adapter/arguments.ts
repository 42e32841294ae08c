/**
 * The arguments of LyCORIS and of kohya's trainer as settings, and back: what was tried small here is trained large there.
 *
 * An argument means here what LyCORIS 4.1.3 makes of it, traps included; where that is not what it looks like, it is told.
 */
import { type AdapterOptions, optionsOf } from "./adapter.ts";
import { isPresetName, type PresetName, PRESETS } from "./presets.ts";
import type { NetworkSettings } from "./rules.ts";
import { algorithmNamed, lycorisName } from "./settings.ts";

/** Arguments by name, with values as a command line or a program has them; what is undefined is not given. */
export type Arguments = { readonly [name: string]: string | number | boolean | null | undefined };
type Value = Arguments[string];

/** Who reads the arguments: kohya's trainer (`lycoris.kohya`), or a program that calls `create_lycoris`. */
export type Reader = "kohya" | "create_lycoris";

/** What a trainer is told; `adapt(model, settings)` does it here. */
export interface TrainerSettings extends NetworkSettings {
  /** which modules take part */
  preset?: PresetName | `${string}.toml`;
  /** how many times faster `up` learns, for `loraPlus(optimizer, adapters, ratio)` */
  loraPlus?: number;
}

/** Options and what they are when nothing is said, in both programs, with LyCORIS's names. */
const OPTIONS: readonly [option: keyof AdapterOptions, name: string, nothing: unknown][] = [
  ["tucker", "use_tucker", false],
  ["scalar", "use_scalar", false],
  ["factor", "factor", -1],
  ["decomposeBoth", "decompose_both", false],
  ["full", "full_matrix", false],
  ["unbalanced", "unbalanced_factorization", false],
  ["block", "block_size", undefined],
  ["constraint", "constraint", 0],
  ["rescaled", "rescaled", false],
  ["dora", "dora_wd", false],
  ["rankScale", "rs_lora", "alpha/r"],
  ["dropout", "dropout", 0],
  ["rankDropout", "rank_dropout", 0],
  ["moduleDropout", "module_dropout", 0],
];

/** Names of old, whose values LyCORIS writes over those of the new. */
const RENAMED: { readonly [name: string]: string } = {
  disable_conv_cp: "use_tucker",
  use_cp: "use_tucker",
  use_conv_cp: "use_tucker",
  constrain: "constraint",
};

/** Everything else that is read. */
const READ = [
  ...["algo", "preset", "multiplier", "network_dim", "network_alpha", "network_dropout"],
  ...["linear_dim", "linear_alpha", "conv_dim", "conv_alpha", "bypass_mode", "wd_on_output"],
  ...["weight_decompose", "train_norm", "train_llm_adapter", "loraplus_lr_ratio"],
];

/** A number as Python's `int` and `float` read it. */
function numberOf(name: string, value: Value, whole = false): number {
  const number = typeof value === "string" && value.trim() === "" ? NaN : Number(value);
  // a text must be whole as it stands, a number is cut
  if (!(whole && typeof value === "string" ? Number.isInteger : Number.isFinite)(number)) {
    throw new RangeError(
      `Cannot read the arguments as ${name} must be a ${whole ? "whole " : ""}number: ` +
        `current value is ${value}`,
    );
  }
  return whole ? Math.trunc(number) : number;
}

/** Arguments as LyCORIS sees them: the values of old names under the new, in the order in which they are given. */
function renamed(args: Arguments): Record<string, Value> {
  const given = Object.fromEntries(Object.entries(args).filter(([, value]) => value !== undefined));
  for (const [name, value] of Object.entries(given)) {
    if (RENAMED[name]) given[RENAMED[name]] = value;
  }
  return given;
}

/** The traps that are in names and in values which count for nothing. */
function traps(args: Arguments, reader: Reader): string[] {
  const given = Object.entries(args).filter(([, value]) => value !== undefined);
  const known = [...READ, ...Object.keys(RENAMED), ...OPTIONS.map(([, name]) => name)];
  return given.flatMap(([name, value]) => {
    if (name === "disable_conv_cp") {
      return `${name} is read the other way round: all but the text "False" turns tucker on, ` +
        `current value is ${value}; use use_tucker`;
    }
    if (RENAMED[name]) return `${name} is an old name: use ${RENAMED[name]}`;
    if (name === "conv_dim" && !value) {
      return `conv_dim is that of linear layers: only the text "0" leaves wide kernels out, ` +
        `current value is ${value}`;
    }
    if (name === "conv_alpha" && !value) {
      return `conv_alpha is that of linear layers: only the text "0" stands for the rank, ` +
        `current value is ${value}`;
    }
    if (name === "weight_decompose") return "weight_decompose is passed by: use dora_wd";
    if (name === "rs_lora" && reader === "create_lycoris") {
      return "rs_lora is passed by: create_lycoris does not read it";
    }
    if (name === "preset" && value === "ia3") {
      return "preset ia3 picks no module in LyCORIS; here it picks those that it names";
    }
    if (/^loraplus_(unet|text_encoder)_/.test(name)) {
      return `${name} is passed by: here the halves of a model are models of their own, use loraplus_lr_ratio`;
    }
    return known.includes(name) ? [] : `${name} is passed by: LyCORIS does not read it`;
  });
}

/**
 * The settings that LyCORIS makes of arguments, in this library's names, with a word on every trap.
 *
 * Numbers may be texts, as on a command line. `network_dim` (4) and `network_alpha` (1) are kohya's, `linear_dim` and
 * `linear_alpha` those of `create_lycoris`; both are read for either. What the algorithm does not read is left out.
 *
 * @param reader default "kohya"; `create_lycoris` passes `rs_lora` by
 * @throws {RangeError} for an algorithm or a preset that does not exist, or a number that is none
 *
 * @example
 * ```ts
 * import { fromArguments } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const { settings, warnings } = fromArguments({ algo: "lokr", factor: "8", decompose_both: "False" });
 * assert.equal(settings, { algorithm: "lokr", rank: 4, alpha: 1, factor: 8, decomposeBoth: true });
 * assert.match(warnings[0], /decompose_both is on/);
 * ```
 */
export function fromArguments(
  args: Arguments,
  reader: Reader = "kohya",
): { settings: TrainerSettings; warnings: string[] } {
  const given = renamed(args), warnings = traps(args, reader);
  /** `value or otherwise`: the number 0 is nothing said, the text "0" is zero */
  const number = (name: string, otherwise: number, whole = false) =>
    given[name] ? numberOf(name, given[name], whole) : otherwise;
  const told = (name: string, on: boolean, value: Value) => {
    if (on && !/^(true|1|yes|on)$/i.test(String(value))) {
      warnings.push(`${name} is on: LyCORIS takes this for true, current value is ${value}`);
    }
    return on;
  };
  /** `str(value).lower() != "false"` */
  const flag = (name: string, otherwise = false, value = given[name]) =>
    value === undefined ? otherwise : told(name, String(value).toLowerCase() !== "false", value);

  const algorithm = algorithmNamed(String(given.algo || "lora")), known = optionsOf(algorithm);
  const rank = numberOf("network_dim", given.network_dim ?? given.linear_dim ?? 4, true);
  const alpha = numberOf("network_alpha", given.network_alpha ?? given.linear_alpha ?? 1);
  const conv = number("conv_dim", rank, true), convAlpha = number("conv_alpha", alpha);
  const ratio = number("loraplus_lr_ratio", 0);
  if (ratio && algorithm !== "lora") {
    warnings.push(
      `loraplus_lr_ratio is passed by: LyCORIS has it for lora_up, ${
        lycorisName(algorithm)
      } has none`,
    );
  }
  const dora = flag("dora_wd"), onOutput = flag("wd_on_output", true), bypass = flag("bypass_mode");
  if (bypass && dora) warnings.push("dora_wd is passed by: LyCORIS drops it in bypass_mode");
  const { disable_conv_cp = true, use_conv_cp, use_cp, use_tucker, decompose_both, multiplier } =
    given;
  const inverted = disable_conv_cp ? undefined : true;
  const meant: AdapterOptions = {
    tucker: flag("use_tucker", false, inverted || use_conv_cp || use_cp || use_tucker),
    scalar: flag("use_scalar"),
    factor: numberOf("factor", given.factor ?? -1, true),
    decomposeBoth: told("decompose_both", Boolean(decompose_both), decompose_both),
    full: flag("full_matrix"),
    unbalanced: flag("unbalanced_factorization"),
    block: algorithm === "dylora" || given.block_size ? number("block_size", 4, true) : undefined,
    constraint: number("constraint", 0),
    rescaled: flag("rescaled"),
    dora: dora && !bypass && (onOutput ? "output" : "input"),
    rankScale: flag("rs_lora") && reader === "kohya" ? "alpha/sqrt(r)" : "alpha/r",
    dropout: numberOf("dropout", (given.dropout ?? given.network_dropout) || 0),
    rankDropout: number("rank_dropout", 0),
    moduleDropout: number("module_dropout", 0),
  };
  const options: AdapterOptions = known.includes("alpha") ? { alpha } : {};
  for (const [option, name, nothing] of OPTIONS) {
    if (meant[option] === nothing) continue;
    if (known.includes(option)) Object.assign(options, { [option]: meant[option] });
    else warnings.push(`${name} is passed by: ${lycorisName(algorithm)} does not read it`);
  }
  return {
    settings: {
      algorithm,
      rank,
      ...options,
      ...(conv !== rank && { conv }),
      ...(convAlpha !== alpha && known.includes("alpha") && { convAlpha }),
      ...(flag("train_norm") && { norm: true }),
      ...(flag("train_llm_adapter") && { llmAdapter: true }),
      ...(ratio && algorithm === "lora" && { loraPlus: ratio }),
      ...(bypass && { route: "bypass" }),
      ...(multiplier !== undefined && { strength: numberOf("multiplier", multiplier) }),
      ...(given.preset !== undefined && { preset: presetOf(String(given.preset)) }),
    },
    warnings,
  };
}

function presetOf(name: string): TrainerSettings["preset"] {
  if (isPresetName(name)) return name;
  if (name.endsWith(".toml")) return name as `${string}.toml`;
  throw new RangeError(
    `Cannot read the arguments as preset must be one of ${
      Object.keys(PRESETS).join(", ")
    } or a path ` +
      `to a .toml: current preset is ${name}`,
  );
}

/** What of some settings is not told by an option of LyCORIS's: why, where something would be lost. */
function untold(settings: TrainerSettings): [what: string, remedy: string] | undefined {
  const said = [
    ...OPTIONS.map(([option]) => option as string),
    ...[
      "algorithm",
      "rank",
      "alpha",
      "conv",
      "convAlpha",
      "norm",
      "llmAdapter",
      "route",
      "preset",
      "loraPlus",
      "seed",
    ],
  ];
  const { algorithm, route, dora, init, loraPlus, strength = 1 } = settings;
  if (route === "bypass" && dora) return ["dora with bypass, which drops it", "leave route out"];
  if (init) return [`init ${init}`, "it begins with random factors"];
  if (loraPlus && algorithm !== "lora") {
    return [`loraPlus of ${algorithm}`, "it knows LoRA's lora_up alone"];
  }
  if (strength !== 1) return [`strength ${strength}`, "it trains at strength 1"];
  const name = Object.entries(settings).find(([name, value]) =>
    !said.includes(name) && name !== "strength" && value !== undefined && value !== false
  )?.[0];
  return name === undefined ? undefined : [name, "write it into a preset (.toml) and name that"];
}

/**
 * The part of a command line that tells kohya's trainer the same: `--network_module=lycoris.kohya --network_dim=…
 * --network_alpha=… --network_args "algo=…" …`.
 *
 * Here alpha left out is the rank, there it is 1, so it is always said; the route is not but for bypass, since all
 * routes compute the same, nor is the seed.
 *
 * @throws {RangeError} for what the trainer has no argument for: `onInput`, `overrides`, a strength
 *
 * @example
 * ```ts
 * import { toArguments } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * assert.is(
 *   toArguments({ algorithm: "lokr", rank: 8, alpha: 4, factor: 8, conv: 0 }),
 *   '--network_module=lycoris.kohya --network_dim=8 --network_alpha=4 --network_args "algo=lokr" "conv_dim=0" "factor=8"',
 * );
 * ```
 */
export function toArguments(settings: TrainerSettings): string {
  const lost = untold(settings);
  if (lost) {
    throw new RangeError(
      `Cannot write the arguments as kohya's trainer has none for ${lost[0]}: ${lost[1]}`,
    );
  }
  const { algorithm, rank, alpha, conv, convAlpha, norm, llmAdapter, route, preset, dora } =
    settings;
  const args: [name: string, value: unknown][] = [["algo", lycorisName(algorithm)]];
  const add = (name: string, value: unknown) => {
    if (value !== undefined && value !== false) args.push([name, value === true ? "True" : value]);
  };
  add("preset", preset);
  add("conv_dim", conv);
  // 0 is the rank of wide kernels, as alpha is the rank of the others where it is left out
  add("conv_alpha", convAlpha ?? (alpha || conv === undefined ? undefined : 0));
  for (const [option, name, nothing] of OPTIONS) {
    const value = settings[option];
    if (value === nothing || value === undefined) continue;
    add(name, typeof value === "string" ? true : value);
  }
  add("wd_on_output", dora === "input" && "False");
  add("train_norm", norm);
  add("train_llm_adapter", llmAdapter);
  add("loraplus_lr_ratio", settings.loraPlus);
  add("bypass_mode", route === "bypass");
  const quoted = args.map(([name, value]) =>
    `"${name}=${String(value).replace(/["\\$`]/g, "\\$&")}"`
  );
  return [
    "--network_module=lycoris.kohya",
    `--network_dim=${rank}`,
    `--network_alpha=${alpha || rank}`,
    "--network_args",
    ...quoted,
  ].join(" ");
}
