/**
 * Seeded random numbers, the same to the last bit on every engine and runtime.
 *
 * Bits come from Philox 4×32 with ten rounds (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", 2011): for every 64-bit key a permutation of 128-bit counters, in 32-bit integer
 * arithmetic. Everything above it uses + − × ÷ √ only, which IEEE 754 rounds in one way. `Math.log` and
 * `Math.cos` are not used, as JavaScript engines differ in their last bits.
 */
import { type Shape, size } from "./shape.ts";

/** Four words of 32 bits. */
type Words = readonly [number, number, number, number];

/** The two words of 32 bits that choose a permutation. */
type Key = readonly [number, number];

/** The upper half of the product of two words, from products of their halves. */
function high(a: number, b: number): number {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16); // < 2³², as are the two sums below
  const carried = a0 * b1 + (middle & 0xffff);
  return a1 * b1 + (middle >>> 16) + (carried >>> 16);
}

/** Philox 4×32-10: the words of a counter under a key. */
export function philox(counter: Words, key: Key): Words {
  let [a, b, c, d] = counter, [k, l] = key;
  for (let round = 0; round < 10; round++) {
    const left = high(0xcd9e8d57, c) ^ b ^ k, right = high(0xd2511f53, a) ^ d ^ l;
    b = Math.imul(0xcd9e8d57, c);
    d = Math.imul(0xd2511f53, a);
    a = left;
    c = right;
    k = (k + 0x9e3779b9) | 0;
    l = (l + 0xbb67ae85) | 0;
  }
  return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
}

function keyOf(seed: number): Key {
  if (!Number.isSafeInteger(seed)) {
    throw new RangeError(
      `Cannot seed random numbers as a seed must be an integer within ±2⁵³: current seed is ${seed}`,
    );
  }
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** Random words of 32 bits: Philox of 0, 1, 2, … */
function words(seed: number): () => number {
  const key = keyOf(seed);
  let block: Words = [0, 0, 0, 0], blocks = 0, used = 4;
  return () => {
    if (used === 4) {
      block = philox([blocks >>> 0, Math.floor(blocks / 2 ** 32), 0, 0], key);
      blocks++;
      used = 0;
    }
    return block[used++];
  };
}

/**
 * A source of independent numbers, uniform in [0, 1): multiples of 2⁻⁵³.
 *
 * @throws {RangeError} when the seed is not an integer within ±2⁵³
 */
export function generator(seed: number): () => number {
  const next = words(seed);
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

/**
 * The seed of a part: for one seed, parts of different names share no numbers.
 *
 * Each letter of the name turns the key into another one by Philox, under counters that `generator` never
 * reaches; so a subseed is as random as any 53 bits of the generator.
 *
 * @throws {RangeError} when the seed is not an integer within ±2⁵³
 */
export function subseed(seed: number, name: string): number {
  let key = keyOf(seed);
  for (let i = 0; i < name.length; i++) {
    const [k, l] = philox([name.charCodeAt(i), i, 0, 1], key);
    key = [k, l];
  }
  const [k, l] = philox([name.length, 0, 0, 2], key);
  return (l >>> 11) * 2 ** 32 + k;
}

/** `U(−1/√fan, 1/√fan)`: PyTorch's `kaiming_uniform_(a=√5)`, 24 bits a number. */
export function kaimingUniform(shape: Shape, fan: number, seed: number): Float32Array {
  const bound = 1 / Math.sqrt(fan), next = words(seed);
  return new Float32Array(size(shape)).map(() => ((next() >>> 8) / 2 ** 23 - 1) * bound);
}

/**
 * `N(0, std²)`, by the polar method of Marsaglia & Bray (1964).
 *
 * A point (x, y) uniform in the unit disc has a squared radius q that is uniform and independent of its
 * direction; `√(−2 ln q / q) · (x, y)` are two independent normal numbers.
 */
export function normal(shape: Shape, std: number, seed: number): Float32Array {
  const result = new Float32Array(size(shape)), next = generator(seed);
  for (let i = 0; i < result.length;) {
    const x = 2 * next() - 1, y = 2 * next() - 1, q = x * x + y * y;
    if (q >= 1 || q === 0) continue;
    const stretch = std * Math.sqrt(-2 * log(q) / q);
    result[i++] = stretch * x;
    if (i < result.length) result[i++] = stretch * y;
  }
  return result;
}

/** `ln q`, 0 < q < 1, to about ε: `q = 2ᵉ m`, `ln m = 2 artanh t`, `t = (m − 1)/(m + 1)`. */
function log(q: number): number {
  let exponent = 0;
  for (; q < Math.SQRT1_2; q *= 2) exponent--;
  const t = (q - 1) / (q + 1); // |t| < 0.172: the first term left out of the series is below 2⁻⁵⁶
  let sum = 0;
  for (let odd = 21; odd > 0; odd -= 2) sum = sum * t * t + 1 / odd;
  return exponent * Math.LN2 + 2 * t * sum;
}
