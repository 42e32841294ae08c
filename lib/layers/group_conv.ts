/**
 * GroupConv2D: a convolution in G groups, of which tf.layers has none but the depthwise one.
 *
 * It is Conv2D in every argument, with `groups` besides, and with a kernel `[kh, kw, I/G, O]`: the first O/G filters see
 * the first I/G channels, and so on.
 */
import * as tf from "@tensorflow/tfjs";
import { convolve } from "../tensor/convolve.ts";
import { channels, type Host } from "./host.ts";

/** What a {@link groupConv2d} is told: what a Conv2D is, and in how many groups. */
export type GroupConv2DArgs = Parameters<typeof tf.layers.conv2d>[0] & {
  /** G, which divides the channels in and out; default 1 */
  groups?: number;
};

/** A layer of tf.layers, with what its class keeps to itself in the types. */
type Convolution =
  & tf.layers.Layer
  & Pick<Host, "strides" | "padding" | "dilationRate" | "dataFormat" | "activation">
  & {
    readonly filters: number;
    readonly kernel: tf.LayerVariable;
    readonly bias: tf.LayerVariable | null;
  };

// tf.layers exports the making of its Conv2D only, not the class
const Conv2D = tf.layers.conv2d({ filters: 1, kernelSize: 1 }).constructor as {
  new (args: GroupConv2DArgs): Convolution;
  className: string;
  fromConfig: tf.serialization.FromConfigMethod<tf.serialization.Serializable>;
};

class GroupConv2D extends Conv2D {
  static override className = "GroupConv2D";
  readonly groups: number;

  constructor(args: GroupConv2DArgs) {
    super(args);
    this.groups = args.groups ?? 1;
    this.check("filters", this.filters);
  }

  private check(what: string, count: number): void {
    const { groups, name } = this;
    if (Number.isInteger(groups) && groups >= 1 && count % groups === 0) return;
    throw new RangeError(
      `Cannot build "${name}" as its groups must divide its ${count} ${what}: current groups is ${groups}`,
    );
  }

  override build(inputShape: tf.Shape | tf.Shape[]): void {
    const shape = (Array.isArray(inputShape[0]) ? inputShape[0] : inputShape) as tf.Shape;
    const axis = this.dataFormat === "channelsFirst" ? 1 : shape.length - 1, I = shape[axis]!;
    this.check("input channels", I);
    super.build(shape.map((length, i) => (i === axis ? I / this.groups : length)));
    this.inputSpec = [new tf.InputSpec({ ndim: 4, axes: { [axis]: I } })];
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = channels.last(Array.isArray(inputs) ? inputs[0] : inputs, this);
      const { strides, padding, dilationRate: dilations, groups, bias, activation } = this;
      const y = convolve(x, this.kernel.read(), { strides, padding, dilations, groups });
      const z = bias ? tf.add(y, bias.read()) : y;
      return channels.back(activation ? activation.apply(z) : z, this);
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return { ...super.getConfig(), groups: this.groups };
  }
}
tf.serialization.registerClass(GroupConv2D);

/**
 * A convolution in groups: tf.layers' conv2d with `groups`.
 *
 * Models with it are saved and, where `lowrank` is imported, loaded as any other.
 *
 * @throws {RangeError} for groups that do not divide the filters, or, when it is built, the channels of the input
 *
 * @example
 * ```ts
 * import { groupConv2d, lora, tf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const conv = groupConv2d({ inputShape: [8, 8, 12], filters: 24, kernelSize: 3, groups: 4 });
 * tf.sequential({ layers: [conv] });
 * assert.equal(conv.getWeights()[0].shape, [3, 3, 12 / 4, 24]);
 * assert.is(lora.conv(conv, 2).cost().parameters, 2 * (9 * 3 + 24));
 * ```
 */
export function groupConv2d(args: GroupConv2DArgs): tf.layers.Layer {
  return new GroupConv2D(args);
}
