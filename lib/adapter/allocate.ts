/** Bytes among layers: one choice for each, of the least loss for all of them together. */
import { least } from "./least.ts";

/** One way to store a layer. */
export interface Choice {
  /** what it takes */
  readonly bytes: number;
  /** squared error, in one unit for all layers */
  readonly loss: number;
  /** the rank it has, where it is one of its layer's ways of every rank, which take more the larger they are */
  readonly rank?: number;
}

type Layers = readonly (readonly Choice[])[];

const total = (layers: Layers, chosen: readonly number[], of: "bytes" | "loss") =>
  chosen.reduce((sum, choice, layer) => sum + layers[layer][choice][of], 0);

/** The choices worth taking, on the lower convex hull of loss over bytes: each step saves less a byte than the last. */
function hull(choices: readonly Choice[]): number[] {
  const order = choices.map((_, i) => i).sort((i, j) =>
    choices[i].bytes - choices[j].bytes || choices[i].loss - choices[j].loss
  );
  const kept: number[] = [];
  const slope = (i: number, j: number) =>
    (choices[i].loss - choices[j].loss) / (choices[j].bytes - choices[i].bytes);
  for (const next of order) {
    const last = kept.at(-1);
    if (last !== undefined && !(choices[next].loss < choices[last].loss)) continue;
    while (kept.length > 1 && slope(kept.at(-1)!, next) >= slope(kept.at(-2)!, kept.at(-1)!)) {
      kept.pop();
    }
    kept.push(next);
  }
  return kept;
}

/** From the choices of least bytes the steps of all hulls that save most loss a byte, as long as they fit. */
function steepest(layers: Layers, budget: number): number[] {
  const hulls = layers.map(hull), at = hulls.map(() => 0);
  let left = budget - total(layers, hulls.map(([first]) => first), "bytes");
  if (left < 0) {
    throw new RangeError(
      `Cannot fit adapters into ${budget} bytes as they take ${budget - left} at the least: ` +
        `current budget is ${budget}`,
    );
  }
  const steps = hulls.flatMap((path, layer) =>
    path.slice(1).map((to, i) => {
      const from = layers[layer][path[i]], next = layers[layer][to];
      const bytes = next.bytes - from.bytes;
      return { layer, i, bytes, gain: (from.loss - next.loss) / bytes };
    })
  ).sort((a, b) => b.gain - a.gain || a.i - b.i);
  for (const { layer, i, bytes } of steps) {
    // a layer whose step did not fit takes no later one: its steps build on each other
    if (at[layer] !== i || bytes > left) continue;
    at[layer]++;
    left -= bytes;
  }
  return hulls.map((path, layer) => path[at[layer]]);
}

/** Of each layer the least loss for the bytes that a rank takes there, or the largest that it has up to it. */
function uniform(layers: Layers, rank: number): number[] {
  return layers.map((choices) => {
    const up = choices.filter((choice) => choice.rank !== undefined && choice.rank <= rank);
    const most = up.length > 0
      ? up.reduce((most, { bytes }) => Math.max(most, bytes), 0)
      : choices.reduce((least, { bytes }) => Math.min(least, bytes), Infinity);
    return choices.map((_, i) => i).filter((i) => choices[i].bytes <= most).reduce((i, j) =>
      (choices[j].loss - choices[i].loss || choices[j].bytes - choices[i].bytes) < 0 ? j : i
    );
  });
}

/** The largest rank for all layers that fits: the larger, the more bytes and the less loss. */
function largest(layers: Layers, budget: number): number[] | undefined {
  const ranks = [...new Set(layers.flatMap((choices) => choices.flatMap(({ rank }) => rank ?? [])))]
    .sort((a, b) => a - b);
  const fitting = least(
    ranks.length,
    (count) => total(layers, uniform(layers, ranks[count - 1]), "bytes") > budget,
  ) - 1;
  return fitting > 0 ? uniform(layers, ranks[fitting - 1]) : undefined;
}

/** With what is left of the budget, whatever single change fits and saves most, until none does. */
function filled(layers: Layers, start: readonly number[], budget: number): number[] {
  const chosen = [...start];
  let left = budget - total(layers, chosen, "bytes");
  for (;;) {
    let best = { layer: 0, to: chosen[0], gain: 0, bytes: 0 };
    layers.forEach((choices, layer) => {
      const now = choices[chosen[layer]];
      choices.forEach((choice, to) => {
        const gain = now.loss - choice.loss, bytes = choice.bytes - now.bytes;
        if (bytes <= left && gain > best.gain) best = { layer, to, gain, bytes };
      });
    });
    if (best.gain === 0) return chosen;
    chosen[best.layer] = best.to;
    left -= best.bytes;
  }
}

/**
 * min Σ loss with Σ bytes <= budget, one choice a layer: the steps of all hulls, those that save most loss a byte first,
 * or one rank for all layers, whichever loses less.
 *
 * For the bytes that are spent until a step no longer fits, the steps are the optimum (the hulls are convex, as a
 * spectrum's tails are); what is left then goes to the best steps that still fit, and at last to whatever choice
 * fits and saves most. The loss is above the optimum of the whole budget by less than one step saves, which is much
 * where the budget is a few steps; and never above that of one rank for all.
 *
 * @param layers the choices of each; the cheapest of all must fit together
 * @returns the index of each layer's choice
 * @throws {RangeError} when the budget is below the least that the layers take
 */
export function allocate(layers: Layers, budget: number): number[] {
  const stepped = filled(layers, steepest(layers, budget), budget), start = largest(layers, budget);
  if (!start) return stepped;
  const even = filled(layers, start, budget);
  return total(layers, even, "loss") < total(layers, stepped, "loss") ? even : stepped;
}
