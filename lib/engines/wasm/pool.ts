/** The gradients of pooling: loops over the heap, channels innermost, where the backend's search all of x. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import { type Call, floats } from "./compose.ts";

type Pool = ReturnType<typeof tf.backend_util.computePool2DInfo>;

/** Calls `visit` for each output: where it begins, and where the positions of its window in x begin. */
function windows(pool: Pool, visit: (output: number, positions: number[]) => void): void {
  const { inChannels: channels, inHeight, inWidth, outHeight, outWidth } = pool;
  let output = 0;
  for (let n = 0; n < pool.batchSize; n++) {
    for (let p = 0; p < outHeight; p++) {
      const top = p * pool.strideHeight - pool.padInfo.top;
      for (let q = 0; q < outWidth; q++, output += channels) {
        const left = q * pool.strideWidth - pool.padInfo.left;
        const positions: number[] = [];
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
export function maxPoolGradient({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
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
