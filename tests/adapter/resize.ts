import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, dispose, mapFactors } from "../../lib/adapter/adapter.ts";
import { rankBy } from "../../lib/adapter/rank.ts";
import { resize, resizeAll } from "../../lib/adapter/resize.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { matrix } from "../../lib/tensor/matrix.ts";
import { outputs, size } from "../../lib/tensor/shape.ts";
import { svd } from "../../lib/tensor/svd.ts";
import { leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";
import { ADDITIVE, told, trained } from "../support/trained.ts";

const resizes = suite("resize()");
leakless(resizes);

const KERNELS: Record<string, number[]> = {
  "dense 8×12": [8, 12],
  "dense 12×4": [12, 4],
  "1×1": [1, 1, 8, 12],
  "3×3": [3, 3, 8, 12],
  conv3d: [2, 1, 2, 4, 6],
};

/** All singular values of ΔW as a matrix, from ΔW itself. */
function valuesOf(adapter: Adapter): Float64Array {
  const { shape } = adapter, O = outputs(shape);
  return svd(matrix(size(shape) / O, O, delta(adapter).dataSync())).s;
}

/** ‖a − b‖ / ‖a‖. */
function measured(a: tf.Tensor, b: tf.Tensor): number {
  return tf.tidy(() => tf.div(tf.norm(tf.sub(a, b)), tf.norm(a)).dataSync()[0]);
}

const near = (actual: number, expected: number, what: string) =>
  assert.ok(Math.abs(actual - expected) < 1e-6, `${what}: ${actual} is not ${expected}`);

for (const [name, shape] of Object.entries(KERNELS)) {
  for (const row of ADDITIVE) {
    if (row[2].tucker && size(shape.slice(0, -2)) === 1) continue;
    resizes(`${told(row)} on ${name} has the least error of its rank, as told`, () => {
      const adapter = trained(row, shape), s = valuesOf(adapter);
      const whole = s.reduce((sum, value) => sum + value ** 2, 0);
      for (const rank of [1, 2, 4]) {
        const resized = resize(adapter, { rank });
        const kept = s.slice(0, rank).reduce((sum, value) => sum + value ** 2, 0);
        near(resized.error, Math.sqrt(1 - Math.min(1, kept / whole)), `least of rank ${rank}`);
        near(measured(delta(adapter), delta(resized.adapter)), resized.error, "measured");
        near(resized.norm / Math.sqrt(whole), 1, "norm");
        near(resized.energy, kept / whole, "energy");
        assert.ok(resized.adapter.rank <= rank);
        assert.equal([...resized.adapter.shape], shape);
      }
      const all = resize(adapter);
      assert.ok(all.error < 1e-7, `all of it: ${all.error}`);
      assert.ok(measured(delta(adapter), delta(all.adapter)) < 1e-6);
    });
  }
}

resizes("a LoHa too wide for its factors, as LoKr parts of every rank, is cut as any other", () => {
  const loha = trained(["loha", 4, {}], [8, 12]); // r² = 16 > 8
  near(resize(loha, { rank: 5 }).error, tail(valuesOf(loha), 5), "loha");
  const lokr = trained(["lokr", 2, { factor: 4, decomposeBoth: true }], [3, 3, 16, 24]);
  const negative = mapFactors(lokr, (factor, name) => name === "down2" ? tf.neg(factor) : factor);
  for (const adapter of [lokr, { ...negative, alpha: -3 }]) {
    const { adapter: cut, error, s } = resize(adapter, { rank: 3 });
    near(error, tail(valuesOf(adapter), 3), "lokr");
    near(measured(delta(adapter), delta(cut)), error, "lokr measured");
    valuesOf(adapter).slice(0, s.length).forEach((value, i) =>
      near(s[i] / s[0], value / s[0], "σ")
    );
  }
});

const tail = (s: Float64Array, rank: number) => {
  const energy = (values: Float64Array) => values.reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt(energy(s.slice(rank)) / energy(s));
};

resizes(
  "a whole difference is cut as any other, and refused with a bias, which no LoRA has",
  () => {
    const full = trained(["full", 0, {}], [3, 3, 4, 6]);
    const { adapter, error, norm } = resize(full, { rank: 2 });
    near(error, tail(valuesOf(full), 2), "full");
    near(norm, tf.norm(full.factors.difference!).dataSync()[0], "norm");
    near(measured(delta(full), delta(adapter)), error, "measured");
    const biased = trained(["full", 0, { bias: true }], [3, 3, 4, 6]);
    assert.throws(() => resize(biased, { rank: 2 }), /a LoRA has no bias/);
    const { adapters } = resizeAll(new Map([["layer", biased]]), { rank: 1 });
    assert.is(adapters.get("layer")!.algorithm, "full");
  },
);

resizes("with dora cuts ΔW and keeps the magnitude", () => {
  const dora = trained(["lora", 3, { dora: "output" }], [3, 3, 4, 6]);
  const { adapter, error } = resize(dora, { rank: 2 });
  assert.is(adapter.dora, "output");
  assert.equal(adapter.factors.magnitude!.dataSync(), dora.factors.magnitude!.dataSync());
  near(measured(delta({ ...dora, dora: false }), delta({ ...adapter, dora: false })), error, "ΔW");
});

resizes("to bytes takes no more of them in the file, and the next rank would", async () => {
  for (const [dtype, width] of [["f32", 4], ["f16", 2]] as const) {
    const adapter = trained(["loha", 2, {}], [3, 3, 8, 12]), each = width * (72 + 12);
    for (const bytes of [width + each, width + 3 * each - 1, width + 3 * each]) {
      const { adapter: cut } = resize(adapter, { bytes, dtype });
      assert.is(cut.rank, Math.floor((bytes - width) / each));
      assert.ok(await stored(new Map([["layer", cut]]), dtype) <= bytes);
    }
    assert.throws(() => resize(adapter, { bytes: each, dtype }), /rank 1 takes/);
  }
});

/** Bytes of all tensors in the file. */
async function stored(adapters: Map<string, Adapter>, dtype: "f32" | "f16" | "bf16") {
  const { tensors } = parse(await encode(adapters, { dtype }));
  return [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
}

resizes("refuses what has no low-rank form, and rules with values they cannot have", () => {
  assert.throws(() => resize(trained(["ia3", 0, {}], [8, 12]), { rank: 1 }), /depend on the base/);
  const adapter = trained(ADDITIVE[0], [8, 12]);
  for (const rule of [{ rank: 0 }, { rank: 1.5 }, { fro: 1.1 }, { energy: NaN }, { ratio: -2 }]) {
    assert.throws(() => resize(adapter, rule), /Cannot choose a rank as/);
  }
});

resizes.run();

const ranks = suite("rankBy()");
const s = Float64Array.of(8, 4, 2, 1, 1); // Σ 16, Σ² 86
ranks("keeps as many as every rule defines, not one more", () => {
  assert.is(rankBy(s, {}), 5);
  assert.is(rankBy(s, { rank: 3 }), 3);
  assert.is(rankBy(s, { rank: 9 }), 5);
  assert.is(rankBy(s, { threshold: 2 }), 2, "above the threshold");
  assert.is(rankBy(s, { ratio: 0.25 }), 2, "above the share of the largest");
  assert.is(rankBy(s, { ratio: 4 }), 2, "kohya's ratio is the reciprocal");
  assert.is(rankBy(s, { ratio: 4.01 }), 3);
  assert.is(rankBy(s, { cumulative: 0.75 }), 2, "12 of 16");
  assert.is(rankBy(s, { cumulative: 0.76 }), 3);
  assert.is(rankBy(s, { percentile: 0.75 }), 1, "less than 12 of 16");
  assert.is(rankBy(s, { percentile: 0.76 }), 2);
  assert.is(rankBy(s, { energy: 80 / 86 }), 2);
  assert.is(rankBy(s, { energy: 80.1 / 86 }), 3);
  assert.is(rankBy(s, { fro: Math.sqrt(79.9 / 86) }), 2);
  assert.is(rankBy(s, { fro: Math.sqrt(80.1 / 86) }), 3);
  assert.is(rankBy(s, { error: Math.sqrt(6.1 / 86) }), 2);
  assert.is(rankBy(s, { error: Math.sqrt(5.9 / 86) }), 3);
  assert.is(rankBy(s, { error: 0 }), 5);
});
ranks(
  "is what resize_lora.py of sd-scripts calls an index, one less than the rank it makes of it",
  () => {
    // index_sv_cumulative, index_sv_fro and index_sv_ratio, line for line
    const searchsorted = (sums: number[], p: number) => {
      const at = sums.findIndex((sum) => sum >= p);
      return at < 0 ? sums.length : at;
    };
    const sums = (terms: number[]) => {
      const all = terms.reduce((a, b) => a + b);
      let sum = 0;
      return terms.map((term) => (sum += term) / all);
    };
    const clamped = (index: number, S: number[]) => Math.max(1, Math.min(index, S.length - 1));
    for (let seed = 0; seed < 50; seed++) {
      const S = Array.from(values([20], seed), (x) => Math.exp(3 * x)).sort((a, b) => b - a);
      for (const p of [0.1, 0.5, 0.8, 0.95]) {
        const kohya = {
          cumulative: clamped(searchsorted(sums(S), p) + 1, S),
          fro: clamped(searchsorted(sums(S.map((x) => x * x)), p ** 2) + 1, S),
          ratio: clamped(S.filter((x) => x > S[0] / (1 / p)).length, S),
        };
        for (const [rule, index] of Object.entries(kohya)) {
          const rank = rankBy(Float64Array.from(S), { [rule]: rule === "ratio" ? 1 / p : p });
          assert.is(Math.min(rank, S.length - 1), index, `${rule} ${p}`);
        }
      }
    }
  },
);
ranks("keeps at least one, and of several rules the smallest", () => {
  assert.is(rankBy(s, { threshold: 100 }), 1);
  assert.is(rankBy(s, { percentile: 0 }), 1);
  assert.is(rankBy(s, { error: 1 }), 1);
  assert.is(rankBy(new Float64Array(3), { energy: 0.5 }), 1);
  assert.is(rankBy(s, { rank: 4, cumulative: 0.76, ratio: 100 }), 3);
});
ranks.run();

const budgets = suite("resizeAll()");
leakless(budgets);

const MIX: Record<string, [row: (typeof ADDITIVE)[number], shape: number[], size: number]> = {
  "block.0.conv": [ADDITIVE[3], [3, 3, 8, 12], 1],
  "block.0.linear": [ADDITIVE[0], [8, 12], 0.3],
  "block.1.conv": [ADDITIVE[9], [3, 3, 4, 6], 2],
  "block.1.linear": [ADDITIVE[8], [16, 24], 0.05],
  nothing: [ADDITIVE[0], [6, 6], 0],
};
const mix = () =>
  new Map(
    Object.entries(MIX).map(([name, [row, shape, size]]) => {
      const adapter = trained(row, shape, 1);
      return [name, { ...adapter, alpha: adapter.alpha * size }];
    }),
  );

budgets("gives every layer its rank by the rule, kernels wider than one position by theirs", () => {
  const { adapters, report } = resizeAll(mix(), { rank: 2, conv: { rank: 1 } });
  assert.equal([...adapters].map(([, { rank }]) => rank), [1, 2, 1, 2, 2]);
  assert.equal([...report].map(([, { rank }]) => rank), [1, 2, 1, 2, 2]);
});

budgets("no division of the ranks has less error for the bytes that are used", () => {
  const given = mix();
  const spectra = [...given].map(([, adapter]) => valuesOf(adapter));
  for (const bytes of [1000, 2000, 4000, 8000]) {
    const { adapters, report } = resizeAll(given, { bytes });
    let used = 0, loss = 0;
    for (const [name, { rank, norm, error }] of report) {
      const { shape } = given.get(name)!, O = outputs(shape);
      if (rank > 0) used += 4 * (1 + rank * (size(shape) / O + O));
      loss += (norm * error) ** 2;
      assert.is(adapters.has(name), rank > 0);
    }
    assert.ok(used <= bytes, `${used} of ${bytes}`);
    assert.ok(!adapters.has("nothing"), "no byte for what is zero");

    // every other way to spend as much, by trying
    const prices = [...given].map(([, { shape }]) =>
      4 * (size(shape) / outputs(shape) + outputs(shape))
    );
    const least = (layer: number, left: number): number => {
      if (layer === spectra.length) return 0;
      let best = Infinity;
      for (let rank = 0; rank <= spectra[layer].length; rank++) {
        const cost = rank === 0 ? 0 : 4 + rank * prices[layer];
        if (cost > left) break;
        const lost = spectra[layer].slice(rank).reduce((sum, value) => sum + value ** 2, 0);
        if (rank === 0 || spectra[layer][rank - 1] > 1e-6) {
          best = Math.min(best, lost + least(layer + 1, left - cost));
        }
      }
      return best;
    };
    assert.ok(loss <= least(0, used) * (1 + 1e-5), `${loss} is above ${least(0, used)}`);
  }
});

budgets("the file that is written keeps to the bytes, header included", async () => {
  for (const dtype of ["f32", "bf16"] as const) {
    for (const bytes of [3000, 6000]) {
      const given = mix(), metadata = { made: "by hand" };
      const header = (await encode(given, { dtype, metadata })).length - await stored(given, dtype);
      const overhead = header + 64; // offsets and shapes may have other digits
      const { adapters } = resizeAll(given, { bytes, dtype, overhead });
      const file = await encode(adapters, { dtype, metadata });
      assert.ok(file.length <= bytes, `${file.length} of ${bytes}`);
      const { adapters: back } = await open(file);
      assert.is(back.size, adapters.size);
      for (const adapter of back.values()) dispose(adapter);
    }
  }
});

budgets("measures layers against the norms given", () => {
  const given = new Map([
    ["a", trained(ADDITIVE[0], [8, 12])],
    ["b", trained(ADDITIVE[0], [8, 12])],
  ]);
  const bytes = 4 * (1 + 20);
  const [only] = resizeAll(given, { bytes, norms: new Map([["a", 2], ["b", 1]]) }).adapters.keys();
  assert.is(only, "b");
});

budgets(
  "takes along what has no low-rank form, its bytes counted, and refuses less than that",
  async () => {
    const given = mix(), ia3 = trained(["ia3", 0, {}], [8, 12]);
    given.set("scaled", ia3);
    const { adapters } = resizeAll(given, { bytes: 1000, rank: 2 });
    assert.equal(
      adapters.get("scaled")!.factors.vector!.dataSync(),
      ia3.factors.vector!.dataSync(),
    );
    assert.ok(await stored(adapters, "f32") <= 1000);
    assert.throws(() => resizeAll(given, { bytes: 50 }), /they take 56 at the least/);
  },
);

budgets.run();
