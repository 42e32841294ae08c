/**
 * One face for the foreign functions of Deno (`Deno.dlopen`) and Bun (`bun:ffi`).
 *
 * Addresses and handles are plain numbers: no address in use reaches 2^53.
 */
import { allowed } from "./environment.ts";
import { checkWhole } from "./whole.ts";

/** Parameters of a C function, a letter each, and after the colon what it returns: `"hib:i"`. */
export type Signature = string;

/** A library's functions by their names. */
export type Functions = Record<
  string,
  (...parameters: (number | bigint | ArrayBufferView | string | null)[]) => number
>;

/** What a runtime must have for this. */
export interface Foreign {
  /** Opens a library; a soname goes through the system's search path. Throws where it cannot be opened. */
  open(path: string, signatures: Record<string, Signature>): Functions;
  /** The address of an array's first byte; it holds while the array is reachable. */
  address(array: ArrayBufferView): number;
  /** The bytes at an address, not copied. */
  bytes(address: number, length: number): ArrayBuffer;
  /** The C string at an address. */
  text(address: number): string;
}

/** b: the array's memory, h: a handle or address, i: int, u: unsigned 64 bits, f: float, v: nothing. */
const LETTERS = {
  deno: { b: "buffer", h: "u64", i: "i32", u: "u64", f: "f32", v: "void" },
  bun: { b: "ptr", h: "u64", i: "i32", u: "u64", f: "f32", v: "void" },
};
type Letter = keyof typeof LETTERS.deno;

function spell(signature: Signature, letters: Record<Letter, string>): [string[], string] {
  const [parameters, result] = signature.split(":");
  return [[...parameters].map((letter) => letters[letter as Letter]), letters[result as Letter]];
}

const deno: Foreign = {
  open(path, signatures) {
    const definitions: Record<string, unknown> = {};
    for (const [name, signature] of Object.entries(signatures)) {
      const [parameters, result] = spell(signature, LETTERS.deno);
      definitions[name] = { parameters, result };
    }
    const { symbols } = Deno.dlopen(path, definitions as Deno.ForeignLibraryInterface);
    return symbols as unknown as Functions;
  },
  address: (array) =>
    Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(array as Uint8Array<ArrayBuffer>))),
  bytes: (address, length) =>
    Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(BigInt(address))!, length),
  text: (address) => Deno.UnsafePointerView.getCString(Deno.UnsafePointer.create(BigInt(address))!),
};

/** What is used of Bun's module. */
interface BunForeign {
  dlopen(path: string, definitions: object): { symbols: Functions };
  ptr(array: ArrayBufferView): number;
  toArrayBuffer(address: number, offset: number, length: number): ArrayBuffer;
  CString: new (address: number) => { toString(): string };
}

async function bun(): Promise<Foreign> {
  const module = "bun:ffi"; // by a variable, or Deno's checker looks for it
  const { dlopen, ptr, toArrayBuffer, CString } = await import(module) as BunForeign;
  return {
    open(path, signatures) {
      const definitions: Record<string, unknown> = {};
      for (const [name, signature] of Object.entries(signatures)) {
        const [args, returns] = spell(signature, LETTERS.bun);
        definitions[name] = { args, returns };
      }
      return dlopen(path, definitions).symbols;
    },
    address: (array) => ptr(array),
    bytes: (address, length) => toArrayBuffer(address, 0, length),
    text: (address) => String(new CString(address)),
  };
}

/**
 * The foreign functions of the runtime at hand.
 *
 * @throws {Error} on a runtime without any, or where Deno does not allow them
 */
export async function foreign(): Promise<Foreign> {
  const functions = await ofRuntime();
  return {
    ...functions,
    open(path, signatures) {
      if (path.includes("/")) checkWhole(path); // what has none goes through the system's search path
      return functions.open(path, signatures);
    },
  };
}

async function ofRuntime(): Promise<Foreign> {
  if ("Bun" in globalThis) return await bun();
  if (!("Deno" in globalThis)) throw new Error("this runtime has no foreign functions");
  if (!allowed({ name: "ffi" })) {
    throw new Error("Deno may not open libraries: run it with --allow-ffi");
  }
  return deno;
}
