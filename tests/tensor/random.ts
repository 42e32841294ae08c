import { suite } from "uvu";
import * as assert from "uvu/assert";
import { generator, kaimingUniform, normal, philox, subseed } from "../../lib/tensor/random.ts";

const bits = (values: Float32Array) => [...new Uint32Array(values.buffer)];
const mean = (values: ArrayLike<number>) =>
  Array.from(values).reduce((a, b) => a + b) / values.length;
const moment = (values: ArrayLike<number>, power: number) =>
  mean(Array.from(values, (x) => x ** power));

/** Largest distance of the empirical distribution to a given one, times √n (Kolmogorov & Smirnov). */
function misfit(values: ArrayLike<number>, distribution: (x: number) => number): number {
  const sorted = Float64Array.from(values).sort(), n = sorted.length;
  let worst = 0;
  sorted.forEach((x, i) => {
    const share = distribution(x);
    worst = Math.max(worst, share - i / n, (i + 1) / n - share);
  });
  return worst * Math.sqrt(n);
}

/** A distance times √n above this comes by chance once in a hundred. */
const ONE_PERCENT = 1.63;

/** Φ(x) = ½ + φ(x) (x + x³/3 + x⁵/(3·5) + …). */
function standardNormal(x: number): number {
  let term = x, sum = x;
  for (let odd = 3; Math.abs(term) > 1e-18; odd += 2) sum += term *= x * x / odd;
  return 0.5 + sum * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}

/** Correlation times √n: about normal when there is none. */
function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [ma, mb] = [mean(a), mean(b)];
  const spread = Math.sqrt((moment(a, 2) - ma ** 2) * (moment(b, 2) - mb ** 2));
  return mean(Array.from(a, (x, i) => (x - ma) * (b[i] - mb))) / spread * Math.sqrt(a.length);
}

const words = suite("philox()");

words("gives the words that Random123 publishes", () => {
  const F = 0xffffffff;
  assert.equal(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  assert.equal(philox([F, F, F, F], [F, F]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344] as const;
  assert.equal(
    philox(pi, [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});
words.run();

const uniform = suite("generator()");

uniform("gives the same numbers on every runtime", () => {
  const next = generator(2024);
  assert.equal([next(), next(), next()], [
    0.6036898737293727,
    0.9845987341075839,
    0.34628420647900005,
  ]);
});

uniform("is uniform in [0, 1)", () => {
  const next = generator(5), values = Float64Array.from({ length: 50000 }, next);
  assert.ok(values.every((x) => x >= 0 && x < 1));
  assert.ok(misfit(values, (x) => x) < ONE_PERCENT);
  assert.ok(Math.abs(correlation(values.subarray(1), values.subarray(0, -1))) < 3);
});

uniform("takes every integer as its seed, each another sequence", () => {
  const seeds = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  assert.is(new Set(seeds.map((seed) => generator(seed)())).size, seeds.length);
});

uniform("refuses other seeds", () => {
  for (const seed of [0.5, NaN, Infinity, 2 ** 53]) {
    assert.throws(() => generator(seed), new RegExp(`current seed is ${seed}`.replace("+", "\\+")));
  }
});
uniform.run();

const normals = suite("normal()");

normals("gives the same numbers on every runtime", () => {
  assert.equal(bits(normal([2, 4], 1, 2024)), [
    0x3d21bcb9,
    0x3e3cf8a7,
    0xbe93149e,
    0x3f3e5c48,
    0x3e8db6e3,
    0x3f9b9797,
    0x3f3a484e,
    0xbf95cc3e,
  ]);
  const all = bits(normal([1000, 100], 0.02, 7)).reduce(
    (sum, word) => Math.imul(sum, 31) + word | 0,
    0,
  );
  assert.is(all, -156416145);
});

normals("has the moments and the distribution of N(0, std²)", () => {
  const n = 100000, std = 0.02, values = normal([n], std, 11).map((x) => x / std);
  // standard errors of the moments of n standard normal numbers
  assert.ok(Math.abs(mean(values)) < 3 * Math.sqrt(1 / n));
  assert.ok(Math.abs(moment(values, 2) - 1) < 3 * Math.sqrt(2 / n));
  assert.ok(Math.abs(moment(values, 3)) < 3 * Math.sqrt(15 / n));
  assert.ok(Math.abs(moment(values, 4) - 3) < 3 * Math.sqrt(96 / n));
  assert.ok(misfit(values, standardNormal) < ONE_PERCENT);
  assert.ok(Math.abs(correlation(values.subarray(1), values.subarray(0, -1))) < 3);
});

normals("begins in the same way whatever the shape", () => {
  assert.equal([...normal([7], 1, 3)], [...normal([2, 4], 1, 3).subarray(0, 7)]);
});
normals.run();

const kaiming = suite("kaimingUniform()");

kaiming("gives the same numbers on every runtime", () => {
  assert.equal(bits(kaimingUniform([4], 9, 2024)), [
    0x3d8d923b,
    0xbe1dfe80,
    0x3ea568e1,
    0xbe8e21f0,
  ]);
});

kaiming("is uniform between −1/√fan and 1/√fan", () => {
  const values = kaimingUniform([3, 3, 64, 100], 576, 1);
  assert.ok(values.every((x) => Math.abs(x) <= 1 / 24));
  assert.ok(misfit(values, (x) => (24 * x + 1) / 2) < ONE_PERCENT);
});
kaiming.run();

const parts = suite("subseed()");

parts("gives the same seeds on every runtime", () => {
  assert.equal(
    [subseed(0, ""), subseed(2024, "down"), subseed(2024, "up"), subseed(-1, "down")],
    [6120658525209876, 282228374705577, 6632013330668441, 2224199045728887],
  );
});

parts("differs for every seed and name, in any order", () => {
  const names = [
    "",
    "a",
    "b",
    "ab",
    "ba",
    "down",
    "up",
    "w1_a",
    "w1_b",
    "a".repeat(100),
    "é",
    "\0",
  ];
  const seeds = [0, 1, 2, -1, 2 ** 32];
  const all = seeds.flatMap((seed) => names.map((name) => subseed(seed, name)));
  assert.is(new Set(all).size, all.length);
  assert.is.not(subseed(subseed(1, "a"), "b"), subseed(subseed(1, "b"), "a"));
  assert.ok(all.every(Number.isSafeInteger));
});

parts("makes sequences that do not correlate with each other", () => {
  const sequences = ["down", "up", "core", "downs", "lora_down", "lora_up"].flatMap((name) =>
    [1, 2].map((seed) => normal([5000], 1, subseed(seed, name)))
  );
  sequences.push(normal([5000], 1, 1), normal([5000], 1, 2));
  const found = sequences.flatMap((a, i) => sequences.slice(0, i).map((b) => correlation(a, b)));
  assert.ok(found.every((value) => Math.abs(value) < 3.5)); // 91 pairs
  assert.ok(misfit(found, standardNormal) < ONE_PERCENT);
});
parts.run();
