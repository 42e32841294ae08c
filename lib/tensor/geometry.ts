/**
 * How a kernel moves over its input: stride, padding, dilation, groups, per axis of space.
 *
 * Only numbers here; `convolve.ts` and `unfold.ts` do the moving.
 */
import { type Shape, space } from "./shape.ts";

/** Zeros before and after, per axis of space. */
export type Padding = readonly (readonly [before: number, after: number])[];

/** A geometry as a person writes it; whatever is left out is 1, and padding is "valid". */
export interface Geometry {
  /** steps between two outputs; one number for all axes or one an axis */
  strides?: number | readonly number[];
  /** "valid": no zeros, "same": ⌈H / stride⌉ outputs, or explicit zeros for each axis */
  padding?: "valid" | "same" | number | Padding;
  /** steps between two taps of the kernel */
  dilations?: number | readonly number[];
  /** independent convolutions side by side: channels are split into that many runs */
  groups?: number;
}

/** A geometry with every number known, for inputs of one size. */
export interface Extent {
  strides: readonly number[];
  padding: Padding;
  dilations: readonly number[];
  groups: number;
  /** lengths of the output in space */
  output: readonly number[];
}

const each = (value: number | readonly number[] | undefined, rank: number): readonly number[] =>
  Array.isArray(value) ? value : Array(rank).fill(value ?? 1);

/**
 * The strides, zeros, dilations and output lengths of a kernel over an input of a size.
 *
 * `out = ⌊(in + before + after − dilation · (k − 1) − 1) / stride⌋ + 1`; "same" puts the odd zero after, as
 * TensorFlow does (PyTorch's own "same" does too, for stride 1).
 *
 * @param kernel `[...k, I/G, O]`
 * @param input lengths of the input in space
 * @throws {RangeError} when the input is smaller than the kernel
 */
export function extent(kernel: Shape, input: readonly number[], geometry: Geometry): Extent {
  const k = space(kernel);
  const strides = each(geometry.strides, k.length);
  const dilations = each(geometry.dilations, k.length);
  const { padding: asked = "valid" } = geometry;
  const reach = k.map((length, axis) => dilations[axis] * (length - 1) + 1);
  const padding: Padding = k.map((_, axis) => {
    if (asked === "valid") return [0, 0];
    if (typeof asked === "number") return [asked, asked];
    if (asked !== "same") return asked[axis];
    const steps = Math.ceil(input[axis] / strides[axis]);
    const zeros = Math.max(0, (steps - 1) * strides[axis] + reach[axis] - input[axis]);
    return [zeros >> 1, zeros - (zeros >> 1)];
  });
  const output = k.map((_, axis) => {
    const [before, after] = padding[axis];
    return Math.floor((input[axis] + before + after - reach[axis]) / strides[axis]) + 1;
  });
  if (output.some((length) => length < 1)) {
    throw new RangeError(
      `Cannot convolve an input of ${input.join("×")} as a kernel must fit into it: ` +
        `current kernel reaches over ${reach.join("×")}`,
    );
  }
  return { strides, padding, dilations, groups: geometry.groups ?? 1, output };
}
