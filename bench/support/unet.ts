/** The kernels of Stable Diffusion 1.5's UNet, and how many of its 282 layers have each. */

/** Layers of one kernel. */
export interface Layer {
  name: string;
  /** `[kh, kw, I, O]` or `[I, O]` */
  kernel: number[];
  count: number;
}

/** Side of the kernel, 0 for a matrix; inputs, outputs, layers. */
const KINDS = [
  // resnets, what they are halved and doubled by, and the first and the last
  [3, 320, 320, 8],
  [3, 640, 640, 8],
  [3, 1280, 1280, 20],
  [3, 320, 640, 1],
  [3, 640, 320, 2],
  [3, 640, 1280, 1],
  [3, 960, 320, 1],
  [3, 960, 640, 1],
  [3, 1280, 640, 1],
  [3, 1920, 640, 1],
  [3, 1920, 1280, 1],
  [3, 2560, 1280, 5],
  [3, 4, 320, 1],
  [3, 320, 4, 1],
  // transformers: into and out of them; with the shortcuts of resnets that change the width
  [1, 320, 320, 10],
  [1, 640, 640, 10],
  [1, 1280, 1280, 12],
  [1, 320, 640, 1],
  [1, 640, 320, 2],
  [1, 640, 1280, 1],
  [1, 960, 320, 1],
  [1, 960, 640, 1],
  [1, 1280, 640, 1],
  [1, 1920, 640, 1],
  [1, 1920, 1280, 1],
  [1, 2560, 1280, 5],
  // q, k, v, out; k, v of the text; feed-forward; the time
  [0, 320, 320, 30],
  [0, 640, 640, 30],
  [0, 1280, 1280, 49],
  [0, 768, 320, 10],
  [0, 768, 640, 10],
  [0, 768, 1280, 12],
  [0, 320, 2560, 5],
  [0, 640, 5120, 5],
  [0, 1280, 10240, 6],
  [0, 1280, 320, 10],
  [0, 2560, 640, 5],
  [0, 5120, 1280, 6],
  [0, 1280, 640, 5],
  [0, 320, 1280, 1],
] as const;

/** Every kernel. */
export const LAYERS: readonly Layer[] = KINDS.map(([k, I, O, count]) => ({
  name: `${k === 0 ? "linear" : `${k}×${k}`} ${I}→${O}`,
  kernel: k === 0 ? [I, O] : [k, k, I, O],
  count,
}));
