/**
 * The little of WebAssembly's binary format that loops over vectors of four floats need.
 *
 * Source: WebAssembly core specification 2.0 with relaxed SIMD, chapter 5.
 */

/** Instructions, as bytes. */
export type Code = readonly number[];

/** A function: its parameters are integers, as are `integers`; `vectors` hold four floats each. */
export interface Routine {
  parameters: readonly string[];
  integers?: readonly string[];
  vectors?: readonly string[];
  body: (names: Names) => Code;
}

/** Reading and writing a routine's variables by their names. */
export interface Names {
  get(name: string): Code;
  set(name: string, value: Code): Code;
}

const INTEGER = 0x7f, VECTOR = 0x7b, FUNCTION = 0x60, NOTHING = 0x40;

/** A whole number as LEB128: seven bits a byte, lowest first. */
function leb(value: number): number[] {
  const byte = value & 0x7f, rest = value >>> 7;
  return rest === 0 ? [byte] : [byte | 0x80, ...leb(rest)];
}

const vector = (operation: number) => [0xfd, ...leb(operation)];
/** Alignment is a hint only; 2 is that of a float. */
const place = (offset: number) => [2, ...leb(offset)];

/** A small constant, 0 to 63. */
export const integer = (value: number): Code => [0x41, value];
export const add = (a: Code, b: Code): Code => [...a, ...b, 0x6a];
export const subtract = (a: Code, b: Code): Code => [...a, ...b, 0x6b];
export const less = (a: Code, b: Code): Code => [...a, ...b, 0x49];
/** The integer at an address. */
export const read = (address: Code): Code => [...address, 0x28, ...place(0)];
/** Does the body if the condition is not 0. */
export const when = (condition: Code, body: Code[]): Code => [
  ...condition,
  ...[0x04, NOTHING],
  ...body.flat(),
  0x0b,
];
/** Does the body, and again while the condition is not 0. */
export const repeat = (body: Code[], condition: Code): Code => [
  ...[0x03, NOTHING],
  ...body.flat(),
  ...[...condition, 0x0d, 0, 0x0b],
];

/** Four floats at an address. */
export const load = (
  address: Code,
  offset = 0,
): Code => [...address, ...vector(0), ...place(offset)];
/** The float at an address, four times. */
export const splat = (address: Code): Code => [...address, ...vector(9), ...place(0)];
export const store = (address: Code, value: Code, offset = 0): Code => [
  ...[...address, ...value],
  ...[...vector(11), ...place(offset)],
];
/** Four floats that are 0. */
export const zero: Code = [...vector(12), ...Array(16).fill(0)];
export const plus = (a: Code, b: Code): Code => [...a, ...b, ...vector(228)];
export const minus = (a: Code, b: Code): Code => [...a, ...b, ...vector(229)];
export const times = (a: Code, b: Code): Code => [...a, ...b, ...vector(230)];
export const over = (a: Code, b: Code): Code => [...a, ...b, ...vector(231)];
export const root = (a: Code): Code => [...a, ...vector(227)];
/** a · b + c, rounded once. */
export const fused = (a: Code, b: Code, c: Code): Code => [...a, ...b, ...c, ...vector(0x105)];
export const largest = (a: Code, b: Code): Code => [...a, ...b, ...vector(233)];
/** All bits where the floats are equal, else none. */
export const equal = (a: Code, b: Code): Code => [...a, ...b, ...vector(65)];
export const and = (a: Code, b: Code): Code => [...a, ...b, ...vector(78)];
/** The bits of a that b has not. */
export const except = (a: Code, b: Code): Code => [...a, ...b, ...vector(79)];

/** A section or any other run of bytes behind its length. */
const sized = (bytes: readonly number[]): number[] => [...leb(bytes.length), ...bytes];
const many = (items: readonly (readonly number[])[]) => [...leb(items.length), ...items.flat()];
const text = (name: string) => sized([...new TextEncoder().encode(name)]);
const section = (id: number, items: readonly (readonly number[])[]) => [id, ...sized(many(items))];

function compile({ parameters, integers = [], vectors = [], body }: Routine): number[] {
  const order = [...parameters, ...integers, ...vectors];
  const index = (name: string) => {
    const at = order.indexOf(name);
    if (at < 0) {
      throw new Error(`Cannot assemble "${name}" as it must be a variable of the routine`);
    }
    return leb(at);
  };
  const names: Names = {
    get: (name) => [0x20, ...index(name)],
    set: (name, value) => [...value, 0x21, ...index(name)],
  };
  const locals = [[...leb(integers.length), INTEGER], [...leb(vectors.length), VECTOR]];
  return sized([...many(locals), ...body(names), 0x0b]);
}

/** A module of routines, exported by their names, over a memory that it imports as `env.memory`. */
function assemble(routines: Record<string, Routine>): Uint8Array<ArrayBuffer> {
  const all = Object.entries(routines);
  const types = all.map(([, { parameters }]) => [
    ...[FUNCTION, ...leb(parameters.length), ...parameters.map(() => INTEGER)],
    0,
  ]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(2, [[...text("env"), ...text("memory"), 2, 0, 0]]),
    ...section(3, all.map((_, index) => leb(index))),
    ...section(7, all.map(([name], index) => [...text(name), 0, ...leb(index)])),
    ...section(10, all.map(([, routine]) => compile(routine))),
  ]);
}

/** a · b + c. */
export type Multiply = (a: Code, b: Code, c: Code) => Code;

/** A module of routines, with sums of products rounded once where the runtime can. */
export function module(
  routines: (multiply: Multiply) => Record<string, Routine>,
): WebAssembly.Module {
  const best = assemble(routines(fused));
  if (WebAssembly.validate(best)) return new WebAssembly.Module(best);
  return new WebAssembly.Module(assemble(routines((a, b, c) => plus(times(a, b), c))));
}
