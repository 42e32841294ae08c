/** Whether LyCORIS builds a LoKr again as its file has it: it guesses the factor from the shapes, and the rank. */
import { factorPair } from "../../tensor/kronecker.ts";
import type { Shape } from "../../tensor/shape.ts";
import type { Torch } from "../layout.ts";
import { refuse } from "./host.ts";

/** The factor that it guesses, for w1 `[a, b]` and w2 `[c, d]`. */
function guessed([a, b]: number[], [c, d]: number[], longest2: number): number {
  const O = a * c, I = b * d;
  if (a === factorPair(O)[0] && b === factorPair(I)[0]) return -1;
  const longest1 = Math.max(a, b);
  const fits = (f: number) =>
    O % f === 0 && I % f === 0 && (a === f || c === f) && (b === f || d === f);
  return [longest1, longest2].find(fits) ?? Math.min(longest1, longest2);
}

/**
 * Throws, with the reason, unless the module that it builds for a kernel has the tensors of the file.
 *
 * @param shape of the kernel, `[O, I, …k]`; a matrix may be a convolution's of 3 × 3 whose file does not tell
 */
export function checkLokr(torch: Torch, shape: Shape): void {
  const [O, I] = shape, wide = [O, I / 9, 3, 3];
  const reason = misbuilt(torch, shape);
  if (!reason || shape.length === 2 && I % 9 === 0 && !misbuilt(torch, wide)) return;
  refuse(reason);
}

/** What is wrong with the module that it builds. */
function misbuilt(torch: Torch, [O, I, ...k]: Shape): string | undefined {
  const { lokr_w1: w1, lokr_w1_a: a1, lokr_w1_b: b1 } = torch;
  const { lokr_w2: w2, lokr_w2_a: a2, lokr_w2_b: b2, lokr_t2: t2 } = torch;
  const one = w1 ? w1.shape : [a1.shape[0], b1.shape[1]!];
  const two = w2 ? w2.shape : [a2.shape[0], b2.shape[1]!];
  const full = !a1 && !a2, rank = (a1 ?? a2)?.shape[1] ?? 1;
  const factor = guessed(one, two, Math.max(...two));
  const [im, inner] = factorPair(I, factor), [ol, outer] = factorPair(O, factor);
  const whole1 = full || w1 !== undefined || w2 !== undefined || rank >= Math.max(ol, im) / 2;
  const whole2 = full || rank >= Math.max(outer, inner) / 2;
  const taps = k.reduce((x, y) => x * y, 1);
  const cored = t2 !== undefined && taps !== 1;
  const expected1 = [ol, im];
  const expected2 = whole2 ? [outer, inner, ...k] : cored ? [rank, outer] : [outer, rank];
  const found1 = one, found2 = whole2 ? w2?.shape : a2?.shape;
  const same = (a: readonly number[] | undefined, b: readonly number[]) =>
    a !== undefined && a.length === b.length && a.every((length, axis) => length === b[axis]);
  if (
    Boolean(w1) !== whole1 || Boolean(w2) !== whole2 || !same(found1, expected1) ||
    !same(found2, expected2)
  ) {
    return `it guesses factor ${factor} and rank ${rank} from the shapes, and builds other tensors`;
  }
}
