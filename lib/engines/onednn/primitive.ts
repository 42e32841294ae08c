/**
 * Primitives of oneDNN, ready to run on addresses: built once for each shape, kept while they are in use.
 */
import type { Library } from "./library.ts";

/** One argument of a primitive: its number, and the layout that our memory has. */
export interface Operand {
  argument: number;
  memory: number;
  /** the query for the layout which oneDNN prefers, where it may choose */
  choice?: number;
  /** whether the primitive writes it */
  written?: boolean;
}

/** `dnnl_forward_inference`. */
export const FORWARD = 96;
/** `DNNL_ARG_*`. */
export const ARGUMENT = { source: 1, destination: 17, weights: 33, bias: 41 } as const;
/** `DNNL_ARG_DIFF_*`. */
export const GRADIENT = { source: 129, destination: 145, weights: 161 } as const;
/** `dnnl_query_*_md`. */
export const CHOICE = {
  source: 129,
  weights: 131,
  weightsGradient: 132,
  destinationGradient: 134,
} as const;

/** A primitive with its memories; the addresses are given each time it runs. */
interface Primitive {
  handle: number;
  list: BigUint64Array;
  /** one an operand, in order */
  memories: number[];
  reorders: Reorder[];
  /** what the arguments in oneDNN's own layouts take */
  bytes: number;
}

/** A copy between our layout and oneDNN's, before the primitive runs, or after where it writes. */
interface Reorder {
  handle: number;
  list: BigUint64Array;
  memory: number;
  /** where its copy begins among those of the primitive, in bytes */
  start: number;
  after: boolean;
}

/** What a primitive is made from. */
export interface Description {
  description: number;
  operands: Operand[];
}

/** Primitives by what they compute. */
export interface Primitives {
  /**
   * Runs a primitive on addresses in the order of its operands; `describe` is called where it is new.
   *
   * @param work how many operations it is, always the same for a key: little work is done by one thread
   */
  run(key: string, work: number, describe: () => Description, addresses: readonly number[]): void;
  /** how many are kept */
  size(): number;
}

/** How many are kept at most: each holds its machine code and little else, about 60 kB. */
const CAPACITY = 1024;
/** Bytes; a line of the cache, and the widest vector. */
const ALIGNMENT = 64;

/** The next multiple of the alignment. */
const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** `dnnl_exec_arg_t[]`: an int and a pointer, 16 bytes each. */
function pairs(...entries: [argument: number, memory: number][]): BigUint64Array {
  return BigUint64Array.from(entries.flat().map(BigInt));
}

/** Operations that one thread does sooner than it wakes the others, which takes 10 to 50 µs. */
const LIGHT = 4e6;
/** What an element counts where it is read, computed and written, in operations of a matrix product. */
export const ELEMENT = 100;

/** No primitives yet; above the capacity the one unused for longest is destroyed. */
export function primitives({ dnnl, ffi, threads }: Library, capacity = CAPACITY): Primitives {
  const { functions, engine, stream } = dnnl;
  const kept = new Map<string, Primitive>();

  // where the arguments in oneDNN's own layouts lie during a run: the same place for all primitives
  let scratch = new Uint8Array(0), start = 0;
  function reserve(bytes: number): number {
    if (scratch.length < bytes + ALIGNMENT) {
      scratch = new Uint8Array(bytes + ALIGNMENT);
      start = aligned(ffi.address(scratch));
    }
    return start;
  }

  function build(description: number, operands: Operand[]): Primitive {
    const memory = (layout: number) => dnnl.create("dnnl_memory_create", layout, engine, 0);
    const memories = operands.map((operand) => memory(operand.memory));
    const entries = operands.map(({ argument }, index) =>
      [argument, memories[index]] as [number, number]
    );
    const reorders: Reorder[] = [];
    let bytes = 0;
    operands.forEach(({ memory: ours, choice, written = false }, index) => {
      if (choice === undefined) return;
      const theirs = Number(functions.dnnl_primitive_desc_query_md(description, choice, 0));
      if (functions.dnnl_memory_desc_equal(ours, theirs)) return;
      const inner = memory(theirs), outer = memories[index];
      const [from, to] = written ? [theirs, ours] : [ours, theirs];
      reorders.push({
        handle: dnnl.create("dnnl_primitive_create", dnnl.reorder(from, to)),
        list: pairs(
          [ARGUMENT.source, written ? inner : outer],
          [ARGUMENT.destination, written ? outer : inner],
        ),
        memory: inner,
        start: bytes,
        after: written,
      });
      entries[index][1] = inner;
      bytes += aligned(Number(functions.dnnl_memory_desc_get_size(theirs)));
    });
    const handle = dnnl.create("dnnl_primitive_create", description);
    return { handle, list: pairs(...entries), memories, reorders, bytes };
  }

  function destroy({ handle, memories, reorders }: Primitive): void {
    functions.dnnl_primitive_destroy(handle);
    for (const { handle } of reorders) functions.dnnl_primitive_destroy(handle);
    for (const memory of [...memories, ...reorders.map(({ memory }) => memory)]) {
      functions.dnnl_memory_destroy(memory);
    }
  }

  function find(key: string, describe: () => Description): Primitive {
    let primitive = kept.get(key);
    if (primitive) kept.delete(key); // to be set again: a map keeps the order of insertion
    else {
      try {
        const { description, operands } = describe();
        primitive = build(description, operands);
      } finally {
        dnnl.forget();
      }
      if (kept.size >= capacity) {
        const [oldest, unused] = kept.entries().next().value!;
        kept.delete(oldest);
        destroy(unused);
      }
    }
    kept.set(key, primitive);
    return primitive;
  }

  function execute({ handle, list }: { handle: number; list: BigUint64Array }): void {
    const status = functions.dnnl_primitive_execute(handle, stream, list.length / 2, list);
    if (status !== 0) {
      throw new Error(`dnnl_primitive_execute of oneDNN failed with status ${status}`);
    }
  }

  function compute(primitive: Primitive, addresses: readonly number[]): void {
    const { memories, reorders } = primitive;
    for (let i = 0; i < memories.length; i++) {
      functions.dnnl_memory_set_data_handle(memories[i], addresses[i]);
    }
    if (reorders.length > 0) {
      const scratch = reserve(primitive.bytes);
      for (const { memory, start } of reorders) {
        functions.dnnl_memory_set_data_handle(memory, scratch + start);
      }
    }
    for (const reorder of reorders) if (!reorder.after) execute(reorder);
    execute(primitive);
    for (const reorder of reorders) if (reorder.after) execute(reorder);
    functions.dnnl_stream_wait(stream);
  }

  return {
    run(key, work, describe, addresses) {
      const alone = work < LIGHT && threads.count > 1;
      if (alone) threads.set(1); // the primitive is built for as many, too
      try {
        compute(find(key, describe), addresses);
      } finally {
        if (alone) threads.set(threads.count);
      }
    },
    size: () => kept.size,
  };
}
