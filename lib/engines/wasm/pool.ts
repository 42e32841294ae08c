/** The gradients of pooling, which the backend's own search all of the input for. */
import * as tf from "@tensorflow/tfjs";
import { type Call, floats } from "./compose.ts";
import { vectors } from "./vectors.ts";

type Pool = ReturnType<typeof tf.backend_util.computePool2DInfo>;

function poolOf(x: tf.TensorInfo, attributes: Record<string, unknown>): Pool {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as Record<string, never>;
  const shape = x.shape as [number, number, number, number];
  return tf.backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
}

/** Outputs side by side whose windows are cut off nowhere, or one whose window is, in floats. */
interface Windows {
  output: number;
  /** where in x the window of the first begins each of its inputs, and how far on those of the next are */
  inputs: number[];
  step: number;
  count: number;
}

/** All windows, row by row. */
function* windowsOf(pool: Pool): Generator<Windows> {
  const { inChannels: channels, inHeight, inWidth, outWidth, strideWidth, filterWidth } = pool;
  const step = strideWidth * channels;
  const whole = (q: number) => {
    const left = q * strideWidth - pool.padInfo.left;
    return left >= 0 && left + filterWidth <= inWidth;
  };
  let output = 0;
  for (let n = 0; n < pool.batchSize; n++) {
    for (let p = 0; p < pool.outHeight; p++) {
      const top = p * pool.strideHeight - pool.padInfo.top;
      for (let q = 0; q < outWidth;) {
        const left = q * strideWidth - pool.padInfo.left, inputs: number[] = [];
        for (let a = Math.max(0, top); a < Math.min(inHeight, top + pool.filterHeight); a++) {
          for (let b = Math.max(0, left); b < Math.min(inWidth, left + filterWidth); b++) {
            inputs.push(((n * inHeight + a) * inWidth + b) * channels);
          }
        }
        let count = 1;
        while (whole(q) && q + count < outWidth && whole(q + count)) count++;
        yield { output, inputs, step, count };
        output += count * channels;
        q += count;
      }
    }
  }
}

/** Each output's gradient goes to the largest input of its window, the first of equals. */
export function maxPoolGradient({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
  const pool = poolOf(input, attrs), channels = pool.inChannels;
  const list = backend.makeOutput([pool.filterHeight * pool.filterWidth], "int32");
  const gradient = backend.makeOutput(input.shape, "float32");
  const x = floats(backend, input), error = floats(backend, dy);
  const to = floats(backend, gradient).fill(0), entries = backend.typedArrayFromHeap(list);
  const { peak } = vectors(backend);
  for (const { output, inputs, step, count } of windowsOf(pool)) {
    if (channels % 4 === 0) {
      inputs.forEach((at, index) => entries[index] = x.byteOffset + 4 * at);
      const shift = to.byteOffset - x.byteOffset, from = error.byteOffset + 4 * output;
      peak(entries.byteOffset, inputs.length, shift, from, 4 * channels, 4 * step, count);
      continue;
    }
    for (let q = 0; q < count; q++) {
      for (let c = 0; c < channels; c++) {
        const shift = q * step + c;
        let at = inputs[0] + shift;
        for (const input of inputs) if (x[input + shift] > x[at]) at = input + shift;
        to[at] += error[output + q * channels + c];
      }
    }
  }
  backend.disposeData(list.dataId);
  return gradient;
}

/** Each output's gradient, divided by the size of the window, goes to every input of its window. */
export function avgPoolGradient({ inputs: { dy, input }, attrs, backend }: Call): tf.TensorInfo {
  const pool = poolOf(input, attrs), share = 1 / (pool.filterHeight * pool.filterWidth);
  const gradient = backend.makeOutput(input.shape, "float32");
  const error = floats(backend, dy), to = floats(backend, gradient).fill(0);
  for (const { output, inputs, step, count } of windowsOf(pool)) {
    for (const input of inputs) {
      for (let q = 0; q < count; q++) {
        const at = input + q * step, from = output + q * pool.inChannels;
        for (let c = 0; c < pool.inChannels; c++) to[at + c] += share * error[from + c];
      }
    }
  }
  return gradient;
}
