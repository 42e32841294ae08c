/** Matrix products: the backend is fast for a tall matrix by another that stays; the others are sums. */
import * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { accumulate, frame, pitchOf } from "./accumulate.ts";
import { type Backend, type Call, compose, type Run, within } from "./compose.ts";

/** Below so many multiplications a batch, the backend's own slow loop beats setting up the fast one. */
const SMALL = 16384;

/** Below so many rows XNNPACK's packing of B costs more than its speed gains. */
const FEW = 384;

/** out = A · B by the backend's C++, ids for tensors; shapes are three int32 each, `[1, rows, columns]`. */
type Multiply = (
  a: number,
  aShape: Uint8Array,
  aRank: number,
  b: number,
  bShape: Uint8Array,
  bRank: number,
  transposeA: boolean,
  transposeB: boolean,
  out: number,
) => void;

const found = new WeakMap<Backend, Multiply>();

/** The C++ function of a backend, looked up once. */
function multiplier(backend: Backend): Multiply {
  let multiply = found.get(backend);
  if (!multiply) {
    const [number, array] = ["number", "array"] as const;
    multiply = backend.wasm.cwrap("BatchMatMul", null, [
      ...[number, array, number],
      ...[number, array, number],
      ...[number, number, number],
    ]) as Multiply;
    found.set(backend, multiply);
  }
  return multiply;
}

/** For every batch of the result the index of the batch of an operand which is read, broadcast. */
function reads(operand: Shape, result: Shape): number[] {
  let indices = [0];
  const lead = result.length - operand.length;
  for (const [axis, length] of result.entries()) {
    const own = axis < lead ? 1 : operand[axis - lead];
    const step = own === 1 ? 0 : 1;
    indices = indices.flatMap((index) => Array.from({ length }, (_, i) => index * own + i * step));
  }
  return indices;
}

/** op(A) · op(B) as `[m, k] · [k, n]`, batches broadcast. */
interface Factors {
  a: tf.TensorInfo;
  b: tf.TensorInfo;
  transposeA: boolean;
  transposeB: boolean;
  aBatch: Shape;
  bBatch: Shape;
  batch: number[];
  m: number;
  k: number;
  n: number;
}

function factors({ inputs: { a, b }, attrs }: Call): Factors {
  const transposeA = attrs.transposeA === true, transposeB = attrs.transposeB === true;
  const aBatch = a.shape.slice(0, -2), bBatch = b.shape.slice(0, -2);
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch);
  const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transposeB ? bRows : bColumns;
  return { a, b, transposeA, transposeB, aBatch, bBatch, batch, m, k, n };
}

/** The matrices with rows and columns exchanged, where that is asked. */
function upright(run: Run, x: tf.TensorInfo, transposed: boolean): tf.TensorInfo {
  if (!transposed) return x;
  const axes = x.shape.map((_, axis) => axis), last = axes.length - 1;
  return run("Transpose", { x }, { perm: [...axes.slice(0, -2), last, last - 1] });
}

/** One product as a sum over k, for which A is never turned and B not packed. */
function summed({ backend }: Call, { a, b, transposeA, transposeB, batch, m, k, n }: Factors) {
  const rows = transposeA ? m : size(batch) * m, pitch = pitchOf(n, rows);
  return compose(backend, (run, own) => {
    const right = upright(run, b, transposeB);
    const lines = { ...right, shape: [1, k, 1, n] };
    return accumulate(backend, {
      a,
      offsets: Array.from({ length: rows }, (_, row) => transposeA ? row : row * k),
      step: transposeA ? m : 1,
      b: pitch === n ? right : own(frame(backend, lines, [k, 1, pitch])),
      pitch,
      runs: [{ a: 0, b: 0, count: k }],
      columns: n,
    }, [...batch, m, n]);
  });
}

/** One product by XNNPACK of all rows where B is one matrix, else one for each batch. */
function packed({ backend }: Call, factors: Factors): tf.TensorInfo {
  const { aBatch, bBatch, batch, m, k, n } = factors;
  return compose(backend, (run) => {
    const left = upright(run, factors.a, factors.transposeA);
    const right = upright(run, factors.b, factors.transposeB);
    const out = backend.makeOutput([...batch, m, n], "float32");
    const whole = size(bBatch) === 1, rows = whole ? size(batch) * m : m;
    const lefts = whole ? [0] : reads(aBatch, batch), rights = whole ? [0] : reads(bBatch, batch);
    const multiply = multiplier(backend);
    const shape = (high: number, wide: number) =>
      new Uint8Array(Int32Array.of(1, high, wide).buffer);
    const sizes = [shape(rows, k), shape(k, n)];
    const id = (tensor: tf.TensorInfo) => backend.dataIdMap.get(tensor.dataId).id;
    for (const [index, from] of lefts.entries()) {
      const parts: [tf.TensorInfo, number, Shape][] = [
        [left, from * rows * k, [rows, k]],
        [right, rights[index] * k * n, [k, n]],
        [out, index * rows * n, [rows, n]],
      ];
      within(
        backend,
        parts,
        (a, b, c) => multiply(id(a), sizes[0], 3, id(b), sizes[1], 3, false, false, id(c)),
      );
    }
    return out;
  });
}

/** op(A) · op(B), batches broadcast. */
export function product(call: Call, shipped: (call: Call) => tf.TensorInfo): tf.TensorInfo {
  const { a, b } = call.inputs;
  if (a.dtype !== "float32" || b.dtype !== "float32") return shipped(call);
  const all = factors(call), { aBatch, bBatch, batch, transposeA, m, k, n } = all;
  const once = size(bBatch) === 1 && (!transposeA || size(aBatch) === 1);
  if (once && (transposeA || size(batch) * m < FEW)) return summed(call, all);
  const even = size(aBatch) === size(batch) || size(bBatch) === size(batch);
  return m * k * n < SMALL && even ? shipped(call) : packed(call, all);
}
