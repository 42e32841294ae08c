/** How fast the engine at hand is at what training does most: about a second of measuring. */
import * as tf from "@tensorflow/tfjs";

/** 10⁹ multiplications and additions a second, at the best of the sizes that there was time for. */
export interface Speed {
  /** a convolution, 3×3 */
  convolution: number;
  /** a matrix product */
  product: number;
}

/** Milliseconds for each of the two, and the fewest that one size is repeated for. */
const TIME = { all: 500, size: 80 };

/** Multiplications and additions of a size, and its computation. */
interface Work {
  flops: number;
  inputs: tf.Tensor[];
  compute(...inputs: tf.Tensor[]): tf.Tensor;
}

function product(n: number): Work {
  const inputs = [tf.fill([n, n], 0.5), tf.fill([n, n], 0.25)];
  return { flops: 2 * n ** 3, inputs, compute: (a, b) => tf.matMul(a, b) };
}

function convolution(n: number): Work {
  const inputs = [tf.fill([1, n, n, n], 0.5), tf.fill([3, 3, n, n], 0.25)];
  return {
    flops: 18 * n ** 4,
    inputs,
    compute: (x, W) => tf.conv2d(x as tf.Tensor4D, W as tf.Tensor4D, 1, "same"),
  };
}

async function timed({ inputs, compute }: Work): Promise<number> {
  const start = performance.now(), y = compute(...inputs);
  await y.data();
  y.dispose();
  return performance.now() - start;
}

/** From small to large, as long as there is time: the slowest engine, too, finishes a size. */
async function best(works: (() => Work)[]): Promise<number> {
  let speed = 0, all = 0;
  for (const make of works) {
    const work = make();
    await timed(work); // the first builds what later ones find
    const began = performance.now(), passed = () => performance.now() - began;
    do {
      speed = Math.max(speed, work.flops / await timed(work) / 1e6);
    } while (passed() < TIME.size);
    tf.dispose(work.inputs);
    if ((all += passed()) > TIME.all) break;
  }
  return speed;
}

/** Measures the backend that is selected. */
export async function measure(): Promise<Speed> {
  return {
    convolution: await best([8, 16, 32, 64, 96].map((n) => () => convolution(n))),
    product: await best([32, 64, 128, 256, 512, 1024].map((n) => () => product(n))),
  };
}
