/** The kernels of Stable Diffusion 1.5's UNet that adapters are for, and how many it has of each. */

/** Layers of one kernel. */
export interface Layer {
  name: string;
  /** `[kh, kw, I, O]` or `[I, O]` */
  kernel: number[];
  count: number;
}

const WIDTHS = [320, 640, 1280], CONTEXT = 768, CROSS = [5, 5, 6]; // transformer blocks at each width

/** From 3×3 convolutions of one width, which its resnets have most of, to the transformers' matrices. */
export const LAYERS: readonly Layer[] = [
  ...[[320, 9], [640, 7], [1280, 19]].map(([width, count]) => conv(width, width, count)),
  ...WIDTHS.flatMap((width, i) => [
    linear(width, width, 6 * CROSS[i]), // q, k, v, out of itself; q, out of the text
    linear(CONTEXT, width, 2 * CROSS[i]), // k, v of the text
    linear(width, 8 * width, CROSS[i]),
    linear(4 * width, width, CROSS[i]),
  ]),
];

function conv(I: number, O: number, count: number): Layer {
  return { name: `3×3 ${I}→${O}`, kernel: [3, 3, I, O], count };
}

function linear(I: number, O: number, count: number): Layer {
  return { name: `linear ${I}→${O}`, kernel: [I, O], count };
}
