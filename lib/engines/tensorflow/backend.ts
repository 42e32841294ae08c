/** TensorFlow.js's backend whose tensors are handles of TensorFlow. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Attribute, type TensorFlow, type Type, TYPES } from "./api.ts";

type Data =
  & { shape: number[]; dtype: tf.DataType; refCount: number }
  & (
    | { handle: number; half?: boolean }
    | { strings: Uint8Array[] }
  );

/** An input of an operation: a tensor, or whole numbers that become one: a scalar, a vector, a matrix. */
export type Input = tf.TensorInfo | number | readonly number[] | readonly (readonly number[])[];

const numbers = (bytes: Uint8Array<ArrayBuffer>, dtype: Type): tf.backend_util.TypedArray => {
  if (dtype === "bool") return bytes;
  return dtype === "int32" ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer);
};

/** Texts, which no kernel here takes, stay arrays of their bytes. */
export class Backend extends tf.KernelBackend {
  readonly library: TensorFlow;
  private readonly kept: tf.DataStorage<Data>;

  constructor(library: TensorFlow) {
    super();
    this.library = library;
    this.kept = new tf.DataStorage(this, tf.engine());
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(
    dataId: tf.DataId,
    values: tf.BackendValues | null,
    shape: number[],
    dtype: tf.DataType,
    refCount: number,
  ): void {
    if (dtype === "string") {
      this.kept.set(dataId, { shape, dtype, refCount, strings: values as Uint8Array[] });
      return;
    }
    const bytes = bytesOf(values as ArrayLike<number> | null, size(shape), dtype);
    this.kept.set(dataId, {
      shape,
      dtype,
      refCount,
      handle: this.library.create(bytes, shape, dtype),
    });
  }

  override readSync(dataId: object): tf.BackendValues {
    const data = this.kept.get(dataId);
    if ("strings" in data) return data.strings;
    if (!data.half) return numbers(this.library.read(data.handle), data.dtype as Type);
    const whole = this.cast(data.handle, "float32");
    try {
      return numbers(this.library.read(whole), "float32");
    } finally {
      this.library.remove(whole);
    }
  }

  override read(dataId: object): Promise<tf.BackendValues> {
    return Promise.resolve(this.readSync(dataId));
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.kept.has(dataId)) return true;
    const data = this.kept.get(dataId);
    data.refCount--;
    if (!force && data.refCount > 0) return false;
    if ("handle" in data) this.library.remove(data.handle);
    this.kept.delete(dataId);
    return true;
  }

  override refCount(dataId: tf.DataId): number {
    return this.kept.has(dataId) ? this.kept.get(dataId).refCount : 0;
  }

  override incRef(dataId: tf.DataId): void {
    this.kept.get(dataId).refCount++;
  }

  override numDataIds(): number {
    return this.kept.numDataIds();
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override timerAvailable(): boolean {
    return false;
  }

  override dispose(): void {}

  /** Keeps a float32 tensor in bfloat16 from now on; its every use makes a float32 of it for that long. */
  halve(dataId: object): void {
    const data = this.kept.get(dataId);
    if (!("handle" in data) || data.dtype !== "float32" || data.half) return;
    const half = this.cast(data.handle, "bfloat16");
    this.library.remove(data.handle);
    Object.assign(data, { handle: half, half: true });
  }

  private cast(handle: number, type: "float32" | "bfloat16"): number {
    return this.library.execute("Cast", [handle], { DstT: { type } }, 1)[0].handle;
  }

  /** Runs an operation of TensorFlow. */
  run(
    name: string,
    inputs: readonly Input[],
    attributes: Record<string, Attribute> = {},
    results = 1,
  ): tf.TensorInfo[] {
    const made: number[] = [];
    const own = (handle: number) => {
      made.push(handle);
      return handle;
    };
    try {
      const handles = inputs.map((input) => {
        if (typeof input !== "object" || !("dataId" in input)) return own(this.constant(input));
        const data = this.numbersOf(input);
        return data.half ? own(this.cast(data.handle, "float32")) : data.handle;
      });
      return this.library.execute(name, handles, attributes, results)
        .map(({ handle, shape, type }) => {
          const dataId = {};
          this.kept.set(dataId, { shape, dtype: type, refCount: 1, handle });
          return { dataId, shape, dtype: type };
        });
    } finally {
      made.forEach(this.library.remove);
    }
  }

  private numbersOf({ dataId }: tf.TensorInfo) {
    const data = this.kept.get(dataId);
    if ("handle" in data) return data;
    throw new TypeError("Cannot compute with texts as TensorFlow's kernels here take numbers");
  }

  private constant(input: number | readonly number[] | readonly (readonly number[])[]): number {
    const rows = Array.isArray(input) ? input : [];
    const shape = typeof input === "number"
      ? []
      : Array.isArray(rows[0])
      ? [rows.length, rows[0].length]
      : [rows.length];
    const flat = typeof input === "number" ? [input] : rows.flat();
    return this.library.create(bytesOf(flat, flat.length, "int32"), shape, "int32");
  }
}

/** Values as TensorFlow stores them; zeros for none. */
function bytesOf(values: ArrayLike<number> | null, count: number, dtype: Type): Uint8Array {
  if (!values) return new Uint8Array(count * TYPES[dtype].bytes);
  const array = dtype === "bool"
    ? values instanceof Uint8Array ? values : Uint8Array.from(values)
    : dtype === "int32"
    ? values instanceof Int32Array ? values : Int32Array.from(values)
    : values instanceof Float32Array
    ? values
    : Float32Array.from(values);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
