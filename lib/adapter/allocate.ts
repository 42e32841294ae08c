/** Bytes among layers: one choice for each, of the least loss for all of them together. */

/** One way to store a layer. */
export interface Choice {
  /** what it takes */
  readonly bytes: number;
  /** squared error, in one unit for all layers */
  readonly loss: number;
}

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

/**
 * min Σ loss with Σ bytes <= budget, one choice a layer: the steps of all hulls, those that save most loss a byte first.
 *
 * For the bytes that are spent until a step no longer fits this is the optimum (the hulls are convex, as a
 * spectrum's tails are); what is left then goes to the best steps that still fit, and at last to whatever choice
 * fits and saves most. The loss is above the optimum of the whole budget by less than one step saves.
 *
 * @param layers the choices of each; the cheapest of all must fit together
 * @returns the index of each layer's choice
 * @throws {RangeError} when the budget is below the least that the layers take
 */
export function allocate(layers: readonly (readonly Choice[])[], budget: number): number[] {
  const hulls = layers.map(hull), at = hulls.map(() => 0);
  let left = hulls.reduce((left, [first], layer) => left - layers[layer][first].bytes, budget);
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

  const chosen = hulls.map((path, layer) => path[at[layer]]);
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
