/**
 * Stored elements to and from float32, for the dtypes that weight files are made of.
 *
 * Narrowing rounds to the nearest value and ties to even, as IEEE 754 and PyTorch do: what is too
 * large becomes infinite (448 in E4M3, which has no infinity, as in PyTorch 2.13), what is too small
 * subnormal and then zero; signs and NaNs stay. Bytes are little-endian, as is every machine that
 * runs Deno or Bun, and need not be aligned.
 */
import type { Dtype } from "./dtypes.ts";

const READERS: { readonly [dtype in Dtype]?: (bytes: Uint8Array) => Float32Array } = {
  BOOL: (bytes) => new Float32Array(bytes),
  U8: (bytes) => new Float32Array(bytes),
  I8: (bytes) => new Float32Array(elements(bytes, Int8Array)),
  U16: (bytes) => new Float32Array(elements(bytes, Uint16Array)),
  I16: (bytes) => new Float32Array(elements(bytes, Int16Array)),
  U32: (bytes) => new Float32Array(elements(bytes, Uint32Array)),
  I32: (bytes) => new Float32Array(elements(bytes, Int32Array)),
  U64: (bytes) => Float32Array.from(elements(bytes, BigUint64Array), Number),
  I64: (bytes) => Float32Array.from(elements(bytes, BigInt64Array), Number),
  F64: (bytes) => new Float32Array(elements(bytes, Float64Array)),
  F32: (bytes) => new Float32Array(elements(bytes, Float32Array)),
  BF16: (bytes) => widenBrain(elements(bytes, Uint16Array)),
  F16: (bytes) => widen(elements(bytes, Uint16Array), 5, 10),
  F8_E5M2: (bytes) => widen(bytes, 5, 2),
  F8_E4M3: (bytes) => widen(bytes, 4, 3),
};

const WRITERS: { readonly [dtype in Dtype]?: (values: Float32Array) => ArrayBufferView } = {
  BOOL: (values) => new Uint8Array(whole(values, 0, 2)),
  U8: (values) => new Uint8Array(whole(values, 0, 2 ** 8)),
  I8: (values) => new Int8Array(whole(values, -(2 ** 7), 2 ** 7)),
  U16: (values) => new Uint16Array(whole(values, 0, 2 ** 16)),
  I16: (values) => new Int16Array(whole(values, -(2 ** 15), 2 ** 15)),
  U32: (values) => new Uint32Array(whole(values, 0, 2 ** 32)),
  I32: (values) => new Int32Array(whole(values, -(2 ** 31), 2 ** 31)),
  U64: (values) => BigUint64Array.from(whole(values, 0, 2 ** 64), BigInt),
  I64: (values) => BigInt64Array.from(whole(values, -(2 ** 63), 2 ** 63), BigInt),
  F64: (values) => new Float64Array(values),
  F32: (values) => new Float32Array(values),
  BF16: (values) => narrowBrain(bitsOf(values)),
  F16: (values) => narrowHalf(bitsOf(values)),
  F8_E5M2: (values) => narrowByte(bitsOf(values), 5, 2),
  F8_E4M3: (values) => narrowByte(bitsOf(values), 4, 3),
};

/**
 * The stored values as float32, newly allocated; integers above 2^24 and F64 are rounded to it.
 *
 * @throws {TypeError} for a dtype that holds no single real numbers, or part of an element
 */
export function toFloat32(dtype: Dtype, bytes: Uint8Array): Float32Array {
  const reader = READERS[dtype];
  if (reader) return reader(bytes);
  throw new TypeError(
    `Cannot convert ${dtype} to float32 as the dtype must be one of ${Object.keys(READERS)}: ` +
      `current dtype is ${dtype}`,
  );
}

/**
 * Float32 values as stored elements, newly allocated: the inverse of `toFloat32` up to rounding.
 *
 * @throws {TypeError} for a dtype that is not written
 * @throws {RangeError} for an integer dtype that cannot hold a value exactly
 */
export function fromFloat32(dtype: Dtype, values: Float32Array): Uint8Array {
  const writer = WRITERS[dtype];
  if (writer) return new Uint8Array(writer(values).buffer);
  throw new TypeError(
    `Cannot convert float32 to ${dtype} as the dtype must be one of ${Object.keys(WRITERS)}: ` +
      `current dtype is ${dtype}`,
  );
}

/** Bytes seen as elements of one kind: in place where they are aligned, else a copy of them. */
function elements<T>(
  bytes: Uint8Array,
  Kind: { BYTES_PER_ELEMENT: number; new (buffer: ArrayBufferLike, at: number, n: number): T },
): T {
  const size = Kind.BYTES_PER_ELEMENT;
  if (bytes.length % size !== 0) {
    throw new TypeError(
      `Cannot convert elements of ${size} bytes as they must be complete: ` +
        `current number of bytes is ${bytes.length}`,
    );
  }
  const { buffer, byteOffset } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new Kind(buffer, byteOffset, bytes.length / size);
}

/** The values themselves, if all are whole and from `least` up to, not including, `end`. */
function whole(values: Float32Array, least: number, end: number): Float32Array {
  const wrong = values.find((value) => !(Number.isInteger(value) && value >= least && value < end));
  if (wrong === undefined) return values;
  throw new RangeError(
    `Cannot store a value as an integer as it must be whole, at least ${least} and below ${end}: ` +
      `current value is ${wrong}`,
  );
}

const bitsOf = (values: Float32Array) =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

const tables = new Map<number, Uint32Array>();

/** Small floats to float32: every value is looked up. */
function widen(small: ArrayLike<number>, exponent: number, mantissa: number): Float32Array {
  const key = exponent * 16 + mantissa;
  const table = tables.get(key) ?? float32Bits(exponent, mantissa);
  tables.set(key, table);
  const values = new Float32Array(small.length);
  const bits = bitsOf(values); // a NaN's payload may be lost where it passes as a number
  for (let i = 0; i < bits.length; i++) bits[i] = table[small[i]];
  return values;
}

/**
 * The float32 bits of every float with so many bits of exponent and mantissa.
 *
 * `(−1)^sign · m · 2^(1 − bias − M)` where e = 0, else `(−1)^sign · (2^M + m) · 2^(e − bias − M)`. The top
 * exponent is infinity and NaN, but in E4M3 numbers as well: there only its top mantissa is NaN.
 */
function float32Bits(E: number, M: number): Uint32Array {
  const values = new Float32Array(2 ** (1 + E + M));
  const bits = bitsOf(values);
  const top = 2 ** E - 1, bias = top >> 1;
  for (let i = 0; i < bits.length; i++) {
    const sign = i >> (E + M), e = (i >> M) & top, m = i & (2 ** M - 1);
    const special = e === top && (E > 4 || m === 2 ** M - 1);
    if (special) bits[i] = (sign << 31) | 0x7f800000 | (m << (23 - M));
    else {
      const size = e === 0 ? m * 2 ** (1 - bias - M) : (2 ** M + m) * 2 ** (e - bias - M);
      values[i] = sign ? -size : size;
    }
  }
  return bits;
}

/** bfloat16 is the upper half of a float32. */
function widenBrain(brain: Uint16Array): Float32Array {
  const values = new Float32Array(brain.length);
  const bits = bitsOf(values);
  for (let i = 0; i < bits.length; i++) bits[i] = brain[i] << 16;
  return values;
}

/** Adding half a unit, less one where the kept part is even, before cutting rounds ties to even. */
function narrowBrain(bits: Uint32Array): Uint16Array {
  const brain = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i], kept = b >>> 16;
    const isNaN = (b & 0x7fffffff) > 0x7f800000;
    brain[i] = isNaN ? kept | ((kept & 0x7f) === 0 ? 1 : 0) : (b + 0x7fff + (kept & 1)) >>> 16;
  }
  return brain;
}

/**
 * The bits of the nearest float with so many of exponent and mantissa, of a float32 without its sign.
 *
 * The bias 127 becomes 2^(E − 1) − 1; below the least normal number, steps are 2^(1 − bias − M) where float32's are
 * 2^(e − 150). A carry into the exponent is the next number; the exponent may exceed what E bits can hold.
 */
function nearest(size: number, E: number, M: number): number {
  const bias = (1 << (E - 1)) - 1, cut = 23 - M;
  if (size < (128 - bias) << 23) {
    const shift = 151 - bias - M - (size >>> 23), m = (size & 0x7fffff) | 0x800000;
    return shift > 24 ? 0 : (m + (1 << (shift - 1)) - 1 + ((m >>> shift) & 1)) >>> shift;
  }
  return (size - ((127 - bias) << 23) + (1 << (cut - 1)) - 1 + ((size >>> cut) & 1)) >>> cut;
}

function narrowHalf(bits: Uint32Array): Uint16Array {
  const half = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i], size = b & 0x7fffffff;
    const h = size > 0x7f800000
      ? Math.max(0x7c00 | ((size >>> 13) & 0x3ff), 0x7c01)
      : Math.min(nearest(size, 5, 10), 0x7c00);
    half[i] = ((b >>> 16) & 0x8000) | h;
  }
  return half;
}

/** E4M3 has numbers where E5M2 has infinity, and ends at 448, all bits but the last; all bits are NaN. */
function narrowByte(bits: Uint32Array, E: 4 | 5, M: 3 | 2): Uint8Array {
  const bytes = new Uint8Array(bits.length), most = E === 4 ? 0x7e : 0x7c;
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i], size = b & 0x7fffffff;
    const small = size > 0x7f800000 ? 0x7f : Math.min(nearest(size, E, M), most);
    bytes[i] = ((b >>> 24) & 0x80) | small;
  }
  return bytes;
}
