/** The gradients of pooling: loops over the heap, channels innermost, where the backend's search all of x. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

type Pool = ReturnType<typeof tf.backend_util.computePool2DInfo>;

/** Calls `visit` for each output: where it begins, and where the positions of its window in x begin. */
function windows(pool: Pool, visit: (output: number, positions: number[]) => void): void {
  const { inChannels: channels, inHeight, inWidth, outHeight, outWidth } = pool;
  const positions: number[] = []; // one list for all: they are many
  let output = 0;
  for (let n = 0; n < pool.batchSize; n++) {
    for (let p = 0; p < outHeight; p++) {
      const top = p * pool.strideHeight - pool.padInfo.top;
      for (let q = 0; q < outWidth; q++, output += channels) {
        const left = q * pool.strideWidth - pool.padInfo.left;
        positions.length = 0;
        for (let a = Math.max(0, top); a < Math.min(inHeight, top + pool.filterHeight); a++) {
          for (let b = Math.max(0, left); b < Math.min(inWidth, left + pool.filterWidth); b++) {
            positions.push(((n * inHeight + a) * inWidth + b) * channels);
          }
        }
        visit(output, positions);
      }
    }
  }
}

function poolOf(x: tf.TensorInfo, attributes: Record<string, unknown>): Pool {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as Record<string, never>;
  const shape = x.shape as [number, number, number, number];
  return tf.backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
}

/** Each output's gradient goes to the largest input of its window, the first of equals. */
export function maxPoolGradient(call: Call): tf.TensorInfo {
  return call.inputs.input.shape[3] % 4 === 0 ? maxPoolVectors(call) : maxPoolLoop(call);
}

/** Four channels at a time. */
function maxPoolVectors({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
  const pool = poolOf(input, attrs), taps = pool.filterHeight * pool.filterWidth;
  const list = backend.makeOutput([taps], "int32");
  const gradient = backend.makeOutput(input.shape, "float32");
  floats(backend, gradient).fill(0);
  const [x, to, error, at] = [input, gradient, dy, list].map(({ dataId }) =>
    backend.getMemoryOffset(dataId)
  );
  const entries = backend.typedArrayFromHeap(list), { peak } = vectors(backend);
  windows(pool, (output, positions) => {
    for (let i = 0; i < positions.length; i++) entries[i] = x + 4 * positions[i];
    peak(at, positions.length, to - x, error + 4 * output, 4 * pool.inChannels);
  });
  backend.disposeData(list.dataId);
  return gradient;
}

function maxPoolLoop({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
  const gradient = backend.makeOutput(input.shape, "float32");
  const pool = poolOf(input, attrs), channels = pool.inChannels;
  const x = floats(backend, input), error = floats(backend, dy);
  const to = floats(backend, gradient).fill(0);
  windows(pool, (output, positions) => {
    for (let c = 0; c < channels; c++) {
      let at = positions[0] + c;
      for (let i = 1; i < positions.length; i++) {
        if (x[positions[i] + c] > x[at]) at = positions[i] + c;
      }
      to[at] += error[output + c];
    }
  });
  return gradient;
}

/** Each output's gradient, divided by the size of the window, goes to every input of its window. */
export function avgPoolGradient({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
  const gradient = backend.makeOutput(input.shape, "float32");
  const pool = poolOf(input, attrs), channels = pool.inChannels;
  const share = 1 / size([pool.filterHeight, pool.filterWidth]);
  const error = floats(backend, dy), to = floats(backend, gradient).fill(0);
  windows(pool, (output, positions) => {
    for (const position of positions) {
      for (let c = 0; c < channels; c++) to[position + c] += share * error[output + c];
    }
  });
  return gradient;
}
