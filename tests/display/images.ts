import { inflateSync } from "node:zlib";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { images } from "../../lib/display/images.ts";
import { leakless } from "../support/close.ts";

/** The images in an SVG as lines of pixels, in order; the last is the scale. */
function pixels(svg: string): number[][][][] {
  return [...svg.matchAll(/base64,([^"]+)"/g)].map(([, text]) => {
    const file = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)),
      view = new DataView(file.buffer);
    const [width, height] = [view.getUint32(16), view.getUint32(20)];
    const lines = inflateSync(file.subarray(41, 41 + view.getUint32(33)));
    return Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => {
        const at = y * (3 * width + 1) + 1 + 3 * x;
        return [...lines.subarray(at, at + 3)];
      }));
  });
}
const WHITE = [247, 247, 247], BLUE = [0, 114, 178], ORANGE = [213, 94, 0];

const shown = suite("images()");
leakless(shown);

shown("gives the extremes of a matrix the ends of the scale, and zero its middle", async () => {
  const [matrix, scale] = pixels(await images(tf.tensor([[-2, 0], [1, 2]])).svg());
  const cell = matrix.length / 2;
  assert.equal(matrix[0][0], BLUE);
  assert.equal(matrix[0][cell], WHITE);
  assert.equal(matrix[cell][cell], ORANGE);
  assert.equal([scale[0][0], scale[0].at(-1)], [BLUE, ORANGE]);
});

shown("shows a kernel as one image for each pair of channels, O beside each other", async () => {
  const kernel = tf.tensor4d(Array.from({ length: 8 }, (_, i) => i), [1, 1, 4, 2]);
  const parts = pixels(await images(kernel).svg());
  assert.is(parts.length, 4 * 2 + 1);
  assert.equal(parts[0][0][0], WHITE);
  assert.equal(parts[7][0][0], ORANGE);
});

shown("refuses a vector", () => {
  assert.throws(() => images(tf.zeros([3])), /as it must be \[H, W\].*current shape is 3/);
});

shown("writes files that end as the PNG specification says", async () => {
  const [, text] = (await images(tf.zeros([2, 2])).svg()).match(/base64,([^"]+)"/)!;
  const end = [...atob(text)].slice(-8).map((c) => c.charCodeAt(0));
  assert.equal(end, [0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82]);
});

shown.run();
