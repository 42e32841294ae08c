/** How the elements of a stored tensor are written, under the names of the safetensors format. */

/** Bits of one element by dtype, in the reference's order: a file begins with tensors of the last. */
export const DTYPES = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** The name of a dtype. */
export type Dtype = keyof typeof DTYPES;

/** Whether a value names a dtype. */
export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(DTYPES, value);
}

/** `∏ shape · bits / 8`: the bytes of a tensor; NaN where a length or a product cannot be counted. */
export function byteLength(dtype: Dtype, shape: readonly number[]): number {
  const times = (bits: number, length: number) =>
    bits * length <= Number.MAX_SAFE_INTEGER ? bits * length : NaN;
  const isLength = (length: number) => Number.isSafeInteger(length) && length >= 0;
  return shape.every(isLength) ? shape.reduce(times, DTYPES[dtype]) / 8 : NaN;
}

/** Half a unit in the last place as a share of the number, of how checkpoints store weights; F64 is read as float32. */
export const HALF_UNIT: { readonly [dtype in Dtype]?: number } = {
  F64: 2 ** -24,
  F32: 2 ** -24,
  F16: 2 ** -11,
  BF16: 2 ** -8,
  F8_E4M3: 2 ** -4,
  F8_E5M2: 2 ** -3,
};
