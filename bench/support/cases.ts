/** What is measured: layers by the shapes of their kernel and input, and ways to adapt them. */
import type { AdapterOptions } from "../../lib/adapter/adapter.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";

/** A frozen layer with a bias and its input: a Conv2D of stride 1 with padding "same", or a Dense. */
export interface Place {
  name: string;
  /** `[N, H, W, I]`, dense `[N, I]` */
  x: number[];
  /** `[kh, kw, I, O]`, dense `[I, O]` */
  kernel: number[];
}

/** An algorithm with its options; without one the base layer alone. */
export interface Way {
  name: string;
  algorithm?: AlgorithmName;
  /** it has ranks, so that it is measured at each */
  ranked?: boolean;
  /** on kernels wider than a point only */
  wide?: boolean;
  options?: AdapterOptions;
}

const conv = (k: number, x: number[], O: number): Place => ({
  name: `conv${k}×${k} [${x}]→${O}`,
  x,
  kernel: [k, k, x[3], O],
});
const linear = (x: number[], O: number): Place => ({
  name: `linear [${x}]→${O}`,
  x,
  kernel: [x[1], O],
});

/** From a small convolution to the wide ones of Stable Diffusion's UNet, and two dense layers. */
export const PLACES: readonly Place[] = [
  conv(3, [8, 32, 32, 64], 64),
  conv(3, [8, 16, 16, 256], 256),
  conv(3, [2, 64, 64, 320], 320),
  conv(1, [2, 64, 64, 320], 320),
  linear([4096, 320], 320),
  linear([2048, 768], 768),
];

/** Every algorithm of the core, and LoRA's two variants. */
export const WAYS: readonly Way[] = [
  { name: "base" },
  { name: "lora", algorithm: "lora", ranked: true },
  { name: "lora tucker", algorithm: "lora", ranked: true, wide: true, options: { tucker: true } },
  { name: "lora dora", algorithm: "lora", ranked: true, options: { dora: "output" } },
  { name: "loha", algorithm: "loha", ranked: true },
  { name: "lokr", algorithm: "lokr", ranked: true },
  { name: "ia3", algorithm: "ia3" },
  { name: "dylora", algorithm: "dylora", ranked: true, options: { block: 4 } },
];

/** The ranks. */
export const RANKS: readonly number[] = [8, 64];

/** Whether a way is possible at a place. */
export function fits({ wide }: Way, { kernel }: Place): boolean {
  return !wide || (kernel.length === 4 && kernel[0] * kernel[1] > 1);
}
