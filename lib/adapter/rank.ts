/** How many singular values are kept: every rule that the field's programs have, as each defines it. */

/** Rules of a rank; of several the smallest rank counts. Singular values σ descend, sums run from the largest. */
export interface Cut {
  /** so many */
  rank?: number;
  /** those above a number (LyCORIS `threshold`) */
  threshold?: number;
  /** those above a share p of the largest (LyCORIS `ratio`), or above σ₁/p for p > 1 (kohya `sv_ratio`) */
  ratio?: number;
  /** as many as sum to less than a share p of Σσ (LyCORIS `quantile`, which its README calls percentile) */
  percentile?: number;
  /** the fewest whose sum reaches a share p of Σσ (kohya `sv_cumulative`) */
  cumulative?: number;
  /** the fewest with √Σσ² at a share p of the whole (kohya `sv_fro`) */
  fro?: number;
  /** the fewest with Σσ² at a share p of the whole */
  energy?: number;
  /** the fewest with ‖ΔW − ΔW′‖ / ‖ΔW‖ at most p */
  error?: number;
}

/** The names of the rules. */
export type Rule = keyof Cut;

/** The fewest terms whose sum reaches a number; all where none does. */
function reaching(terms: Float64Array, enough: number): number {
  let sum = 0, count = 0;
  while (count < terms.length && sum < enough) sum += terms[count++];
  return count;
}

/** How many of the last terms sum to no more than a number. */
function spared(terms: Float64Array, most: number): number {
  let sum = 0, count = 0;
  while (count < terms.length) {
    sum += terms[terms.length - 1 - count];
    if (sum > most) break;
    count++;
  }
  return count;
}

const total = (terms: Float64Array) => terms.reduce((sum, term) => sum + term, 0);
const above = (s: Float64Array, limit: number) => s.filter((value) => value > limit).length;
const squares = (s: Float64Array) => s.map((value) => value * value);

/** From singular values, a rule's number, and ‖ΔW‖², which is more than Σσ² where some are not known. */
const RULES: { readonly [rule in Rule]: (s: Float64Array, p: number, energy: number) => number } = {
  rank: (_, p) => p,
  threshold: above,
  ratio: (s, p) => above(s, s[0] * Math.min(p, 1 / p)),
  percentile: (s, p) => reaching(s, p * total(s)) - 1,
  cumulative: (s, p) => reaching(s, p * total(s)),
  fro: (s, p, energy) => reaching(squares(s), p * p * energy),
  energy: (s, p, energy) => reaching(squares(s), p * energy),
  // from the smallest up, where what is lost would be the rounding of what is kept
  error: (s, p, energy) => {
    const unknown = Math.max(0, energy - total(squares(s)));
    return s.length - spared(squares(s), p * p * energy - unknown);
  },
};

/** Whether the rules look at every singular value, however few are kept. */
export function needsAll(cut: Cut): boolean {
  return cut.percentile !== undefined || cut.cumulative !== undefined;
}

/** No rule: what a cut is put over in the place of another. */
export const UNCUT: Cut = Object.fromEntries(Object.keys(RULES).map((rule) => [rule, undefined]));

/** Whether a value can be what a rule is given. */
function isFit(rule: Rule, p: number): boolean {
  if (rule === "rank") return Number.isInteger(p) && p >= 1;
  if (rule === "threshold") return Number.isFinite(p) && p >= 0;
  return rule === "ratio" ? p > 0 && p < Infinity : p >= 0 && p <= 1;
}

/** The rules that are given, checked. */
export function rulesOf(cut: Cut): [rule: Rule, p: number][] {
  const given = (Object.keys(RULES) as Rule[])
    .flatMap((rule): [Rule, number][] => cut[rule] === undefined ? [] : [[rule, cut[rule]]]);
  const wrong = given.find(([rule, p]) => !isFit(rule, p));
  if (!wrong) return given;
  throw new RangeError(
    `Cannot choose a rank as ${wrong[0]} must be ${
      wrong[0] === "rank"
        ? "a whole number of at least 1"
        : ["threshold", "ratio"].includes(wrong[0])
        ? "a positive number"
        : "between 0 and 1"
    }: current ${wrong[0]} is ${wrong[1]}`,
  );
}

/**
 * The rank that the rules give, at least 1 and at most the number of singular values; all of them without a rule.
 *
 * @param s singular values, descending
 * @param energy ‖ΔW‖², where not all of them are known
 * @throws {RangeError} for a value that a rule cannot have
 */
export function rankBy(s: Float64Array, cut: Cut, energy = total(squares(s))): number {
  const ranks = rulesOf(cut).map(([rule, p]) => RULES[rule](s, p, energy));
  return Math.max(1, Math.min(s.length, ...ranks));
}

/**
 * {@link rankBy} of singular values that may each be off by so much, or undefined where another rank lies within that.
 *
 * @param energy ‖ΔW‖², where not all of them are known
 */
export function rankWithin(
  { s, within }: { s: Float64Array; within: Float64Array },
  cut: Cut,
  energy?: number,
): number | undefined {
  const rank = rankBy(s, cut, energy), share = total(within) / total(s);
  const { percentile, cumulative, ...others } = cut;
  const same = [1, -1].every((sign) => {
    // of a sum and its share of all, one may be too small and the other too large
    const moved = (p?: number) => p && Math.max(0, Math.min(1, p + sign * share));
    const shares = { percentile: moved(percentile), cumulative: moved(cumulative) };
    const values = s.map((value, i) => Math.max(0, value - sign * within[i]));
    return rank === Math.min(rankBy(s, shares, energy), rankBy(values, others, energy));
  });
  return same ? rank : undefined;
}
