import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { energyOf, matrixOf } from "../../lib/adapter/matrices.ts";
import { type Cut, rankBy } from "../../lib/adapter/rank.ts";
import { spectrumBy } from "../../lib/adapter/spectrum_by.ts";
import { matrix, multiply, norm, transpose } from "../../lib/tensor/matrix.ts";
import { lost, svd } from "../../lib/tensor/svd.ts";
import { leakless } from "../support/close.ts";
import { map, skew, withSpectrum } from "../support/matrices.ts";

/** Singular values by place, from slow to steep. */
const SPECTRA: Record<string, (i: number) => number> = {
  equal: () => 1,
  "slowly falling": (i) => (i + 1) ** -0.3,
  "falling, then noise": (i) => Math.max(0.9 ** i, 0.04 + 1e-4 / (i + 1)),
  "steeply falling": (i) => 10 ** (-i / 12),
  "of rank 6": (i) => i < 6 ? 1 / (i + 1) : 0,
};
const SIZES = [[110, 300], [600, 60]] as const;

const spectra = suite("spectrumBy()");
leakless(spectra);

for (const [name, value] of Object.entries(SPECTRA)) {
  for (const [m, n] of SIZES) {
    const short = Math.min(m, n), values = Array.from({ length: short }, (_, i) => value(i));
    const made = () => {
      const a = withSpectrum(m, n, values);
      return { a, kernel: tf.tensor(Float32Array.from(a.data), [m, n]) };
    };

    spectra(`misses no more than 10⁻⁴ above the least for a rank: ${name}, ${m}×${n}`, () => {
      const { kernel } = made(), a = matrixOf(kernel), { s } = svd(a);
      const found = spectrumBy(kernel, energyOf(kernel), { rank: 12 });
      for (const rank of [1, 5, 12]) {
        const { u, s: kept, v } = found.triplets(rank);
        const built = multiply(map(u, (x, _, j) => x * kept[j]), transpose(v));
        const missed = norm(map(a, (x, i, j) => x - built.data[i * n + j])) / norm(a);
        assert.ok(missed < lost(s, rank) * 1.0001 + 1e-6, `${rank}: ${missed} ${lost(s, rank)}`);
        if (kept[rank - 1] > 1e-6) assert.ok(skew(v) < 1e-5);
      }
    });

    if (m > n) continue;
    spectra(`has the rank of all singular values for a rule: ${name}, ${m}×${n}`, () => {
      const { kernel } = made(), energy = energyOf(kernel), { s } = svd(matrixOf(kernel));
      const sum = s.reduce((sum, x) => sum + x, 0);
      const shareTo = (k: number) => s.subarray(0, k).reduce((sum, x) => sum + x, 0) / sum;
      // next to a singular value, and as near as float32 cannot tell it
      const cuts: Cut[] = [[3, 1 + 1e-4], [30, 1 - 1e-8]].flatMap(([k, by]) => [
        { threshold: s[k] * by },
        { ratio: s[k] / s[0] * by },
        { percentile: Math.min(1, shareTo(k) * by) },
        { cumulative: Math.min(1, shareTo(k) * by), rank: 25 },
      ]).filter(({ ratio }) => ratio === undefined || ratio > 1e-5);
      for (const cut of [...cuts, { energy: 0.7 }, { fro: 0.9 }, { error: 0.11 }]) {
        const found = spectrumBy(kernel, energy, cut), rank = rankBy(found.s, cut, found.energy);
        // equal values are told from another by no rule, nor rounding from zero
        if (name === "equal" || (name === "of rank 6" && (cut.threshold ?? 1) < 1e-6)) continue;
        assert.is(rank, rankBy(s, cut, energy), JSON.stringify(cut));
        assert.is(found.triplets(rank).s.length, rank);
      }
    });
  }
}

spectra("of a kernel with axes before is that of its matrix", () => {
  const a = withSpectrum(360, 96, Array.from({ length: 96 }, (_, i) => 0.8 ** i));
  const kernel = tf.tensor(Float32Array.from(a.data), [3, 3, 40, 96]), energy = energyOf(kernel);
  const { s } = spectrumBy(kernel, energy, { percentile: 0.9 });
  assert.ok(s.every((value, i) => Math.abs(value - 0.8 ** i) < 1e-3 && value >= 0));
  assert.is(s.length, 96);
  assert.equal(matrixOf(kernel), matrix(360, 96, Float64Array.from(kernel.dataSync())));
});

spectra.run();
