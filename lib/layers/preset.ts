/** A preset by its name, or read from a file. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import {
  checkPreset,
  isPresetName,
  type Preset,
  type PresetName,
  PRESETS,
} from "../adapter/presets.ts";

/** The text of a preset file as a preset. */
function parse(text: string, path: string): Preset {
  // the parser is loaded when the first file is read
  const toml = createRequire(import.meta.url)("smol-toml") as typeof import("smol-toml");
  try {
    return checkPreset(toml.parse(text), path);
  } catch (error) {
    if (!(error instanceof toml.TomlError)) throw error;
    throw new SyntaxError(`Cannot read "${path}" as a preset is TOML: ${error.message}`);
  }
}

/**
 * A built-in preset by its name, one read from a TOML file of LyCORIS's, or one that is given as a value.
 *
 * @throws {RangeError} for a name that is neither built in nor ends with `.toml`
 * @throws {SyntaxError} for a file that is no TOML
 * @throws {TypeError} for a key that presets do not have, or a value of another kind
 *
 * @example
 * ```ts
 * import { readPreset } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * assert.is(readPreset("attn-mlp").enable_conv, false);
 * assert.throws(() => readPreset({ enable_convs: true } as never), /current key is enable_convs/);
 * ```
 */
export function readPreset(preset: PresetName | Preset | `${string}.toml`): Preset {
  if (typeof preset !== "string") return checkPreset(preset);
  if (isPresetName(preset)) return PRESETS[preset];
  if (preset.endsWith(".toml")) return parse(readFileSync(preset, "utf8"), preset);
  throw new RangeError(
    `Cannot choose a preset as its name must be one of ${
      Object.keys(PRESETS).join(", ")
    } or a path to a .toml: ` +
      `current name is ${preset}`,
  );
}
