/** TensorFlow's C API, as far as eager operations need it, with its statuses as errors. */
import type { Foreign, Functions } from "../ffi.ts";

const SIGNATURES = {
  TF_Version: ":h",
  TF_NewStatus: ":h",
  TF_GetCode: "h:i",
  TF_Message: "h:h",
  TF_AllocateTensor: "ibiu:h",
  TF_DeleteTensor: "h:v",
  TF_TensorData: "h:h",
  TF_TensorByteSize: "h:u",
  TFE_NewContextOptions: ":h",
  TFE_ContextOptionsSetConfig: "hbuh:v",
  TFE_DeleteContextOptions: "h:v",
  TFE_NewContext: "hh:h",
  TFE_ContextListDevices: "hh:h",
  TF_DeviceListCount: "h:i",
  TF_DeviceListName: "hih:h",
  TF_DeviceListType: "hih:h",
  TF_DeleteDeviceList: "h:v",
  TFE_NewTensorHandle: "hh:h",
  TFE_DeleteTensorHandle: "h:v",
  TFE_TensorHandleDataType: "h:i",
  TFE_TensorHandleNumDims: "hh:i",
  TFE_TensorHandleDim: "hih:u",
  TFE_TensorHandleResolve: "hh:h",
  TFE_TensorHandleCopyToDevice: "hhbh:h",
  TFE_NewOp: "hbh:h",
  TFE_DeleteOp: "h:v",
  TFE_OpAddInput: "hhh:v",
  TFE_Execute: "hbbh:v",
  TFE_OpSetAttrString: "hbbu:v",
  TFE_OpSetAttrInt: "hbu:v",
  TFE_OpSetAttrIntList: "hbbi:v",
  TFE_OpSetAttrFloat: "hbf:v",
  TFE_OpSetAttrBool: "hbi:v",
  TFE_OpSetAttrType: "hbi:v",
};

/** TensorFlow's numbers for the types of elements that TensorFlow.js has, and the bytes of each. */
export const TYPES = {
  float32: { code: 1, bytes: 4 },
  int32: { code: 3, bytes: 4 },
  complex64: { code: 8, bytes: 8 },
  bool: { code: 10, bytes: 1 },
} as const;
export type Type = keyof typeof TYPES;

/** The upper half of a float32, which TensorFlow alone knows; for TensorFlow.js it is a float32. */
const BFLOAT16 = 14;

/** TensorFlow's number for a type. */
export const codeOf = (type: Type | "bfloat16"): number =>
  type === "bfloat16" ? BFLOAT16 : TYPES[type].code;

/** The type of TensorFlow's number. */
export function typeOf(code: number): Type {
  if (code === BFLOAT16) return "float32";
  for (const [type, row] of Object.entries(TYPES)) if (row.code === code) return type as Type;
  throw new TypeError(`TensorFlow.js has no type for TensorFlow's number ${code}`);
}

/** An attribute of an operation: a bool, a string, a list of integers, or what it says it is. */
export type Attribute =
  | boolean
  | string
  | readonly number[]
  | { type: Type | "bfloat16" }
  | { int: number }
  | { float: number };

/** What an operation gave: a handle that its caller deletes. */
export interface Result {
  handle: number;
  shape: number[];
  type: Type;
}

/** An open TensorFlow with a context for eager operations. */
export interface TensorFlow {
  version: string;
  /** the name of the first GPU; undefined where there is none */
  gpu?: string;
  /** a tensor of these bytes: on the GPU if there is one and they are floats */
  create(bytes: Uint8Array, shape: readonly number[], type: Type): number;
  remove(handle: number): void;
  /** a copy of a tensor's bytes */
  read(handle: number): Uint8Array<ArrayBuffer>;
  execute(
    name: string,
    inputs: readonly number[],
    attributes: Record<string, Attribute>,
    results: number,
  ): Result[];
}

/** Threads within an operation and between them; GPU memory as it is needed, not all at once. */
function configuration(threads: number): Uint8Array {
  const GROWTH = [0x32, 2, 0x20, 1]; // ConfigProto { gpu_options { allow_growth: true } }
  return new Uint8Array([0x10, threads, 0x28, threads, ...GROWTH]);
}

/** The most results that an operation may have. */
const RESULTS = 1024;

/** RTLD_NOW | RTLD_NODELETE of glibc. */
const STAY = 2 | 0x1000;

/** The functions of the open library. */
export interface Library {
  ffi: Foreign;
  functions: Functions;
}

/**
 * Opens the library, for as long as the process lives: its threads run on when a runtime ends.
 *
 * @throws {Error} where it cannot be opened, or lacks a function of the C API
 */
export function open(ffi: Foreign, path: string): Library {
  const library = { ffi, functions: ffi.open(path, SIGNATURES) };
  try {
    const { dlopen } = ffi.open("libc.so.6", { dlopen: "bi:h" });
    dlopen(new TextEncoder().encode(path + "\0"), STAY);
  } catch {
    const { dlopen } = ffi.open("libdl.so.2", { dlopen: "bi:h" }); // before glibc 2.34
    dlopen(new TextEncoder().encode(path + "\0"), STAY);
  }
  return library;
}

/** Starts a context, on the GPU where there is one. */
export function start({ ffi, functions: c }: Library, threads: number): TensorFlow {
  const status = Number(c.TF_NewStatus());
  const check = () => {
    if (c.TF_GetCode(status) !== 0) throw new Error(ffi.text(Number(c.TF_Message(status))));
  };
  const checked = (value: number) => {
    check();
    return Number(value);
  };

  // names end in a zero byte and live on: TensorFlow may hold on to them
  const names = new Map<string, Uint8Array>();
  const named = (text: string) => {
    let bytes = names.get(text);
    if (!bytes) names.set(text, bytes = new TextEncoder().encode(text + "\0"));
    return bytes;
  };
  // never empty: an array without bytes has no address
  const longs = (numbers: readonly number[]) => {
    const array = new BigInt64Array(Math.max(1, numbers.length));
    numbers.forEach((number, index) => array[index] = BigInt(number));
    return array;
  };

  const options = Number(c.TFE_NewContextOptions()), config = configuration(threads);
  c.TFE_ContextOptionsSetConfig(options, config, config.length, status);
  check();
  const context = checked(c.TFE_NewContext(options, status));
  c.TFE_DeleteContextOptions(options);

  function firstGpu(): string | undefined {
    const list = checked(c.TFE_ContextListDevices(context, status));
    try {
      for (let i = 0; i < c.TF_DeviceListCount(list); i++) {
        if (ffi.text(Number(c.TF_DeviceListType(list, i, status))) === "GPU") {
          return ffi.text(Number(c.TF_DeviceListName(list, i, status)));
        }
      }
    } finally {
      c.TF_DeleteDeviceList(list);
    }
  }
  const gpu = firstGpu();

  function set(operation: number, name: Uint8Array, value: Attribute): void {
    if (typeof value === "boolean") c.TFE_OpSetAttrBool(operation, name, Number(value));
    else if (typeof value === "string") {
      const text = named(value);
      c.TFE_OpSetAttrString(operation, name, text, text.length - 1);
    } else if (!("length" in value)) {
      if ("type" in value) c.TFE_OpSetAttrType(operation, name, codeOf(value.type));
      else if ("float" in value) c.TFE_OpSetAttrFloat(operation, name, value.float);
      else c.TFE_OpSetAttrInt(operation, name, BigInt.asUintN(64, BigInt(value.int)));
    } else c.TFE_OpSetAttrIntList(operation, name, longs(value), value.length);
  }

  function described(handle: number): Result {
    const type = typeOf(c.TFE_TensorHandleDataType(handle));
    const axes = checked(c.TFE_TensorHandleNumDims(handle, status));
    const shape = Array.from(
      { length: axes },
      (_, axis) => Number(c.TFE_TensorHandleDim(handle, axis, status)),
    );
    return { handle, shape, type };
  }

  const results = new BigUint64Array(RESULTS), count = new Int32Array(1);
  return {
    version: ffi.text(Number(c.TF_Version())),
    gpu,
    create(bytes, shape, type) {
      const { code } = TYPES[type];
      const tensor = Number(c.TF_AllocateTensor(code, longs(shape), shape.length, bytes.length));
      if (bytes.length > 0) {
        new Uint8Array(ffi.bytes(Number(c.TF_TensorData(tensor)), bytes.length)).set(bytes);
      }
      const handle = Number(c.TFE_NewTensorHandle(tensor, status));
      c.TF_DeleteTensor(tensor);
      check();
      if (!gpu || type === "int32") return handle; // its kernels for integers want them on the host
      const there = Number(c.TFE_TensorHandleCopyToDevice(handle, context, named(gpu), status));
      c.TFE_DeleteTensorHandle(handle);
      return checked(there);
    },
    remove: (handle) => void c.TFE_DeleteTensorHandle(handle),
    read(handle) {
      const tensor = checked(c.TFE_TensorHandleResolve(handle, status));
      const length = Number(c.TF_TensorByteSize(tensor));
      const bytes = length > 0
        ? new Uint8Array(ffi.bytes(Number(c.TF_TensorData(tensor)), length)).slice()
        : new Uint8Array(0);
      c.TF_DeleteTensor(tensor);
      return bytes;
    },
    execute(name, inputs, attributes, most) {
      const operation = checked(c.TFE_NewOp(context, named(name), status));
      try {
        for (const input of inputs) {
          c.TFE_OpAddInput(operation, input, status);
          check();
        }
        for (const [key, value] of Object.entries(attributes)) set(operation, named(key), value);
        count[0] = most;
        c.TFE_Execute(operation, results, count, status);
        check();
        return Array.from(results.subarray(0, count[0]), (handle) => described(Number(handle)));
      } finally {
        c.TFE_DeleteOp(operation);
      }
    },
  };
}
