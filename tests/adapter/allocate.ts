import { suite } from "uvu";
import * as assert from "uvu/assert";
import { allocate, type Choice } from "../../lib/adapter/allocate.ts";
import { values } from "../support/geometries.ts";

const allocates = suite("allocate()");

/** Layers of ranks: losses are the tails of squares that fall. */
const layersOf = (seed: number): Choice[][] =>
  [3, 5, 2, 4].map((price, layer) => {
    const s = values([5], seed * 10 + layer).map(Math.abs).sort().reverse();
    const tail = (rank: number) => s.slice(rank).reduce((sum, value) => sum + value ** 2, 0);
    return Array.from({ length: 6 }, (_, rank) => ({ bytes: rank * price, loss: tail(rank) }));
  });
/** The least loss of all ways, by trying them. */
const least = (layers: Choice[][], budget: number): number =>
  layers.length === 0 ? 0 : Math.min(
    ...layers[0].filter(({ bytes }) => bytes <= budget)
      .map(({ bytes, loss }) => loss + least(layers.slice(1), budget - bytes)),
  );
const spent = (layers: Choice[][], chosen: number[]) =>
  chosen.reduce((sum, choice, layer) => sum + layers[layer][choice].bytes, 0);
const lost = (layers: Choice[][], chosen: number[]) =>
  chosen.reduce((sum, choice, layer) => sum + layers[layer][choice].loss, 0);

allocates("keeps to the budget, and loses no more than the best way and one step", () => {
  let exact = 0, all = 0;
  for (let seed = 0; seed < 20; seed++) {
    const layers = layersOf(seed);
    const step = Math.max(
      ...layers.flatMap((choices) => choices.slice(1).map(({ loss }, i) => choices[i].loss - loss)),
    );
    for (let budget = 0; budget <= 70; budget += 7) {
      const chosen = allocate(layers, budget), best = least(layers, budget);
      assert.ok(spent(layers, chosen) <= budget);
      assert.ok(lost(layers, chosen) <= best + step);
      all++;
      if (lost(layers, chosen) <= best + 1e-9) exact++;
    }
  }
  assert.ok(exact > all / 2, `the best way in ${exact} of ${all}`);
});

allocates("loses no more than any one rank for all layers that fits", () => {
  let closer = 0; // how often steps alone do, so that this proves something
  for (let seed = 0; seed < 40; seed++) {
    const random = values([20], seed).map(Math.abs);
    const layers: Choice[][] = Array.from({ length: 4 }, (_, layer) => {
      const price = 5 + Math.ceil(20 * random[layer]), most = 2 + Math.floor(4 * random[layer + 4]);
      const fall = 1 - 0.3 * Math.min(1, random[layer + 8]),
        size = price * (3 + random[layer + 12]);
      const ranks = Array.from({ length: most + 1 }, (_, rank) => ({
        bytes: rank === 0 ? 0 : rank * price + 4,
        loss: size * fall ** rank,
        rank,
      }));
      const other = { bytes: Math.ceil(price / 2), loss: size * (1 - random[layer + 16] / 9) };
      return layer % 2 ? [...ranks, other] : ranks;
    });
    const alone = layers.map((choices) => choices.map(({ bytes, loss }) => ({ bytes, loss })));
    for (let rank = 0; rank <= 6; rank++) {
      const even = layers.map((choices) =>
        Math.min(rank, choices.filter((choice) => choice.rank !== undefined).length - 1)
      );
      for (let budget = spent(layers, even), end = budget + 9; budget < end; budget++) {
        const most = lost(layers, even) * (1 + 1e-12);
        assert.ok(
          lost(layers, allocate(layers, budget)) <= most,
          `${rank} in ${budget} of ${seed}`,
        );
        if (lost(alone, allocate(alone, budget)) > most) closer++;
      }
    }
  }
  assert.ok(closer > 0);
});

allocates("takes choices in any order, and none that another beats in bytes and loss", () => {
  const choices = [
    { bytes: 5, loss: 2 },
    { bytes: 9, loss: 0 },
    { bytes: 0, loss: 10 },
    { bytes: 5, loss: 3 },
    { bytes: 7, loss: 2.5 },
  ];
  assert.equal([0, 4, 5, 8, 9].map((budget) => allocate([choices], budget)[0]), [2, 2, 0, 0, 1]);
  // below the line between its neighbours, yet the best that fits
  const bent = [{ bytes: 0, loss: 10 }, { bytes: 4, loss: 8 }, { bytes: 8, loss: 0 }];
  assert.equal([3, 5, 8].map((budget) => allocate([bent], budget)[0]), [0, 1, 2]);
});

allocates("refuses a budget below the cheapest choices together", () => {
  const two = [[{ bytes: 3, loss: 0 }, { bytes: 4, loss: 1 }], [{ bytes: 5, loss: 1 }]];
  assert.equal(allocate(two, 8), [0, 0]);
  assert.throws(() => allocate(two, 7), /into 7 bytes as they take 8 at the least/);
});

allocates.run();
