/** The kernels of the package that fail on tensors of many axes, or on many tensors, made of its own. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import type { Backend } from "./backend.ts";

/** What TensorFlow.js hands to a kernel. */
interface Call {
  inputs: Record<string, tf.TensorInfo>;
  attrs: Record<string, unknown>;
  backend: Backend;
}
type Shipped = (call: Call) => tf.TensorInfo;

/** A kernel, and the package's own of its name, which it is made of. */
type Kernel = (call: Call, shipped: Shipped) => tf.TensorInfo;

/** The most axes that the package's shaders can name by number. */
const AXES = 4;

/** The same numbers with one axis of their own, what is before it as one, and what is behind it. */
function around(x: tf.TensorInfo, axis: number): tf.TensorInfo {
  const [before, after] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
  return { ...x, shape: [size(before), x.shape[axis], size(after)] };
}

/**
 * A kernel that goes through the axes that it changes one by one, where there are too many.
 *
 * @param changed those axes
 * @param alone the attributes of one of them, which is the middle one of three then
 */
const axiswise = (
  changed: (call: Call) => number[],
  alone: (call: Call, axis: number) => Record<string, unknown>,
): Kernel =>
(call, shipped) => {
  const { inputs: { x }, attrs, backend } = call;
  const axes = x.shape.length > AXES && size(x.shape) > 0 ? changed(call) : [];
  if (axes.length === 0) return shipped(call);
  let made = x;
  for (const axis of axes) {
    const inputs = { x: around(made, axis) }, shape = [...made.shape];
    const next = shipped({ inputs, attrs: { ...attrs, ...alone(call, axis) }, backend });
    shape[axis] = next.shape[1];
    if (made !== x) backend.disposeData(made.dataId);
    made = { ...next, shape };
  }
  return made;
};

type Ends = [before: number, after: number];
const ends = ({ attrs }: Call) => attrs.paddings as Ends[];
const pad = axiswise(
  (call) => ends(call).flatMap(([before, after], axis) => before + after > 0 ? [axis] : []),
  (call, axis) => ({ paddings: [[0, 0], ends(call)[axis], [0, 0]] }),
);
const reverse = axiswise(
  ({ inputs: { x }, attrs }) => tf.util.parseAxisParam(attrs.dims as number[], x.shape),
  () => ({ dims: [1] }),
);
const cumulate = axiswise(
  ({ inputs: { x }, attrs }) => tf.util.parseAxisParam(attrs.axis as number, x.shape),
  () => ({ axis: 1 }),
);

/** Element by element, in a row. */
const select: Kernel = ({ inputs: { condition, t, e }, attrs, backend }, shipped) => {
  const row = (x: tf.TensorInfo) => ({ ...x, shape: [size(x.shape)] });
  if (t.shape.length <= AXES || condition.shape.length !== t.shape.length) {
    return shipped({ inputs: { condition, t, e }, attrs, backend });
  }
  const inputs = { condition: row(condition), t: row(t), e: row(e) };
  return { ...shipped({ inputs, attrs, backend }), shape: t.shape };
};

/** Σ of as many tensors at once as a shader can read, and so on; the package hands it all of them. */
const addN: Kernel = ({ inputs, attrs, backend }, shipped) => {
  const most = backend.device.limits.maxStorageBuffersPerShaderStage - 1; // and one to write to
  const sum = (parts: tf.TensorInfo[]) =>
    shipped({ inputs: parts as unknown as Call["inputs"], attrs, backend });
  const tensors = Object.values(inputs);
  let total = sum(tensors.slice(0, most));
  for (let i = most; i < tensors.length; i += most - 1) {
    const next = sum([total, ...tensors.slice(i, i + most - 1)]);
    backend.disposeData(total.dataId);
    total = next;
  }
  return total;
};

const KERNELS: Record<string, Kernel> = {
  AddN: addN,
  Cumprod: cumulate,
  Cumsum: cumulate,
  PadV2: pad,
  Reverse: reverse,
  Select: select,
};

let installed = false;

/** Puts the kernels of this file in the place of the package's, once. */
export function install(): void {
  if (installed) return;
  installed = true;
  const backendName = "webgpu";
  for (const [kernelName, kernel] of Object.entries(KERNELS)) {
    const shipped = tf.getKernel(kernelName, backendName).kernelFunc as unknown as Shipped;
    tf.unregisterKernel(kernelName, backendName);
    const kernelFunc = (call: unknown) => kernel(call as Call, shipped);
    tf.registerKernel({ kernelName, backendName, kernelFunc });
  }
}
