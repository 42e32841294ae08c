/** Numbers as pixels: kernels, activations, matrices, with the scale that tells which colour is which number. */
import type * as tf from "@tensorflow/tfjs";
import { outputs, show } from "../tensor/shape.ts";
import { escaped } from "./bundle.ts";
import { base64, type Picture, picture } from "./picture.ts";
import { png } from "./png.ts";
import { FONT, TEXT, WIDTH } from "./theme.ts";

/** What {@link images} may be told. */
export interface ImagesOptions {
  title?: string;
  /** names under the images, in order */
  names?: readonly string[];
  /** images in a row; as many as fit unless told */
  columns?: number;
  /** the number that has the strongest colour; the largest magnitude unless told */
  limit?: number;
}

type Color = readonly [red: number, green: number, blue: number];
const NEGATIVE: Color = [0, 114, 178],
  ZERO: Color = [247, 247, 247],
  POSITIVE: Color = [213, 94, 0];

/** The colour of a number from −1 to 1. */
function colorOf(value: number): Color {
  const end = value < 0 ? NEGATIVE : POSITIVE, share = Math.min(1, Math.abs(value));
  const mixed = ZERO.map((zero, i) => Math.round(zero + (end[i] - zero) * share));
  return [mixed[0], mixed[1], mixed[2]];
}

/** Pixels of a square of one number. */
const CELL = { least: 1, most: 24 };
const GAP = 8, BAR = 160, LINE = 16;

/**
 * Numbers as images, all on one scale: `[H, W]` is one, `[N, H, W]` are N, and a kernel `[kh, kw, I, O]` is
 * one for each pair of channels, O beside each other and I below. Blue is negative, white zero, orange positive.
 *
 * @throws {TypeError} for a tensor of another rank
 *
 * @example
 * ```ts
 * import { tf } from "lowrank";
 * import { images } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const svg = await images(tf.zeros([3, 3, 2, 4])).svg();
 * assert.is(svg.match(/<image /g)!.length, 2 * 4 + 1); // and the scale
 * ```
 */
export function images(tensor: tf.Tensor, options: ImagesOptions = {}): Picture {
  const { rank, shape } = tensor;
  if (rank < 2 || rank > 4) {
    throw new TypeError(
      `Cannot show a tensor as images as it must be [H, W], [N, H, W] or [kh, kw, I, O]: ` +
        `current shape is ${show(shape)}`,
    );
  }
  const [H, W] = rank === 3 ? shape.slice(1) : shape, values = tensor.dataSync();
  const count = values.length / (H * W), O = rank === 4 ? outputs(shape) : count;
  const valueAt = (n: number, y: number, x: number) =>
    values[rank === 4 ? (y * W + x) * count + n : (n * H + y) * W + x];
  const { title, names = [], limit = largest(values) } = options;
  const columns = Math.min(options.columns ?? O, count), rows = Math.ceil(count / columns);
  const room = Math.floor((WIDTH - GAP) / columns) - GAP;
  const cell = Math.max(CELL.least, Math.min(CELL.most, Math.floor(room / W)));
  const width = W * cell, height = H * cell, label = names.length > 0 ? LINE : 0;

  const parts: string[] = [], head = title ? LINE + GAP : 0;
  const text = (x: number, y: number, content: string, anchor = "start", size = 12) =>
    parts.push(
      `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}" fill="${TEXT}" ` +
        `font-family="${FONT}">${escaped(content)}</text>`,
    );
  if (title) text(GAP, LINE, title, "start", 14);
  for (let n = 0; n < count; n++) {
    const x = GAP + (n % columns) * (width + GAP);
    const y = head + GAP + Math.floor(n / columns) * (height + label + GAP);
    const pixels = new Uint8Array(3 * width * height);
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0; column < width; column++, at += 3) {
        const value = valueAt(n, Math.floor(row / cell), Math.floor(column / cell));
        pixels.set(colorOf(limit === 0 ? 0 : value / limit), at);
      }
    }
    parts.push(embedded(x, y, width, height, pixels));
    if (names[n]) text(x + width / 2, y + height + LINE - 3, names[n], "middle", 11);
  }
  const bottom = head + GAP + rows * (height + label + GAP);
  const ramp = new Uint8Array(3 * BAR);
  for (let i = 0; i < BAR; i++) ramp.set(colorOf((2 * i) / (BAR - 1) - 1), 3 * i);
  const bar = Uint8Array.from({ length: 10 * ramp.length }, (_, i) => ramp[i % ramp.length]);
  const number = limit.toPrecision(2), start = GAP + 7 * (number.length + 1);
  text(start - 4, bottom + 10, `−${number}`, "end", 11);
  parts.push(embedded(start, bottom, BAR, 10, bar));
  text(start + BAR + 4, bottom + 10, number, "start", 11);

  const whole = Math.max(GAP + columns * (width + GAP), start + BAR + 70, 9 * (title ?? "").length);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${whole}" height="${bottom + 22}">` +
    `${parts.join("")}</svg>`;
  return picture(() => Promise.resolve(svg), `Image${title ? `: ${title}` : ""}, ${show(shape)}`);
}

function largest(values: Iterable<number>): number {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** Pixels as an element of an SVG. */
function embedded(x: number, y: number, width: number, height: number, pixels: Uint8Array): string {
  const data = base64(png(width, height, pixels));
  return `<image x="${x}" y="${y}" width="${width}" height="${height}" href="data:image/png;base64,${data}"/>`;
}
