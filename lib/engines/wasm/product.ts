/** Matrix products: the backend is fast for one plain matrix by another, so others become that. */
import * as tf from "@tensorflow/tfjs";
import { type Shape, size } from "../../tensor/shape.ts";
import { type Backend, type Call, compose, within } from "./compose.ts";

/** Below so many multiplications a batch, the backend's own slow loop beats setting up the fast one. */
const SMALL = 16384;

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

/**
 * op(A) · op(B), batches broadcast: transposes are made explicit, and one product is made of all rows
 * where B is one matrix, else one for each batch.
 */
export function product(
  call: Call,
  shipped: (call: Call) => tf.TensorInfo,
): tf.TensorInfo {
  const { inputs: { a, b }, attrs: { transposeA, transposeB }, backend } = call;
  const [aBatch, bBatch] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch);
  const [aRows, aColumns] = a.shape.slice(-2), [bRows, bColumns] = b.shape.slice(-2);
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const [inner, n] = transposeB ? [bColumns, bRows] : [bRows, bColumns];
  const plain = size(aBatch) === size(batch) || size(bBatch) === size(batch);
  const tiny = m * k * n < SMALL && plain;
  if (tiny || k !== inner || a.dtype !== "float32" || b.dtype !== "float32") return shipped(call);

  return compose(backend, (run) => {
    const upright = (x: tf.TensorInfo, transpose: unknown) => {
      if (!transpose) return x;
      const axes = x.shape.map((_, axis) => axis), last = axes.length - 1;
      return run("Transpose", { x }, { perm: [...axes.slice(0, -2), last, last - 1] });
    };
    const left = upright(a, transposeA), right = upright(b, transposeB);
    const out = backend.makeOutput([...batch, m, n], "float32");
    const rows = size(bBatch) === 1 ? size(batch) * m : m;
    const lefts = rows === m ? reads(aBatch, batch) : [0];
    const rights = rows === m ? reads(bBatch, batch) : [0];
    const multiply = multiplier(backend);
    const id = (tensor: tf.TensorInfo) => backend.dataIdMap.get(tensor.dataId).id;
    const aShape = new Uint8Array(Int32Array.of(1, rows, k).buffer);
    const bShape = new Uint8Array(Int32Array.of(1, k, n).buffer);
    lefts.forEach((from, index) =>
      within(
        backend,
        left,
        from * rows * k,
        [rows, k],
        (a) =>
          within(backend, right, rights[index] * k * n, [k, n], (b) =>
            within(backend, out, index * rows * n, [rows, n], (c) =>
              multiply(id(a), aShape, 3, id(b), bShape, 3, false, false, id(c)))),
      )
    );
    return out;
  });
}
