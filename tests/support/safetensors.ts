/** Files for the tests of safetensors: the reference's own, and any lie one likes. */
import { readFileSync } from "node:fs";

/** Files of the reference writer: see fixtures/make_safetensors.py. */
export const FIXTURES = ["dtypes", "names", "shapes", "empty", "metadata", "bytes", "rounding"];

/** The bytes of one of them. */
export const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../fixtures/${name}.safetensors`, import.meta.url)));

/** Text as bytes. */
export const utf8 = (text: string) => new TextEncoder().encode(text);

/** A file with this header, whatever it says, and so many bytes after it. */
export function file(header: string | Uint8Array, data = 0): Uint8Array {
  const bytes = typeof header === "string" ? utf8(header) : header;
  const whole = new Uint8Array(8 + bytes.length + data);
  new DataView(whole.buffer).setBigUint64(0, BigInt(bytes.length), true);
  whole.set(bytes, 8);
  return whole;
}

/** The header's row of a tensor "w" of 16 bytes, with parts replaced. */
export const row = (parts: Record<string, string> = {}) => {
  const all = { dtype: '"F32"', shape: "[2,2]", data_offsets: "[0,16]", ...parts };
  return `{${Object.entries(all).map(([key, value]) => `"${key}":${value}`)}}`;
};

/** A header with that row alone. */
export const w = (parts?: Record<string, string>) => `{"w":${row(parts)}}`;
