/** Convolutions of oneDNN and their gradients: any strides, zeros, dilations and groups, two axes or three. */
import { type Shape, size, space } from "../../tensor/shape.ts";
import { axes, type Axis } from "../axes.ts";
import type { Call } from "../wasm/compose.ts";
import { dims, type Dnnl, type Unary } from "./api.ts";
import { activationOf, type Context, finish, type Kernel } from "./context.ts";
import { ARGUMENT, CHOICE, type Description, FORWARD, GRADIENT } from "./primitive.ts";

/** A convolution of `[N, ...space, I]` by `[...k, I/G, O]`. */
interface Convolution {
  batch: number;
  axes: readonly Axis[];
  filter: Shape;
  groups: number;
}

/** Which of its three maps: y from x and W, or one of the gradients. */
type Direction = "forward" | "input" | "filter";

const DIRECT = 1; // dnnl_convolution_direct

/** Everything that distinguishes one convolution from another. */
function keyOf({ batch, axes, filter, groups }: Convolution): string {
  const line = axes.map(({ input, output, stride, dilation, before }) =>
    `${input}>${output}/${stride}*${dilation}-${before}`
  );
  return `${batch} ${line} ${filter} ${groups}`;
}

/** Row-major strides. */
function rowMajor(shape: Shape): number[] {
  return shape.map((_, axis) => size(shape.slice(axis + 1)));
}

/** Memory as oneDNN names its axes: in our layout, and in any. */
interface Layouts {
  ours: number;
  any: number;
}

/** `[N, ...space, C]` as oneDNN's `[N, C, ...space]`, by its strides. */
function activation(dnnl: Dnnl, batch: number, lengths: Shape, channels: number): Layouts {
  const [N, ...rest] = rowMajor([batch, ...lengths, channels]);
  const own = [batch, channels, ...lengths];
  return { ours: dnnl.memory(own, [N, 1, ...rest.slice(0, -1)]), any: dnnl.memory(own) };
}

/** `[...k, I/G, O]` as oneDNN's `[O, I, ...k]`, or `[G, O/G, I/G, ...k]`. */
function weights(dnnl: Dnnl, filter: Shape, groups: number): Layouts {
  const [inputs, outputs] = filter.slice(-2), each = outputs / groups;
  const [inner, outer, ...taps] = rowMajor(filter).reverse();
  const lengths = [each, inputs, ...space(filter)], strides = [inner, outer, ...taps.reverse()];
  if (groups > 1) {
    lengths.unshift(groups);
    strides.unshift(each);
  }
  return { ours: dnnl.memory(lengths, strides), any: dnnl.memory(lengths) };
}

/** The primitive of a direction, with operands in the order x, W, y and then the bias if there is one. */
function describe(
  dnnl: Dnnl,
  direction: Direction,
  { batch, axes, filter, groups }: Convolution,
  more: { bias?: boolean; activation?: Unary } = {},
): Description {
  const [inputs, outputs] = filter.slice(-2);
  const x = activation(dnnl, batch, axes.map(({ input }) => input), inputs * groups);
  const y = activation(dnnl, batch, axes.map(({ output }) => output), outputs);
  const W = weights(dnnl, filter, groups);
  const bias = more.bias ? dnnl.memory([outputs], [1]) : 0;
  const moves = [
    dims(axes.map(({ stride }) => stride)),
    dims(axes.map(({ dilation }) => dilation - 1)),
    dims(axes.map(({ before }) => before)),
    // what makes the outputs as many as they are; negative where the last inputs are never met
    dims(
      axes.map(({ input, output, taps, stride, dilation, before }) =>
        (output - 1) * stride + (taps - 1) * dilation + 1 - input - before
      ),
    ),
  ];
  const attributes = more.activation && dnnl.attributes(more.activation);
  const hint = dnnl.describe("convolution", [
    FORWARD,
    DIRECT,
    x.ours,
    W.any,
    bias,
    y.ours,
    ...moves,
  ], { attributes });
  if (direction === "forward") {
    return {
      description: hint,
      operands: [
        { argument: ARGUMENT.source, memory: x.ours },
        { argument: ARGUMENT.weights, memory: W.ours, choice: CHOICE.weights },
        { argument: ARGUMENT.destination, memory: y.ours },
        ...(more.bias ? [{ argument: ARGUMENT.bias, memory: bias }] : []),
      ],
    };
  }
  if (direction === "input") {
    const layouts = [x.ours, W.any, y.ours];
    return {
      description: dnnl.describe("convolutionInput", [DIRECT, ...layouts, ...moves], { hint }),
      operands: [
        { argument: GRADIENT.source, memory: x.ours },
        { argument: ARGUMENT.weights, memory: W.ours, choice: CHOICE.weights },
        { argument: GRADIENT.destination, memory: y.ours },
      ],
    };
  }
  // a wide kernel's gradient takes half the time, copies counted, where oneDNN may arrange the activations too
  const layout = size(space(filter)) > 1 ? "any" : "ours";
  const layouts = [x[layout], W.any, 0, y[layout]];
  return {
    description: dnnl.describe("convolutionFilter", [DIRECT, ...layouts, ...moves], { hint }),
    operands: [
      { argument: ARGUMENT.source, memory: x.ours, choice: CHOICE.source },
      { argument: GRADIENT.weights, memory: W.ours, choice: CHOICE.weightsGradient, written: true },
      { argument: GRADIENT.destination, memory: y.ours, choice: CHOICE.destinationGradient },
    ],
  };
}

/** Multiplications and additions. */
function workOf({ batch, axes, filter }: Convolution): number {
  return 2 * batch * size(axes.map(({ output }) => output)) * size(filter);
}

/** A depthwise filter `[kh, kw, C, M]` is `[kh, kw, 1, C·M]` in C groups: the same numbers in order. */
function grouped(filter: Shape, channels: number, depthwise: boolean) {
  const shape = depthwise ? [...filter.slice(0, -2), 1, channels * filter[3]] : filter;
  return { filter: shape, groups: channels / shape[shape.length - 2] };
}

/** TensorFlow.js's kernels for y, ∂L/∂x and ∂L/∂W, of dense and grouped convolutions or of depthwise ones. */
export function convolutionKernels({ dnnl, primitives, at }: Context, depthwise: boolean) {
  const of = (x: Shape, filter: Shape, attributes: Call["attrs"], dy?: Shape): Convolution => {
    const form = grouped(filter, x[x.length - 1], depthwise);
    return { batch: x[0], axes: axes(x, form.filter, attributes, dy), ...form };
  };

  const forward: Kernel = (call, shipped) => {
    const { inputs: { x, filter, bias }, attrs, backend } = call;
    if (![undefined, null, "floor"].includes(attrs.dimRoundingMode as string)) return shipped(call);
    const shape = of(x.shape, filter.shape, attrs), activation = activationOf(attrs);
    const outputs = shape.axes.map(({ output }) => output), [channels] = shape.filter.slice(-1);
    if (bias && size(bias.shape) !== channels) return shipped(call);
    const y = backend.makeOutput([shape.batch, ...outputs, channels], "float32");
    const more = { bias: Boolean(bias), activation };
    primitives.run(
      `y ${keyOf(shape)} ${JSON.stringify(more)}`,
      workOf(shape),
      () => describe(dnnl, "forward", shape, more),
      [x, filter, y, ...(more.bias ? [bias] : [])].map(at),
    );
    return finish(call, y);
  };

  const backpropInput: Kernel = ({ inputs: { dy, filter }, attrs, backend }) => {
    const shape = of(attrs.inputShape as Shape, filter.shape, attrs, dy.shape);
    const dx = backend.makeOutput(attrs.inputShape as number[], "float32");
    primitives.run(
      `dx ${keyOf(shape)}`,
      workOf(shape),
      () => describe(dnnl, "input", shape),
      [dx, filter, dy].map(at),
    );
    return dx;
  };

  const backpropFilter: Kernel = ({ inputs: { x, dy }, attrs, backend }) => {
    const shape = of(x.shape, attrs.filterShape as Shape, attrs, dy.shape);
    const dW = backend.makeOutput(attrs.filterShape as number[], "float32");
    primitives.run(
      `dW ${keyOf(shape)}`,
      workOf(shape),
      () => describe(dnnl, "filter", shape),
      [x, dW, dy].map(at),
    );
    return dW;
  };
  return { forward, backpropInput, backpropFilter };
}
