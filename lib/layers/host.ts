/**
 * A layer of tf.layers as adapters see it: which kernel it has, how that moves, and what it does besides.
 *
 * Layers are told by their class name, so that a model made with another copy of TensorFlow.js is as good.
 */
import * as tf from "@tensorflow/tfjs";
import type { Geometry } from "../tensor/geometry.ts";
import { type Shape, show, size } from "../tensor/shape.ts";

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
  readonly kernel?: LayerVariable;
  readonly depthwiseKernel?: LayerVariable;
  readonly bias?: LayerVariable | null;
  readonly activation?: { apply(x: tf.Tensor): tf.Tensor } | null;
  readonly strides: number[];
  readonly padding: "valid" | "same";
  readonly dilationRate: number[];
  readonly dataFormat?: "channelsFirst" | "channelsLast";
}

/** What a kind of layer is to an adapter. */
export interface Kind {
  /** `linear` for a dense kernel, `conv` for one that moves */
  family: "linear" | "conv";
  /** the variable that is adapted */
  kernel(host: Host): LayerVariable;
  /** the shape of that kernel as `[...k, I/G, O]`, of the same numbers in the same order */
  shape(own: Shape): Shape;
  geometry(host: Host): Geometry;
}

const convolution: Kind = {
  family: "conv",
  kernel: ({ kernel }) => kernel!,
  shape: (own) => own,
  geometry: ({ strides, padding, dilationRate }) => ({ strides, padding, dilations: dilationRate }),
};

/** The layers that take an adapter, by class name. */
const KINDS: Record<string, Kind> = {
  Dense: { ...convolution, family: "linear", geometry: () => ({}) },
  Conv1D: convolution,
  Conv2D: convolution,
  Conv3D: convolution,
  DepthwiseConv2D: {
    family: "conv",
    kernel: ({ depthwiseKernel }) => depthwiseKernel!,
    // [kh, kw, I, M] is a convolution in I groups, [kh, kw, 1, I·M]
    shape: ([kh, kw, I, M]) => [kh, kw, 1, I * M],
    // tf.layers reads no dilation here
    geometry: ({ strides, padding, depthwiseKernel }) => ({
      strides,
      padding,
      groups: depthwiseKernel!.shape[2],
    }),
  },
};

/** The layer of tf.layers as a host; nothing is checked. */
export function hostOf(layer: tf.layers.Layer): Host {
  return layer as unknown as Host;
}

/** The kind of a layer, or none when it takes no adapter. */
export function kindOf(layer: tf.layers.Layer): Kind | undefined {
  return KINDS[layer.getClassName()];
}

/** A layer's kernel as `[...k, I/G, O]` and how it moves. */
export function anatomy(layer: tf.layers.Layer): {
  kind: Kind;
  host: Host;
  variable: LayerVariable;
  shape: Shape;
  geometry: Geometry;
} {
  const host = hostOf(layer), kind = kindOf(layer);
  if (!kind) {
    throw new TypeError(
      `Cannot adapt "${layer.name}" as its class must be one of ${
        Object.keys(KINDS).join(", ")
      }: ` +
        `current class is ${layer.getClassName()}`,
    );
  }
  if (!host.built) {
    throw new TypeError(
      `Cannot adapt "${layer.name}" as it must be built: current kernel is missing, ` +
        "put the layer into a model or call layer.build(inputShape) first",
    );
  }
  const variable = kind.kernel(host), shape = kind.shape(variable.shape);
  if (size(shape) !== size(variable.shape)) {
    throw new TypeError(`Cannot adapt "${layer.name}": current kernel is ${show(variable.shape)}`);
  }
  return { kind, host, variable, shape, geometry: kind.geometry(host) };
}

/** Channels to the last axis for a layer that has them first, and back. */
export const channels = {
  last: (x: tf.Tensor, { dataFormat }: Host): tf.Tensor => {
    if (dataFormat !== "channelsFirst" || x.rank < 3) return x;
    return tf.transpose(x, [0, ...x.shape.slice(2).map((_, axis) => axis + 2), 1]);
  },
  back: (x: tf.Tensor, { dataFormat }: Host): tf.Tensor => {
    if (dataFormat !== "channelsFirst" || x.rank < 3) return x;
    return tf.transpose(x, [0, x.rank - 1, ...x.shape.slice(2).map((_, axis) => axis + 1)]);
  },
};
