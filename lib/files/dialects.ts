/** Every dialect by name. To add one: its file, and a row here. */
import * as cloneofsimo from "./cloneofsimo.ts";
import type { Dialect, Metadata } from "./dialect.ts";
import * as diffusers from "./diffusers.ts";
import * as lycoris from "./lycoris.ts";
import * as peft from "./peft.ts";

/** In the order in which a file is tried: the last takes any. */
const DIALECTS = { peft, diffusers, cloneofsimo, kohya: lycoris } satisfies Record<string, Dialect>;

/** The dialects that are read and written. */
export type DialectName = keyof typeof DIALECTS;

/** Their names. */
export const NAMES = Object.keys(DIALECTS) as DialectName[];

/** The module of a dialect. */
export function dialectOf(name: DialectName): Dialect {
  return DIALECTS[name];
}

/** The dialect of a file with these keys and this metadata. */
export function recognize(keys: readonly string[], metadata: Metadata): DialectName {
  return NAMES.find((name) => dialectOf(name).matches(keys, metadata))!;
}
