/**
 * The alphabet of axes, and the few questions asked of a shape.
 *
 * | letter | axis |
 * | --- | --- |
 * | `N` | batch |
 * | `H W` | space (`D` before them in three dimensions) |
 * | `kh kw` | kernel (`kd` before them in three dimensions) |
 * | `I` | in channels |
 * | `O` | out channels |
 * | `G` | groups |
 * | `r` | rank |
 * | `s` | strength |
 * | `α` | alpha |
 *
 * A kernel is TensorFlow.js's: `[kh, kw, I/G, O]`, conv1d `[k, I/G, O]`, conv3d `[kd, kh, kw, I/G, O]`,
 * dense `[I, O]`: a dense kernel is a convolution kernel without space. Activations are channels last.
 */

/** Lengths of a tensor's axes; in the shape of an adapter whose layer is not known yet, −1 is "any". */
export type Shape = readonly number[];

/** The product of all lengths: how many elements a tensor of that shape has. */
export function size(shape: Shape): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** `[kh, kw]` of `[kh, kw, I, O]`: the lengths of a kernel in space, none for a dense kernel. */
export function space(kernel: Shape): Shape {
  return kernel.slice(0, -2);
}

/** `I/G` of `[kh, kw, I/G, O]`. */
export function inputs(kernel: Shape): number {
  return kernel[kernel.length - 2];
}

/** `O` of `[kh, kw, I/G, O]`. */
export function outputs(kernel: Shape): number {
  return kernel[kernel.length - 1];
}

/** Whether a kernel reaches beyond one position: the case in which a Tucker core exists. */
export function isWide(kernel: Shape): boolean {
  return space(kernel).some((length) => length !== 1);
}

/** A shape in words, `3×3×64×128`. */
export function show(shape: Shape): string {
  return shape.length === 0 ? "scalar" : shape.join("×");
}

/** Whether two shapes are the same. */
export function same(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis]);
}
