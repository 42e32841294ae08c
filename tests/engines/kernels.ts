/** What each engine computes by kernels of its own, against the cpu backend. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as engine from "../../lib/engines/engine.ts";
import { columnDot, multiplyAdd } from "../../lib/tensor/fused.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

/** Shapes of the inputs, what is done with them, and whether TensorFlow.js has its gradient. */
type Row = [
  name: string,
  shapes: number[][],
  (...x: tf.Tensor[]) => tf.Tensor,
  forward?: "forward",
];

const products: Row[] = [];
for (const [left, right] of [[[], []], [[2], [2]], [[2], []], [[2, 3], [2, 3]]]) {
  for (const [ta, tb] of [[false, false], [true, false], [false, true], [true, true]]) {
    const a = [...left, ...(ta ? [40, 33] : [33, 40])],
      b = [...right, ...(tb ? [29, 40] : [40, 29])];
    const broadcast = left.join() !== right.join();
    const name = `matMul ${a.join("×")}${ta ? "ᵀ" : ""} · ${b.join("×")}${tb ? "ᵀ" : ""}`;
    products.push([
      name,
      [a, b],
      (a, b) => tf.matMul(a, b, ta, tb),
      broadcast ? "forward" : undefined,
    ]);
  }
}

const pools: Row[] = [];
for (const [size, stride] of [[2, 2], [3, 2], [3, 1], [2, 3]]) {
  for (const pad of ["valid", "same"] as const) {
    const name = `${size}×${size}, stride ${stride}, ${pad}`, x = [2, 7, 9, 3];
    const wide = [2, 7, 9, 8];
    pools.push([
      `maxPool of 8 ${name}`,
      [wide],
      (x) => tf.maxPool(x as tf.Tensor4D, size, stride, pad),
    ]);
    pools.push([`maxPool ${name}`, [x], (x) => tf.maxPool(x as tf.Tensor4D, size, stride, pad)]);
    pools.push([`avgPool ${name}`, [x], (x) => tf.avgPool(x as tf.Tensor4D, size, stride, pad)]);
  }
}

/** A convolution, a depthwise one and a product, each with a bias and an activation, in one kernel. */
const activations = ["linear", "relu", "relu6", "elu", "sigmoid", "leakyrelu", "prelu"] as const;
const fused: Row[] = activations.flatMap((activation): Row[] => {
  const alpha = tf.tensor1d([0.3, 0.1, 0.2, 0.4]);
  const prelu = activation === "prelu" ? { preluActivationWeights: alpha } : {};
  const more = { activation, leakyreluAlpha: 0.3, ...prelu };
  const fixed = { ...more, strides: 1, pad: "same" } as const;
  return [
    [`${activation}(conv2d)`, [[2, 6, 5, 3], [3, 3, 3, 4], [4]], (x, filter, bias) => {
      const [a, b] = [x as tf.Tensor4D, filter as tf.Tensor4D];
      return tf.fused.conv2d({ ...fixed, x: a, filter: b, bias });
    }, "forward"],
    [`${activation}(depthwiseConv2d)`, [[2, 6, 5, 4], [3, 3, 4, 1], [4]], (x, filter, bias) => {
      const [a, b] = [x as tf.Tensor4D, filter as tf.Tensor4D];
      return tf.fused.depthwiseConv2d({ ...fixed, x: a, filter: b, bias });
    }, "forward"],
    [`${activation}(matMul)`, [[30, 20], [20, 4], [4]], (a, b, bias) => {
      return tf.fused.matMul({ ...more, a, b, bias });
    }, "forward"],
  ];
});

fused.push(["relu(matMul) of many rows", [[2100, 20], [20, 9], [9]], (a, b, bias) => {
  return tf.fused.matMul({ activation: "relu", a, b, bias });
}, "forward"]);

const ids = tf.tensor1d([3, 0, 3, 1, 3, 9, 1, 3], "int32");
const rows: Row[] = [
  ...products,
  ["matMul of many rows", [[500, 64], [64, 16]], (a, b) => tf.matMul(a, b)],
  ["matMul of no rows", [[0, 64], [64, 16]], (a, b) => tf.matMul(a, b), "forward"],
  ["matMul, small batches", [[7, 3, 4], [7, 4, 2]], (a, b) => tf.matMul(a, b)],
  ["tile of a whole", [[1, 5, 7]], (x) => tf.tile(x, [9, 1, 1])],
  ["tile of a whole, twice", [[1, 5, 7]], (x) => tf.tile(x, [3, 2, 1])],
  ["tile of rows", [[2, 5, 7]], (x) => tf.tile(x, [1, 3, 1])],
  ["slice of rows", [[5, 4, 3]], (x) => tf.slice(x, [2, 0, 0], [2, -1, -1])],
  ["slice of columns", [[5, 4, 3]], (x) => tf.slice(x, [0, 1, 0], [5, 2, 3])],
  ["slice inside", [[5, 4, 3, 6]], (x) => tf.slice(x, [1, 1, 0, 2], [3, 2, 2, 3])],
  ["slice of all", [[5, 4]], (x) => tf.slice(x, [0, 0], [5, 4])],
  ["slice of one", [[7]], (x) => tf.slice(x, [3], [1])],
  ["slice of nothing", [[7, 2]], (x) => tf.slice(x, [3, 0], [0, 2]), "forward"],
  ["tile by ones", [[2, 5]], (x) => tf.tile(x, [1, 1])],
  ["broadcastTo", [[5, 7]], (x) => tf.broadcastTo(x, [4, 5, 7])],
  ...fused,
  ...pools,
  ["sum of rows", [[70, 60]], (x) => tf.sum(x, 0)],
  ["sum of one row", [[1, 5000]], (x) => tf.sum(x, 0)],
  ["sum of a prime number of rows", [[71, 60]], (x) => tf.sum(x, 0)],
  ["sum over batch and space", [[4, 9, 8, 16]], (x) => tf.sum(x, [0, 1, 2])],
  ["sum that keeps its axes", [[4, 9, 8, 16]], (x) => tf.sum(x, [1, 0], true)],
  ["sum over the last axis", [[40, 9, 17]], (x) => tf.sum(x, -1)],
  ["mean over batch and space", [[4, 9, 8, 16]], (x) => tf.mean(x, [0, 1, 2])],
  ["gather", [[12, 5]], (x) => tf.gather(x, ids)],
  ["gather of columns", [[3, 12, 5]], (x) => tf.gather(x, ids, 1)],
  ["relu of x and a bias", [[2, 40, 30, 16], [16]], (x, bias) => tf.relu(tf.add(x, bias))],
  ["softmax", [[64, 100]], (x) => tf.softmax(x)],
  ["softmax of many rows", [[20, 40, 50]], (x) => tf.softmax(x)],
  ["transpose", [[200, 200]], (x) => tf.transpose(x)],
  ["transpose of heads", [[2, 64, 8, 40]], (x) => tf.transpose(x, [0, 2, 1, 3])],
  ["transpose of all axes", [[16, 1, 64, 40]], (x) => tf.transpose(x, [3, 1, 0, 2])],
  ["sum of many", [[9, 256, 256], [9, 256, 256]], (a, b) => tf.add(a, b)],
  ["quotient of many by rows", [[2300, 256], [256]], (a, b) => tf.div(a, tf.add(b, 2)), "forward"],
  ["difference of many and one", [[2300, 256], [1, 1]], (a, b) => tf.sub(a, b), "forward"],
  ["product of a row and many", [[1, 256], [2300, 256]], (a, b) => tf.mul(a, b), "forward"],
  ["multiplyAdd()", [[9, 20, 8], [8, 30], [9, 20, 30]], multiplyAdd, "forward"],
  ["columnDot()", [[3, 9, 50], [3, 9, 50]], columnDot, "forward"],
  ["columnDot() of long columns, shifted", [[5000, 33], [5000, 33], [33]], columnDot, "forward"],
  ["exp", [[200, 200]], (x) => tf.exp(x)],
  ["log", [[200, 200]], (x) => tf.log(tf.add(tf.square(x), 0.1))],
  ["sqrt", [[200, 200]], (x) => tf.sqrt(tf.add(tf.square(x), 0.1))],
  ["tanh and sigmoid", [[200, 200]], (x) => tf.mul(tf.tanh(x), tf.sigmoid(x))],
  ["elementwise chain", [[2, 64, 32, 8], [2, 64, 32, 8]], (a, b) => {
    return tf.div(tf.sub(tf.mul(a, b), a), tf.add(tf.square(b), 1));
  }],
];

/**
 * The `cpu` backend divides by the whole window where its own avgPool divided by what lies in the input:
 * TensorFlow's gradient is that of the value, and so another.
 */
const exact = (engine: string, row: string) =>
  engine === "tensorflow" && /^avgPool.*same/.test(row) ? "forward" : undefined;

/** The value, and the gradient for every input. */
function outcome([, shapes, operation, forward]: Row): tf.Tensor[] {
  const inputs = shapes.map((shape, index) => tf.tensor(values(shape, index), shape));
  const y = operation(...inputs);
  if (forward) return [y];
  const dy = tf.tensor(values(y.shape, 7), y.shape);
  return [y, ...tf.grads(operation)(inputs, dy)];
}

for (const { name, available } of await engine.list()) {
  if (available !== true) console.log(`${name} is skipped: ${available}`);
  if (available !== true || name === "cpu") continue;
  const kernels = suite(`${name}:`);
  leakless(kernels);
  for (const [title, shapes, operation, forward = exact(name, title)] of rows) {
    const row: Row = [title, shapes, operation, forward];
    kernels(`${row[0]} is the cpu's`, async () => {
      await tf.setBackend("cpu");
      const expected = outcome(row);
      for (const tensor of expected) tensor.dataSync();
      await engine.use(name);
      for (const [index, tensor] of outcome(row).entries()) {
        const what = index === 0 ? "y" : `gradient of input ${index}`;
        close(tensor, expected[index], index === 0 ? "value" : "gradient", what);
      }
    });
  }
  kernels.run();
}
