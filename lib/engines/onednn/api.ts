/**
 * oneDNN's C functions, versions 2 and 3 behind one face: memory descriptors and primitive descriptors.
 *
 * Version 3 makes a primitive descriptor by one call; version 2 fills a struct first and makes it of
 * that. Everything else used here is the same in both.
 *
 * Source: oneDNN's `dnnl.h` and `dnnl_types.h`, 2.6 and 3.2.
 */
import type { Foreign, Functions, Signature } from "../ffi.ts";

/** Functions of both versions. */
const COMMON: Record<string, Signature> = {
  dnnl_engine_create: "biu:i",
  dnnl_stream_create: "bhi:i",
  dnnl_stream_wait: "h:i",
  dnnl_memory_create: "bhhh:i",
  dnnl_memory_destroy: "h:i",
  dnnl_memory_set_data_handle: "hh:i",
  dnnl_memory_desc_equal: "hh:i",
  dnnl_memory_desc_get_size: "h:u",
  dnnl_primitive_attr_create: "b:i",
  dnnl_primitive_attr_destroy: "h:i",
  dnnl_primitive_attr_set_post_ops: "hh:i",
  dnnl_post_ops_create: "b:i",
  dnnl_post_ops_destroy: "h:i",
  dnnl_primitive_desc_query_md: "hii:h",
  dnnl_primitive_desc_destroy: "h:i",
  dnnl_primitive_create: "bh:i",
  dnnl_primitive_destroy: "h:i",
  dnnl_primitive_execute: "hhib:i",
  dnnl_reorder_primitive_desc_create: "bhhhhh:i",
};

const V3: Record<string, Signature> = {
  dnnl_memory_desc_create_with_strides: "bibib:i",
  dnnl_memory_desc_create_with_tag: "bibii:i",
  dnnl_memory_desc_destroy: "h:i",
  dnnl_post_ops_append_eltwise: "hiff:i",
  dnnl_post_ops_append_sum: "hfii:i",
};
const V2: Record<string, Signature> = {
  dnnl_memory_desc_init_by_strides: "hibib:i",
  dnnl_memory_desc_init_by_tag: "hibii:i",
  dnnl_post_ops_append_eltwise: "hfiff:i",
  dnnl_post_ops_append_sum: "hf:i",
  dnnl_primitive_desc_create: "bbhhh:i",
};

/** A kind of primitive: its parameters, and the function that describes it in each version. */
interface Kind {
  parameters: string;
  /** whether version 3 takes the forward descriptor too */
  hint?: boolean;
  /** which parameters version 2 does not have */
  since3?: readonly number[];
  v3: string;
  v2: string;
}

/** h: a memory descriptor, b: numbers an axis (`dnnl_dims_t`), i: an enum or int, f: a float. */
const KINDS = {
  convolution: {
    parameters: "iihhhhbbbb",
    v3: "dnnl_convolution_forward_primitive_desc_create",
    v2: "dnnl_dilated_convolution_forward_desc_init",
  },
  convolutionInput: {
    parameters: "ihhhbbbb",
    hint: true,
    v3: "dnnl_convolution_backward_data_primitive_desc_create",
    v2: "dnnl_dilated_convolution_backward_data_desc_init",
  },
  convolutionFilter: {
    parameters: "ihhhhbbbb",
    hint: true,
    v3: "dnnl_convolution_backward_weights_primitive_desc_create",
    v2: "dnnl_dilated_convolution_backward_weights_desc_init",
  },
  product: {
    parameters: "hhhh",
    v3: "dnnl_matmul_primitive_desc_create",
    v2: "dnnl_matmul_desc_init",
  },
  unary: {
    parameters: "iihhff",
    since3: [3],
    v3: "dnnl_eltwise_forward_primitive_desc_create",
    v2: "dnnl_eltwise_forward_desc_init",
  },
  softmax: {
    parameters: "iihhi",
    since3: [1, 3],
    v3: "dnnl_softmax_forward_primitive_desc_create",
    v2: "dnnl_softmax_forward_desc_init",
  },
} as const satisfies Record<string, Kind>;

/** The kinds of primitives. */
export type KindName = keyof typeof KINDS;

/** The numbers of functions of one variable, `dnnl_eltwise_*`, which changed with version 3. */
const UNARY = {
  relu: { 2: 0x1f, 3: 0x20 },
  tanh: { 2: 0x2f, 3: 0x21 },
  elu: { 2: 0x3f, 3: 0x22 },
  sqrt: { 2: 0x6f, 3: 0x25 },
  logistic: { 2: 0xaf, 3: 0x29 },
  exp: { 2: 0xbf, 3: 0x2a },
  log: { 2: 0xef, 3: 0x2d },
  clip: { 2: 0xff, 3: 0x2e },
};

/** A function of one variable, with its parameters. */
export interface Unary {
  name: keyof typeof UNARY;
  alpha: number;
  beta: number;
}

const UNDEFINED = 0, FLOAT32 = 3, ANY_LAYOUT = 1, CPU = 1, IN_ORDER = 1, AXES = 12;
/** Larger than any struct of version 2.x: memory descriptors have 696 bytes, operations up to 5976. */
const MEMORY_STRUCT = 1024, OPERATION_STRUCT = 16384;
/** More than one primitive's description uses. */
const MEMORY_STRUCTS = 32;

/** A number for each axis, as `dnnl_dims_t`. */
export function dims(numbers: readonly number[]): BigInt64Array {
  const array = new BigInt64Array(AXES);
  numbers.forEach((number, axis) => array[axis] = BigInt(number));
  return array;
}

/** An open library with an engine and a stream on the CPU. */
export interface Dnnl {
  version: string;
  functions: Functions;
  engine: number;
  stream: number;
  /** Calls a function whose first parameter is where to put a new handle; throws where it fails. */
  create(name: string, ...parameters: (number | bigint | ArrayBufferView)[]): number;
  /** A description of float32 memory; without strides oneDNN chooses the layout. */
  memory(lengths: readonly number[], strides?: readonly number[]): number;
  /** The number of a function of one variable. */
  unary(name: Unary["name"]): number;
  /** Attributes that put something behind a primitive: an activation, or the sum with what its result's memory holds. */
  attributes(behind: Unary | "sum"): number;
  /** A primitive descriptor; a gradient's needs that of the forward primitive as a hint. */
  describe(
    kind: KindName,
    parameters: (number | BigInt64Array)[],
    more?: { hint?: number; attributes?: number },
  ): number;
  /** The primitive descriptor of a copy from one layout into another. */
  reorder(from: number, to: number): number;
  /** Frees what `memory`, `attributes`, `describe` and `reorder` made; primitives created from it stay. */
  forget(): void;
}

function without<T>(parameters: readonly T[], left: readonly number[] = []): T[] {
  return parameters.filter((_, index) => !left.includes(index));
}

/** The version of a library, `[major, minor, patch]`. */
function versionOf(ffi: Foreign, path: string): number[] {
  const { dnnl_version } = ffi.open(path, { dnnl_version: ":h" });
  return [...new Int32Array(ffi.bytes(Number(dnnl_version()), 12))];
}

/**
 * Opens oneDNN.
 *
 * @throws {Error} where the file is missing, is no oneDNN, or is of a version other than 2 or 3
 */
export function open(ffi: Foreign, path: string): Dnnl {
  const [major, minor, patch] = versionOf(ffi, path);
  if (major !== 2 && major !== 3) {
    throw new Error(`oneDNN must be of version 2 or 3: current is ${major}.${minor}.${patch}`);
  }
  const signatures = { ...COMMON };
  for (const { parameters, v2, v3, ...kind } of Object.values<Kind>(KINDS)) {
    if (major === 3) signatures[v3] = `bh${parameters}${kind.hint ? "h" : ""}h:i`;
    else signatures[v2] = `b${without([...parameters], kind.since3).join("")}:i`;
  }
  Object.assign(signatures, major === 3 ? V3 : V2);
  const functions = ffi.open(path, signatures);
  const handle = new BigUint64Array(1);

  const check = (status: number, name: string) => {
    if (status !== 0) throw new Error(`${name} of oneDNN failed with status ${status}`);
  };
  const create = (name: string, ...parameters: (number | bigint | ArrayBufferView)[]) => {
    check(functions[name](handle, ...parameters), name);
    return Number(handle[0]);
  };
  const engine = create("dnnl_engine_create", CPU, 0);
  const stream = create("dnnl_stream_create", engine, IN_ORDER);

  const made: [destroy: string, handle: number][] = [];
  const keep = (destroy: string, handle: number) => {
    made.push([destroy, handle]);
    return handle;
  };
  /** version 2's structs: oneDNN copies what it needs of them, so they are written over after `forget` */
  const structs = new Uint8Array(major === 2 ? MEMORY_STRUCTS * MEMORY_STRUCT : 0);
  const operation = new Uint8Array(major === 2 ? OPERATION_STRUCT : 0);
  const base = major === 2 ? ffi.address(structs) : 0;
  let next = 0;

  return {
    version: `${major}.${minor}.${patch}`,
    functions,
    engine,
    stream,
    create,
    memory(lengths, strides) {
      const layout = strides ? dims(strides) : ANY_LAYOUT;
      const how = strides ? "strides" : "tag", description = dims(lengths);
      if (major === 3) {
        const name = `dnnl_memory_desc_create_with_${how}`;
        return keep(
          "dnnl_memory_desc_destroy",
          create(name, lengths.length, description, FLOAT32, layout),
        );
      }
      const offset = MEMORY_STRUCT * next++;
      // this use of the array also keeps it from being collected under its address
      if (offset === structs.length) throw new Error("too many memory descriptors at once");
      const at = base + offset, name = `dnnl_memory_desc_init_by_${how}`;
      check(functions[name](at, lengths.length, description, FLOAT32, layout), name);
      return at;
    },
    unary: (name) => UNARY[name][major],
    attributes(behind) {
      const operations = keep("dnnl_post_ops_destroy", create("dnnl_post_ops_create"));
      const append = (name: string, since2: number[], since3: number[]) =>
        check(functions[name](operations, ...(major === 3 ? since3 : since2)), name);
      if (behind === "sum") {
        append("dnnl_post_ops_append_sum", [1], [1, 0, UNDEFINED]);
      } else {
        const { name, alpha, beta } = behind, [old, now] = [UNARY[name][2], UNARY[name][3]];
        append("dnnl_post_ops_append_eltwise", [1, old, alpha, beta], [now, alpha, beta]);
      }
      const attributes = keep("dnnl_primitive_attr_destroy", create("dnnl_primitive_attr_create"));
      const set = "dnnl_primitive_attr_set_post_ops";
      check(functions[set](attributes, operations), set);
      return attributes;
    },
    describe(kind, parameters, { hint = 0, attributes = 0 } = {}) {
      const { v2, v3, ...more }: Kind = KINDS[kind];
      if (major === 3) {
        const last = more.hint ? [hint, attributes] : [attributes];
        return keep("dnnl_primitive_desc_destroy", create(v3, engine, ...parameters, ...last));
      }
      check(functions[v2](operation, ...without(parameters, more.since3)), v2);
      return keep(
        "dnnl_primitive_desc_destroy",
        create("dnnl_primitive_desc_create", operation, attributes, engine, hint),
      );
    },
    reorder: (from, to) =>
      keep(
        "dnnl_primitive_desc_destroy",
        create("dnnl_reorder_primitive_desc_create", from, engine, to, engine, 0),
      ),
    forget() {
      for (const [destroy, handle] of made.splice(0).reverse()) functions[destroy](handle);
      next = 0;
    },
  };
}
