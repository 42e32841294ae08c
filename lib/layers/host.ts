/**
 * A layer of tf.layers as adapters see it: which kernel it has, how that moves, and what it does besides.
 *
 * Layers are told by their class name, so that a model made with another copy of TensorFlow.js is as good.
 */
import * as tf from "@tensorflow/tfjs";
import type { AlgorithmName } from "../algorithms/table.ts";
import type { Geometry } from "../tensor/geometry.ts";
import type { Shape } from "../tensor/shape.ts";
import "./conv3d_transpose.ts";

/** A variable of tf.layers: a core variable that its layer may freeze. */
export interface LayerVariable {
  readonly originalName: string;
  readonly shape: Shape;
  trainable: boolean;
  read(): tf.Variable;
  write(value: tf.Tensor): LayerVariable;
  dispose(): void;
}

/** The parts of a layer that its class keeps to itself in the types. */
export interface Host {
  readonly name: string;
  readonly built: boolean;
  getClassName(): string;
  call(inputs: tf.Tensor | tf.Tensor[], options: Record<string, unknown>): tf.Tensor | tf.Tensor[];
  addWeight(
    name: string,
    shape: Shape,
    dtype: tf.DataType,
    initializer: { apply(): tf.Tensor },
    regularizer: undefined,
    trainable: boolean,
    constraint: undefined,
    initializerOf: () => { apply(): tf.Tensor },
  ): LayerVariable;
  trainable_: boolean;
  trainable: boolean;
  _trainableWeights: LayerVariable[];
  _nonTrainableWeights: LayerVariable[];
  _addedWeightNames: string[];
  readonly layers?: Host[];
  /** what a Sequential runs */
  readonly model?: Host;
  readonly depthwiseKernel?: LayerVariable;
  readonly activation?: { apply(x: tf.Tensor): tf.Tensor } | null;
  readonly strides: number[];
  readonly padding: "valid" | "same";
  readonly dilationRate: number[];
  readonly dataFormat?: "channelsFirst" | "channelsLast";
  /** of a GroupConv2D */
  readonly groups?: number;
}

/** What a kind of layer is to an adapter. */
export interface Kind {
  /** `linear` for a matrix, `conv` for a kernel that moves, `norm` for the scale of a normalization */
  family: "linear" | "conv" | "norm";
  /** the names of the variable that is adapted, and of the bias, among the layer's properties */
  kernel: string;
  bias?: string;
  /** the shape of that variable as `[...k, I/G, O]` (of a normalization `[C]`), of the same numbers in the same order */
  shape?(own: Shape): Shape;
  /** the variable is `[...k, O, I]`: its last two axes are exchanged */
  turned?: boolean;
  /** how the kernel moves; a layer without goes on computing by itself, with W′ put in the place of its kernel */
  geometry?(host: Host): Geometry;
}

const convolution: Kind = {
  family: "conv",
  kernel: "kernel",
  bias: "bias",
  geometry: ({ strides, padding, dilationRate: dilations, groups = 1 }) => ({
    strides,
    padding,
    dilations,
    groups,
  }),
};
const normalization: Kind = { family: "norm", kernel: "gamma", bias: "beta" };
const transposed: Kind = { family: "conv", kernel: "kernel", bias: "bias", turned: true };

/** The layers that take an adapter, by class name. */
const KINDS = new Map<string, Kind>(Object.entries<Kind>({
  Dense: { ...convolution, family: "linear", geometry: () => ({}) },
  Conv1D: convolution,
  Conv2D: convolution,
  Conv3D: convolution,
  GroupConv2D: convolution,
  DepthwiseConv2D: {
    ...convolution,
    kernel: "depthwiseKernel",
    // [kh, kw, I, M] is a convolution in I groups, [kh, kw, 1, I·M]
    shape: ([kh, kw, I, M]) => [kh, kw, 1, I * M],
    // tf.layers reads no dilation here
    geometry: ({ strides, padding, depthwiseKernel }) => ({
      strides,
      padding,
      groups: depthwiseKernel!.shape[2],
    }),
  },
  // of its two kernels the pointwise one, which has nearly all the numbers
  SeparableConv2D: { family: "conv", kernel: "pointwiseKernel", bias: "bias" },
  Conv2DTranspose: transposed,
  Conv3DTranspose: transposed,
  Embedding: { family: "linear", kernel: "embeddings" },
  LayerNormalization: normalization,
  BatchNormalization: normalization,
}));

/**
 * Lets layers of another class take adapters: `adaptable("Gated", { family: "conv", kernel: "kernel" })`.
 *
 * The layer must read its variables by `this.<name>.read()` in `call`, as those of tf.layers do: W′ is put in the place
 * of the kernel while it computes. With `geometry` it is computed here, by the cheapest route.
 */
export function adaptable(className: string, kind: Kind): void {
  KINDS.set(className, kind);
}

/** The classes of layers that take adapters, with what they are to them. */
export function kinds(): ReadonlyMap<string, Kind> {
  return KINDS;
}

/** Whether adapters of an algorithm are for layers of a kind: kernels take all but norm, normalizations norm alone. */
export function takes({ family }: Kind, algorithm: AlgorithmName): boolean {
  return (family === "norm") === (algorithm === "norm");
}

/** The layer of tf.layers as a host; nothing is checked. */
export function hostOf(layer: tf.layers.Layer): Host {
  return layer as unknown as Host;
}

/** The kind of a layer, or none when it takes no adapter. */
export function kindOf(layer: tf.layers.Layer): Kind | undefined {
  return KINDS.get(layer.getClassName());
}

/** A layer as an adapter needs it. */
export interface Anatomy {
  kind: Kind;
  host: Host;
  variable: LayerVariable;
  bias?: LayerVariable;
  /** of the kernel, `[...k, I/G, O]` */
  shape: Shape;
  geometry?: Geometry;
  /** the variable's value as a kernel of that shape, and back */
  see(own: tf.Tensor): tf.Tensor;
  own(kernel: tf.Tensor): tf.Tensor;
}

/**
 * A layer's kernel as `[...k, I/G, O]`, its bias, and how it moves.
 *
 * @throws {TypeError} for a layer that takes no adapter or is not built
 */
export function anatomy(layer: tf.layers.Layer): Anatomy {
  const host = hostOf(layer), kind = KINDS.get(layer.getClassName());
  if (!kind) {
    throw new TypeError(
      `Cannot adapt "${layer.name}" as its class must be one of ${[...KINDS.keys()].join(", ")}: ` +
        `current class is ${layer.getClassName()}`,
    );
  }
  const variables = host as unknown as Record<string, LayerVariable | null | undefined>;
  const variable = variables[kind.kernel], bias = kind.bias && variables[kind.bias] || undefined;
  if (!host.built || !variable) {
    throw new TypeError(
      `Cannot adapt "${layer.name}" as it must ${host.built ? "have" : "be built to have"} a ` +
        `${kind.kernel}: current ${kind.kernel} is missing` +
        (host.built ? "" : ", put the layer into a model or call layer.build(inputShape) first"),
    );
  }
  const own = variable.shape,
    turn = [...own.keys()].slice(0, -2).concat(own.length - 1, own.length - 2);
  const shape = kind.turned ? turn.map((axis) => own[axis]) : kind.shape?.(own) ?? own;
  return {
    kind,
    host,
    variable,
    bias,
    shape,
    geometry: kind.geometry?.(host),
    see: (value) => kind.turned ? tf.transpose(value, turn) : tf.reshape(value, [...shape]),
    own: (kernel) => kind.turned ? tf.transpose(kernel, turn) : tf.reshape(kernel, [...own]),
  };
}

/** Channels to the last axis for a layer that has them first, and back. */
export const channels = {
  last: (x: tf.Tensor, { dataFormat }: Pick<Host, "dataFormat">): tf.Tensor => {
    if (dataFormat !== "channelsFirst" || x.rank < 3) return x;
    return tf.transpose(x, [0, ...x.shape.slice(2).map((_, axis) => axis + 2), 1]);
  },
  back: (x: tf.Tensor, { dataFormat }: Pick<Host, "dataFormat">): tf.Tensor => {
    if (dataFormat !== "channelsFirst" || x.rank < 3) return x;
    return tf.transpose(x, [0, x.rank - 1, ...x.shape.slice(2).map((_, axis) => axis + 1)]);
  },
};
