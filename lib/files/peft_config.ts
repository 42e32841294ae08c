/**
 * PEFT's `adapter_config.json`, as far as it decides what an adapter computes: ranks and scales of modules.
 *
 * Source: PEFT 0.21.2, `LoraConfig`, `LycorisConfig`, `IA3Config`, `utils/other.py` `get_pattern_key`.
 */
import { pattern } from "./peft_pattern.ts";

/** The fields of a configuration. */
export type Config = Readonly<Record<string, unknown>>;

/** Where each kind of configuration tells alpha; (IA)^3 has no scale. */
const ALPHA: Record<string, string> = { LORA: "lora_alpha", LOHA: "alpha", LOKR: "alpha" };

/** Fields of LoRA that change what is computed, and that no adapter of this library has. */
const UNKNOWN = [
  "alora_invocation_tokens",
  "arrow_config",
  "kasa_config",
  "layer_replication",
  "monteclora_config",
  "use_bdlora",
  "use_qalora",
];

/** Initial weights that change the base too, so that the factors alone are not the difference from it. */
const MOVES_BASE = /^(pissa|corda|olora|loftq|lora_ga)/i;

function malformed(what: string, rule: string, current: unknown): never {
  const found = JSON.stringify(current) ?? "missing";
  throw new SyntaxError(`Cannot read ${what} as ${rule}: current value is ${found}`);
}

/**
 * The fields in a configuration's text.
 *
 * @throws {SyntaxError} for text that is no JSON object, or a field that changes the meaning of the factors
 */
export function parseConfig(text: string, what = "adapter_config.json"): Config {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    return malformed(what, "it must be JSON", text.slice(0, 40));
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    return malformed(what, "it must be an object", config);
  }
  return config as Config;
}

/** Refuses a LoRA configuration under which factors mean something else. */
export function checkLora(config: Config, what = "adapter_config.json"): void {
  for (const name of UNKNOWN) {
    if (config[name]) malformed(`"${name}" of ${what}`, "no adapter has it here", config[name]);
  }
  const { init_lora_weights: init } = config;
  if (typeof init === "string" && MOVES_BASE.test(init)) {
    malformed(
      `"init_lora_weights" of ${what}`,
      "the factors must be the difference from the untouched base: convert the adapter when PEFT saves it",
      init,
    );
  }
}

/** The first of some patterns that PEFT applies to a path: it is the path's end, from a dot on. */
function matcher(patterns: readonly string[]): (path: string) => string | undefined {
  const matches = patterns.map(pattern);
  return (path) => {
    const starts = new Set([0, ...[...path.matchAll(/\./g)].map(({ index }) => index + 1)]);
    return patterns[matches.findIndex((match) => match(path, starts))];
  };
}

/** What a field says of each module: the first pattern that applies wins over the plain value. */
function field(config: Config, name: string, patterns: string): (path: string) => number {
  const table = (config[patterns] ?? {}) as Record<string, unknown>;
  const match = matcher(Object.keys(table));
  return (path) => {
    const key = match(path), value = key === undefined ? config[name] : table[key];
    if (typeof value === "number" && Number.isFinite(value)) return value;
    return malformed(`"${name}" of "${path}"`, "it must be a number", value);
  };
}

/**
 * The rank of each module, and what PEFT multiplies its ΔW by: alpha / r, or alpha / √r under rsLoRA.
 *
 * @throws {SyntaxError} for a pattern that {@link pattern} refuses; the function returned, for a rank or alpha that is none
 */
export function scaling(config: Config): (path: string) => { rank: number; scale: number } {
  const ranks = field(config, "r", "rank_pattern");
  const alphas = field(config, ALPHA[String(config.peft_type ?? "LORA")], "alpha_pattern");
  return (path) => {
    const rank = ranks(path);
    if (!Number.isInteger(rank) || rank < 1) {
      malformed(`"r" of "${path}"`, "it must be a whole number of at least 1", rank);
    }
    return { rank, scale: alphas(path) / (config.use_rslora ? Math.sqrt(rank) : rank) };
  };
}

/** Whether PEFT takes a module for one of a list of ends, or of a regular expression. */
export function listed(names: unknown, path: string): boolean {
  if (typeof names === "string") return pattern(names)(path, new Set([0]));
  return Array.isArray(names) && names.some((name) => path.endsWith(String(name)));
}

const escaped = (name: string) => name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

/** An expression for these paths and no others. */
export function expression(paths: readonly string[]): string {
  return `^(${paths.map(escaped).join("|")})$`;
}

/** Modules as PEFT chooses them: by their paths, or by an expression where one is the end of another. */
export function chosen(paths: readonly string[]): string[] | string {
  const unclear = paths.some((path) =>
    paths.some((other) => other !== path && other.endsWith(path))
  );
  return unclear ? expression(paths) : [...paths];
}

/** The commonest of some values, and a pattern for each path that has another. */
function spread(values: ReadonlyMap<string, number>): { most: number; pattern: Config } {
  const count = new Map<number, number>();
  for (const value of values.values()) count.set(value, (count.get(value) ?? 0) + 1);
  const [most] = [...count].sort((a, b) => b[1] - a[1])[0] ?? [1];
  const others = [...values].filter(([, value]) => value !== most);
  const plain = others.every(([path]) => /^[\w.-]+$/.test(path));
  const match = matcher(plain ? others.map(([path]) => path) : []);
  const clear = plain && [...values].every(([path, value]) => {
    const first = match(path);
    return (first === undefined ? most : values.get(first)) === value;
  });
  const key = (path: string) => clear ? path : `^${escaped(path)}`;
  return { most, pattern: Object.fromEntries(others.map(([path, value]) => [key(path), value])) };
}

/** The fields that give every module its rank and alpha. */
export function ranked(
  type: string,
  ranks: ReadonlyMap<string, number>,
  alphas: ReadonlyMap<string, number>,
): Config {
  const r = spread(ranks), alpha = spread(alphas);
  return {
    r: r.most,
    [ALPHA[type]]: alpha.most,
    rank_pattern: r.pattern,
    alpha_pattern: alpha.pattern,
  };
}
