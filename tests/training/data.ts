import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Examples, fashionMnist, first, mnist } from "../../lib/training/data.ts";

/** How many examples each class has. */
function counts({ labels, classes }: Examples): number[] {
  const count = classes.map(() => 0);
  for (const label of labels) count[label]++;
  return count;
}

/** The mean of all pixels, 0 to 1. */
function mean({ images }: Examples): number {
  let sum = 0;
  for (let i = 0; i < images.length; i++) sum += images[i];
  return sum / images.length / 255;
}

const digits = suite("mnist()");

digits("has the published labels, counts and mean", async () => {
  const { train, test } = await mnist();
  assert.is(train.images.length, 60_000 * 28 * 28);
  assert.is(test.images.length, 10_000 * 28 * 28);
  assert.equal([...train.labels.subarray(0, 10)], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
  assert.equal([...test.labels.subarray(0, 10)], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
  assert.equal(counts(train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
  assert.equal(counts(test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
  assert.is(mean(train).toFixed(4), "0.1307");
});

digits.run();

const clothes = suite("fashionMnist()");

clothes("has all 70,000, a seventh of every class to test, and the published mean", async () => {
  const { train, test } = await fashionMnist();
  assert.equal(counts(train), Array(10).fill(6000));
  assert.equal(counts(test), Array(10).fill(1000));
  assert.equal(counts(first(test, 50)), Array(10).fill(5));
  assert.ok(Math.abs(mean(train) - 0.2860) < 0.001); // of the published 60,000
});

clothes("names each class by what it shows", async () => {
  const { train } = await fashionMnist();
  // the first image of the published training set, an ankle boot, begins with two empty rows and this one
  const row = [
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    1,
    0,
    0,
    13,
    73,
    0,
    0,
    1,
    4,
    0,
    0,
    0,
    0,
    1,
    1,
    0,
  ];
  const { images, labels, classes } = train;
  const shows = (at: number) => row.every((value, i) => images[at * 784 + 3 * 28 + i] === value);
  const found = [...labels.keys()].filter(shows).map((at) => classes[labels[at]]);
  assert.equal(found, ["ankle boot"]);
});

clothes.run();
