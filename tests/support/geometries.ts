/** The shapes and geometries that every convolution, algorithm and layer is tried on. */
import type { Geometry } from "../../lib/tensor/geometry.ts";
import type { Shape } from "../../lib/tensor/shape.ts";

export interface Place {
  name: string;
  kernel: Shape;
  x: Shape;
  geometry: Geometry;
}

const place = (name: string, kernel: Shape, x: Shape, geometry: Geometry = {}): Place => ({
  name,
  kernel,
  x,
  geometry,
});

export const PLACES: Place[] = [
  place("dense", [6, 8], [3, 6]),
  place("dense, three axes", [5, 7], [2, 3, 5]),
  place("1×1", [1, 1, 6, 8], [2, 4, 3, 6]),
  place("1×1 stride 2", [1, 1, 6, 4], [2, 5, 4, 6], { strides: 2 }),
  place("3×3 valid", [3, 3, 4, 6], [2, 6, 5, 4]),
  place("3×3 same", [3, 3, 4, 6], [2, 6, 5, 4], { padding: "same" }),
  place("3×3 same stride 2", [3, 3, 4, 6], [2, 7, 6, 4], { padding: "same", strides: 2 }),
  place("3×3 stride 3×2, uneven zeros", [3, 3, 4, 5], [1, 9, 8, 4], {
    strides: [3, 2],
    padding: [[2, 0], [0, 1]],
  }),
  place("1×3 stride 1×2", [1, 3, 6, 4], [2, 4, 7, 6], {
    strides: [1, 2],
    padding: [[0, 0], [1, 1]],
  }),
  place("3×1", [3, 1, 4, 6], [2, 6, 4, 4], { padding: "same" }),
  place("3×3 dilation 2", [3, 3, 4, 5], [1, 8, 7, 4], { dilations: 2, padding: 2 }),
  place("3×3 dilation 2×3 stride 2", [3, 3, 4, 5], [1, 9, 9, 4], {
    dilations: [2, 3],
    strides: 2,
    padding: "same",
  }),
  place("3×3 in 2 groups", [3, 3, 3, 8], [2, 5, 5, 6], { groups: 2, padding: 1 }),
  place("3×3 in 3 groups, dilation 2, stride 2", [3, 3, 2, 9], [1, 8, 8, 6], {
    groups: 3,
    dilations: 2,
    strides: 2,
    padding: 2,
  }),
  place("depthwise 3×3", [3, 3, 1, 6], [2, 6, 5, 6], { groups: 6, padding: "same" }),
  place("depthwise 3×3, two outputs each, stride 2", [3, 3, 1, 8], [1, 6, 7, 4], {
    groups: 4,
    strides: 2,
  }),
  place("conv1d", [3, 4, 6], [2, 9, 4], { padding: "same" }),
  place("conv1d stride 2 dilation 2 in 2 groups", [3, 2, 6], [2, 11, 4], {
    strides: 2,
    dilations: 2,
    groups: 2,
  }),
  place("conv3d", [2, 3, 2, 3, 4], [1, 4, 5, 4, 3], { padding: "same" }),
  place("conv3d stride 2, uneven zeros", [2, 2, 3, 2, 5], [1, 5, 4, 6, 2], {
    strides: [2, 1, 2],
    padding: [[1, 0], [0, 1], [1, 1]],
  }),
  place("conv3d dilation 2 in 2 groups", [2, 2, 2, 2, 4], [1, 4, 5, 4, 4], {
    dilations: 2,
    groups: 2,
  }),
];

/** Fixed values in (−1, 1) that no two tensors of a test share: a Weyl sequence from a seed. */
export function values(shape: Shape, seed: number): Float32Array {
  const count = shape.reduce((product, length) => product * length, 1);
  return Float32Array.from(
    { length: count },
    (_, i) =>
      2 * (((i + 1) * 0.6180339887 + seed * 0.3819660113 + Math.sin(i * i + seed)) % 1) - 0.1,
  );
}
