/** Elements in another order, shape or type; sums of them, and the like, along axes. */
import * as tf from "@tensorflow/tfjs";
import { size } from "../../tensor/shape.ts";
import type { Type } from "./api.ts";
import type { Call, Kernel, Run } from "./kernel.ts";

const axesOf = (axis: unknown, shape: number[]) =>
  tf.util.parseAxisParam(axis as number | number[], shape);

const reduction =
  (name: string, ...types: tf.DataType[]): Kernel => ({ inputs: { x }, attrs }, run) =>
    types.includes(x.dtype)
      ? run(name, [x, axesOf(attrs.axis, x.shape)], { keep_dims: attrs.keepDims === true })
      : undefined;

/** The index of the extreme along one axis. */
const extreme = (name: string): Kernel => ({ inputs: { x }, attrs: { axis } }, run) => {
  const [along, ...more] = axesOf(axis, x.shape);
  if (more.length > 0 || x.dtype === "bool") return;
  return run(name, [x, along], { output_type: { type: "int32" } });
};

/** A function along the last axis. */
const last = (name: string, attribute: string): Kernel => ({ inputs: { logits }, attrs }, run) => {
  const along = attrs[attribute] as number, axes = logits.shape.length;
  return along === -1 || along === axes - 1 ? run(name, [logits]) : undefined;
};

/** x in another shape, which a number of -1 completes. */
function reshaped({ inputs: { x } }: Call, shape: number[], run: Run): tf.TensorInfo {
  return run("Reshape", [x, tf.util.inferFromImplicitShape(shape, size(x.shape))]);
}

/** Of whole tensors as inputs "0", "1", and so on. */
const list = (inputs: Call["inputs"]) => Object.values(inputs);
const alike = (tensors: tf.TensorInfo[]) => ({
  N: { int: tensors.length },
  T: { type: tensors[0].dtype as Type },
});

/** A kernel for numbers only: texts are TensorFlow.js's own. */
const numeric = (kernel: Kernel): Kernel => (call, run) =>
  list(call.inputs).every((input) => input.dtype !== "string") ? kernel(call, run) : undefined;

/** The kernels of this file. */
export const ARRANGE: Record<string, Kernel> = {
  Sum: reduction("Sum", "float32", "int32"),
  Mean: reduction("Mean", "float32"),
  Prod: reduction("Prod", "float32"),
  Max: reduction("Max", "float32", "int32"),
  Min: reduction("Min", "float32", "int32"),
  All: reduction("All", "bool"),
  Any: reduction("Any", "bool"),
  ArgMax: extreme("ArgMax"),
  ArgMin: extreme("ArgMin"),
  Softmax: last("Softmax", "dim"),
  LogSoftmax: last("LogSoftmax", "axis"),
  Cumsum: ({ inputs: { x }, attrs }, run) =>
    run("Cumsum", [x, attrs.axis as number], {
      exclusive: attrs.exclusive === true,
      reverse: attrs.reverse === true,
    }),
  Identity: ({ inputs: { x }, backend }) => {
    backend.incRef(x.dataId);
    return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
  },
  Cast: numeric(({ inputs: { x }, attrs: { dtype } }, run) =>
    dtype === "string" ? undefined : run("Cast", [x], { DstT: { type: dtype as Type } })
  ),
  Reshape: numeric((call, run) => reshaped(call, call.attrs.shape as number[], run)),
  ExpandDims: numeric((call, run) => {
    const { input } = call.inputs, dim = call.attrs.dim as number, shape = input.shape.slice();
    shape.splice(dim < 0 ? shape.length + 1 + dim : dim, 0, 1);
    return run("Reshape", [input, shape]);
  }),
  Transpose: numeric(({ inputs: { x }, attrs }, run) =>
    run("Transpose", [x, attrs.perm as number[]])
  ),
  Tile: numeric(({ inputs: { x }, attrs }, run) => run("Tile", [x, attrs.reps as number[]])),
  BroadcastTo: numeric(({ inputs: { x }, attrs }, run) =>
    run("BroadcastTo", [x, attrs.shape as number[]])
  ),
  Reverse: numeric(({ inputs: { x }, attrs: { dims } }, run) =>
    run("ReverseV2", [x, axesOf(dims, x.shape)])
  ),
  PadV2: numeric(({ inputs: { x }, attrs }, run) => {
    const value = attrs.constantValue as number; // a constant of an operation here is a whole number
    if (x.shape.length === 0 || !Number.isInteger(value)) return;
    const zero = run("Cast", [value], { DstT: { type: x.dtype as Type } });
    return run("PadV2", [x, attrs.paddings as number[][], zero]);
  }),
  MirrorPad: numeric(({ inputs: { x }, attrs }, run) =>
    run("MirrorPad", [x, attrs.paddings as number[][]], {
      mode: (attrs.mode as string).toUpperCase(),
    })
  ),
  Slice: numeric(({ inputs: { x }, attrs }, run) => {
    const [begin, length] = tf.slice_util.parseSliceParams(
      x as tf.Tensor,
      attrs.begin as number[],
      attrs.size as number[],
    );
    return run("Slice", [x, begin, length]);
  }),
  Concat: numeric(({ inputs, attrs: { axis } }, run) => {
    const tensors = list(inputs);
    if (tensors.length === 1) return run("Identity", tensors);
    return run("ConcatV2", [...tensors, axis as number], alike(tensors));
  }),
  Pack: numeric(({ inputs, attrs: { axis } }, run) => {
    const tensors = list(inputs);
    return run("Pack", tensors, { ...alike(tensors), axis: { int: axis as number } });
  }),
  Unpack: numeric(({ inputs: { value }, attrs, backend }) => {
    const axis = attrs.axis as number, at = axis < 0 ? axis + value.shape.length : axis;
    const num = value.shape[at];
    return backend.run("Unpack", [value], { num: { int: num }, axis: { int: at } }, num);
  }),
  SplitV: numeric(({ inputs: { x }, attrs, backend }) => {
    const [axis] = axesOf(attrs.axis, x.shape);
    const { prepareSplitSize } = tf.backend_util;
    const sizes = prepareSplitSize(x as tf.Tensor, attrs.numOrSizeSplits as number, axis);
    const { length } = sizes;
    return backend.run("SplitV", [x, sizes, axis], { num_split: { int: length } }, length);
  }),
  GatherV2: numeric(({ inputs: { x, indices }, attrs }, run) =>
    indices.dtype === "int32"
      ? run("GatherV2", [x, indices, attrs.axis as number], {
        batch_dims: { int: (attrs.batchDims ?? 0) as number },
      })
      : undefined
  ),
  GatherNd: numeric(({ inputs: { params, indices } }, run) =>
    indices.dtype === "int32" ? run("GatherNd", [params, indices]) : undefined
  ),
  ScatterNd: numeric(({ inputs: { indices, updates }, attrs }, run) =>
    indices.dtype === "int32"
      ? run("ScatterNd", [indices, updates, attrs.shape as number[]])
      : undefined
  ),
  UnsortedSegmentSum: ({ inputs: { x, segmentIds }, attrs }, run) =>
    segmentIds.dtype === "int32"
      ? run("UnsortedSegmentSum", [x, segmentIds, attrs.numSegments as number])
      : undefined,
  DepthToSpace: ({ inputs: { x }, attrs }, run) =>
    run("DepthToSpace", [x], {
      block_size: { int: attrs.blockSize as number },
      data_format: attrs.dataFormat as string,
    }),
  SpaceToBatchND: ({ inputs: { x }, attrs }, run) =>
    run("SpaceToBatchND", [x, attrs.blockShape as number[], attrs.paddings as number[][]]),
  BatchToSpaceND: ({ inputs: { x }, attrs }, run) =>
    run("BatchToSpaceND", [x, attrs.blockShape as number[], attrs.crops as number[][]]),
  Complex: ({ inputs: { real, imag } }, run) => run("Complex", [real, imag]),
  Real: ({ inputs: { input } }, run) =>
    input.dtype === "complex64" ? run("Real", [input]) : run("Identity", [input]),
  Imag: ({ inputs: { input } }, run) =>
    input.dtype === "complex64" ? run("Imag", [input]) : run("ZerosLike", [input]),
  FFT: ({ inputs: { input } }, run) => run("FFT", [input]),
  IFFT: ({ inputs: { input } }, run) => run("IFFT", [input]),
};
