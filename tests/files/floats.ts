import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Dtype } from "../../lib/files/dtypes.ts";
import { fromFloat32, toFloat32 } from "../../lib/files/floats.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { fixture } from "../support/safetensors.ts";

/** The tensors of a file that NumPy and ml_dtypes computed: see fixtures/make_safetensors.py. */
function computed(name: string): (tensor: string) => Uint8Array {
  const { tensors } = parse(fixture(name));
  return (tensor) => tensors.get(tensor)?.bytes ?? new Uint8Array();
}

const bits32 = (values: Float32Array) => new Uint32Array(values.buffer);
const bits16 = (bytes: Uint8Array) => new Uint16Array(bytes.buffer, bytes.byteOffset);
const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer);
const every16 = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

/** The first index at which two arrays of bits differ, or −1; NaNs may differ in their payload. */
function difference(actual: Float32Array, expected: Float32Array): number {
  const a = bits32(actual), b = bits32(expected);
  return a.findIndex((bits, i) => bits !== b[i] && !(isNaN(actual[i]) && isNaN(expected[i])));
}

const widening = suite("toFloat32()");

widening("reads what NumPy stored as F64 and integers", () => {
  const tensor = computed("dtypes");
  const kinds = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"];
  const dtypes: Dtype[] = ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"];
  for (const [index, dtype] of dtypes.entries()) {
    assert.equal(toFloat32(dtype, tensor(kinds[index])), Float32Array.of(0, 1, 0, 1, 0, 1), dtype);
  }
  assert.equal(toFloat32("F64", tensor("float64")), Float32Array.of(0, 1, 0, 1, 0, 1));
  assert.equal(toFloat32("F32", tensor("float32")), Float32Array.of(0, 1, 0, 1, 0, 1));
});

widening("keeps the sign and the ends of integers", () => {
  const least = new BigInt64Array([-(2n ** 63n), -1n, 2n ** 62n]);
  assert.equal(toFloat32("I64", bytesOf(least)), Float32Array.of(-(2 ** 63), -1, 2 ** 62));
  assert.equal(toFloat32("U64", bytesOf(least)), Float32Array.of(2 ** 63, 2 ** 64, 2 ** 62));
  assert.equal(toFloat32("I8", Uint8Array.of(128, 255)), Float32Array.of(-128, -1));
  assert.equal(toFloat32("U8", Uint8Array.of(128, 255)), Float32Array.of(128, 255));
});

widening("reads all 256 values of both floats of eight bits as ml_dtypes does", () => {
  const tensor = computed("bytes");
  for (const [dtype, name] of [["F8_E4M3", "e4m3"], ["F8_E5M2", "e5m2"]] as const) {
    const expected = toFloat32("F32", tensor(`${name}_f32`));
    assert.is(difference(toFloat32(dtype, tensor(name)), expected), -1, dtype);
  }
});

widening("reads the landmarks of F16", () => {
  const marks = [0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x03ff, 0x7c00, 0xfc00, 0x3555];
  const values = [
    1,
    -2,
    65504,
    2 ** -14,
    2 ** -24,
    1023 * 2 ** -24,
    Infinity,
    -Infinity,
    0.33325195,
  ];
  assert.equal(toFloat32("F16", bytesOf(Uint16Array.from(marks))), Float32Array.from(values));
});

if ("getFloat16" in DataView.prototype) {
  widening("reads all 65536 values of F16 as the runtime does", () => {
    const view = new DataView(every16.buffer);
    const expected = Float32Array.from(every16, (_, i) => view.getFloat16(2 * i, true));
    assert.is(difference(toFloat32("F16", bytesOf(every16)), expected), -1);
  });
}

widening("reads bytes that are not aligned, and copies those that are", () => {
  for (const at of [0, 1, 2, 3, 4]) {
    const bytes = new Uint8Array(16).subarray(at, at + 8);
    bytes.set(bytesOf(Float32Array.of(1.5, -2)));
    const values = toFloat32("F32", bytes);
    assert.equal(values, Float32Array.of(1.5, -2));
    values.fill(0);
    assert.equal(toFloat32("F32", bytes), Float32Array.of(1.5, -2));
  }
});

widening("refuses half an element and dtypes without single real numbers", () => {
  const refused = (error: Error) => error instanceof TypeError;
  assert.throws(() => toFloat32("F16", new Uint8Array(3)), refused);
  assert.throws(() => toFloat32("C64", new Uint8Array(8)), refused);
  assert.throws(() => toFloat32("F4", new Uint8Array(8)), /must be one of .*F16/);
});

widening.run();

const narrowing = suite("fromFloat32()");

const every8 = Uint8Array.from({ length: 256 }, (_, bits) => bits);

for (const [dtype, nans] of [["F8_E4M3", 2], ["F8_E5M2", 6]] as const) {
  narrowing(`gives back all 256 values of ${dtype}, NaNs as one`, () => {
    const values = toFloat32(dtype, every8), back = fromFloat32(dtype, values);
    assert.is(values.filter(Number.isNaN).length, nans);
    assert.equal([...back], [...every8].map((b, i) => isNaN(values[i]) ? b | 0x7f : b));
  });

  narrowing(`rounds to the nearest ${dtype} and ties to even, between all neighbours`, () => {
    const sizes = toFloat32(dtype, every8.subarray(0, 128)).filter(Number.isFinite);
    for (const [b, size] of sizes.subarray(0, -1).entries()) {
      const middle = (size + sizes[b + 1]) / 2, near = middle * 2 ** -20;
      const values = Float32Array.of(middle - near, middle, middle + near);
      assert.equal([...fromFloat32(dtype, values)], [b, b % 2 === 0 ? b : b + 1, b + 1]);
    }
  });
}

for (const dtype of ["F16", "BF16"] as const) {
  narrowing(`gives back all 65536 values of ${dtype}, NaNs bit by bit`, () => {
    const back = bits16(fromFloat32(dtype, toFloat32(dtype, bytesOf(every16))));
    assert.is(back.findIndex((bits, i) => bits !== every16[i]), -1);
  });

  // Between every two neighbours, infinity included, lie their exact middle and float32's on its sides.
  narrowing(`rounds to the nearest ${dtype} and ties to even, between all neighbours`, () => {
    const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
    const overflow = dtype === "F16" ? 2 ** 16 : 2 ** 128; // where the next value would be
    for (const sign of [0, 0x8000]) {
      const bits = Uint16Array.from({ length: infinity }, (_, i) => i | sign);
      const numbers = new Float64Array(toFloat32(dtype, bytesOf(every16)));
      numbers[infinity] = overflow;
      numbers[infinity | 0x8000] = -overflow;
      const middles = Float32Array.from(bits, (b) => (numbers[b] + numbers[b + 1]) / 2);
      const nudged = (by: number) => new Float32Array(bits32(middles).map((b) => b + by).buffer);
      const down = bits16(fromFloat32(dtype, nudged(-1)));
      const tied = bits16(fromFloat32(dtype, middles));
      const up = bits16(fromFloat32(dtype, nudged(1)));
      for (const [i, b] of bits.entries()) {
        assert.is(down[i], b, `just under the middle above 0x${b.toString(16)}`);
        assert.is(tied[i], b % 2 === 0 ? b : b + 1, `the middle above 0x${b.toString(16)}`);
        assert.is(up[i], b + 1, `just over the middle above 0x${b.toString(16)}`);
      }
    }
  });
}

narrowing("rounds to F16 and BF16 as NumPy and ml_dtypes do", () => {
  const tensor = computed("rounding");
  const values = toFloat32("F32", tensor("f32"));
  for (const [dtype, name] of [["F16", "f16"], ["BF16", "bf16"]] as const) {
    const actual = toFloat32(dtype, fromFloat32(dtype, values));
    assert.is(difference(actual, toFloat32(dtype, tensor(name))), -1, dtype);
  }
});

if ("f16round" in Math) {
  narrowing("rounds float32 of all exponents as Math.f16round does", () => {
    const values = new Float32Array(
      Uint32Array.from({ length: 2 ** 19 }, (_, i) => i * 8191).buffer,
    );
    const actual = toFloat32("F16", fromFloat32("F16", values));
    assert.is(difference(actual, Float32Array.from(values, Math.f16round)), -1);
  });
}

narrowing("keeps signs of zero, infinities, and every NaN a NaN", () => {
  const nans = Uint32Array.of(0x7f800001, 0xff800001, 0x7fc00000, 0xffffffff, 0x7fffffff);
  for (const dtype of ["F16", "BF16", "F32", "F64"] as const) {
    const specials = toFloat32(
      dtype,
      fromFloat32(dtype, Float32Array.of(0, -0, Infinity, -Infinity)),
    );
    assert.equal([...specials].map((value) => 1 / value), [Infinity, -Infinity, 0, -0]);
    const kept = toFloat32(dtype, fromFloat32(dtype, new Float32Array(nans.buffer)));
    assert.ok(kept.every(Number.isNaN), dtype);
  }
});

narrowing("underflows to zero with its sign at half the least subnormal", () => {
  const values = Float32Array.of(2 ** -25, -(2 ** -25), 2 ** -149, 2 ** -25 + 2 ** -48);
  assert.equal(bits16(fromFloat32("F16", values)), Uint16Array.of(0, 0x8000, 0, 1));
});

narrowing("stores integers exactly or not at all", () => {
  const ends: [Dtype, number, number][] = [
    ["BOOL", 0, 1],
    ["U8", 0, 255],
    ["I8", -128, 127],
    ["U16", 0, 65535],
    ["I16", -32768, 32767],
    ["U32", 0, 2 ** 32 - 2 ** 8],
    ["I32", -(2 ** 31), 2 ** 31 - 2 ** 7],
    ["U64", 0, 2 ** 64 - 2 ** 40],
    ["I64", -(2 ** 63), 2 ** 63 - 2 ** 39],
  ];
  const refused = (error: Error) => error instanceof RangeError;
  for (const [dtype, least, greatest] of ends) {
    const values = Float32Array.of(least, 0, 1, greatest);
    assert.equal(toFloat32(dtype, fromFloat32(dtype, values)), values, dtype);
    for (const value of [0.5, NaN, Infinity, 2 * greatest + 1, 2 * least - 1]) {
      assert.throws(() => fromFloat32(dtype, Float32Array.of(value)), refused, `${dtype} ${value}`);
    }
  }
});

narrowing("converts part of an array only", () => {
  const values = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
  for (const dtype of ["F64", "F32", "F16", "BF16", "I64", "U8"] as const) {
    assert.equal(toFloat32(dtype, fromFloat32(dtype, values)), Float32Array.of(1, 2), dtype);
  }
});

/** `torch.tensor(value).to(dtype).view(torch.uint8)`, torch 2.13: of float8_e4m3fn, and of float8_e5m2. */
const TORCH: [value: number, e4m3: number, e5m2: number][] = [
  [-0, 0x80, 0x80],
  [1, 0x38, 0x3c],
  [17, 0x58, 0x4c], // ties in E4M3: down, and up
  [19, 0x5a, 0x4d],
  [-448, 0xfe, 0xdf],
  [464, 0x7e, 0x5f],
  [480, 0x7e, 0x60], // a tie in E5M2
  [1e4, 0x7e, 0x71],
  [57344, 0x7e, 0x7b],
  [61439, 0x7e, 0x7b],
  [61440, 0x7e, 0x7c],
  [-1e30, 0xfe, 0xfc],
  [Infinity, 0x7e, 0x7c],
  [-Infinity, 0xfe, 0xfc],
  [NaN, 0x7f, 0x7f],
  [2 ** -6, 0x08, 0x24], // E4M3's least normal number
  [3 * 2 ** -10, 0x02, 0x1a], // a tie of its subnormals
  [2 ** -10, 0x00, 0x14],
  [2 ** -10 + 2 ** -33, 0x01, 0x14],
  [2 ** -14, 0x00, 0x04], // E5M2's
  [3 * 2 ** -17, 0x00, 0x02],
  [2 ** -17, 0x00, 0x00],
  [-(2 ** -17 + 2 ** -40), 0x80, 0x81],
];

narrowing("rounds to F8 as torch does: E4M3 ends at 448, E5M2 at infinity", () => {
  for (const [value, e4m3, e5m2] of TORCH) {
    const told = (dtype: Dtype) => fromFloat32(dtype, Float32Array.of(value))[0];
    assert.equal([told("F8_E4M3"), told("F8_E5M2")], [e4m3, e5m2], String(value));
  }
});

narrowing("refuses dtypes that are not written", () => {
  assert.throws(() => fromFloat32("F8_E8M0", new Float32Array(1)), /must be one of .*BF16/);
});

narrowing.run();
