import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, dispose } from "../../lib/adapter/adapter.ts";
import { bytesOf } from "../../lib/adapter/bytes.ts";
import { extract } from "../../lib/adapter/extract.ts";
import { extractAll } from "../../lib/adapter/extract_all.ts";
import type { Extracted, ExtractOptions, Sparse } from "../../lib/adapter/extract/options.ts";
import { delta, merge, mergeBias } from "../../lib/adapter/merge.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse, type TensorView } from "../../lib/files/safetensors.ts";
import { nearestKronecker } from "../../lib/tensor/kronecker.ts";
import { matrix } from "../../lib/tensor/matrix.ts";
import { normal } from "../../lib/tensor/random.ts";
import { outputs, type Shape, size } from "../../lib/tensor/shape.ts";
import { lost, svd } from "../../lib/tensor/svd.ts";
import { close, leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { type Row, told, trained } from "../support/trained.ts";

const noise = (shape: Shape, seed: number) => tf.tensor(normal(shape, 1, seed), [...shape]);
const norm = (x: tf.Tensor) => Math.hypot(...x.dataSync());
const singular = (kernel: tf.Tensor) => {
  const O = outputs(kernel.shape);
  return svd(matrix(size(kernel.shape) / O, O, kernel.dataSync())).s;
};
const near = (actual: number, expected: number, what = "", within = 1e-5) =>
  assert.ok(Math.abs(actual - expected) < within, `${what}: ${actual} is not ${expected}`);

const extracts = suite("extract()");
leakless(extracts);

const KERNELS: Record<string, number[]> = {
  dense: [12, 18],
  "1×1": [1, 1, 12, 8],
  "3×3": [3, 3, 8, 12],
  "1×3": [1, 3, 8, 6],
  conv1d: [3, 4, 6],
  conv3d: [2, 1, 2, 4, 6],
  depthwise: [3, 3, 1, 8],
};
const OWN: [row: Row, options: ExtractOptions][] = [
  [["lora", 2, { alpha: 1 }], { rank: 2 }],
  [["lora", 2, {}], { error: 1e-4 }],
  [["lora", 2, { tucker: true }], { rank: 2, tucker: true, whole: "never" }],
  [["lokr", 16, { full: true, factor: 2 }], { algorithm: "lokr", factor: 2 }],
  [["lokr", 1, { factor: 2 }], { algorithm: "lokr", factor: 2, rank: 1 }],
  [["loha", 1, {}], { algorithm: "loha", rank: 1 }],
  [["loha", 2, {}], { algorithm: "loha", rank: 2, restarts: 12, sweeps: 300 }],
  [["ia3", 0, {}], { algorithm: "ia3" }],
  [["ia3", 0, { onInput: true }], { algorithm: "ia3" }],
  [["full", 0, {}], { algorithm: "full" }],
];
for (const [name, shape] of Object.entries(KERNELS)) {
  const least = Math.min(...shape.slice(-2)), wide = size(shape.slice(0, -2)) > 1;
  for (const [row, options] of OWN) {
    if ((options.tucker && !wide) || (options.rank ?? 1) > least) continue;
    if (options.factor && shape.slice(-2).some((length) => length % 2 > 0)) continue;
    extracts(`finds the ΔW of its own ${told(row)} on ${name}`, () => {
      const base = noise(shape, 1), own = trained(row, shape), tuned = merge(base, own);
      const { adapter, error } = extract(base, tuned, options)!;
      const within = row[0] === "loha" ? 1e-4 : 2e-5; // it is approached step by step
      assert.ok(error < within, `error is ${error}`);
      const difference = tf.sub(tuned, base);
      assert.ok(norm(tf.sub(delta(adapter, base), difference)) < 1.5 * within * norm(difference));
    });
  }
}

const EVERY: [what: string, options: ExtractOptions][] = [
  ["lora", { rank: 3, whole: "never" }],
  ["lora with a core", { rank: 3, tucker: true, whole: "never" }],
  ["lora with LyCORIS's second stage", { rank: 3, tucker: true, lycoris: true }],
  ["lora clamped", { rank: 3, clamp: 0.9, whole: "never" }],
  ["lokr", { algorithm: "lokr" }],
  ["lokr of low rank", { algorithm: "lokr", factor: 2, rank: 1 }],
  ["loha", { algorithm: "loha", rank: 2 }],
  ["ia3", { algorithm: "ia3" }],
  ["full", { algorithm: "full" }],
  ["auto", { algorithm: "auto", bytes: 300 }],
];
for (const [what, options] of EVERY) {
  extracts(
    `${what}: the error told is the error measured, the file opens as the same ΔW`,
    async () => {
      for (const shape of [[12, 18], [3, 3, 8, 12]]) {
        const base = noise(shape, 1), tuned = tf.add(base, noise(shape, 2));
        const found = extract(base, tuned, options)!, difference = tf.sub(tuned, base);
        const missed = norm(tf.sub(difference, delta(found.adapter, base)));
        near(found.norm / norm(difference), 1, "norm");
        near(missed / norm(difference), found.error, "error");
        near(found.energy, 1 - found.error ** 2, "energy");
        assert.equal([...found.adapter.shape], shape);
        const { adapters } = await open(await encode(new Map([["layer", found.adapter]])));
        close(merge(base, adapters.get("layer")!), merge(base, found.adapter));
        for (const adapter of adapters.values()) dispose(adapter);
      }
    },
  );
}

extracts("lora has the least error of its rank", () => {
  for (const [name, shape] of Object.entries(KERNELS)) {
    const base = noise(shape, 1), tuned = noise(shape, 2), s = singular(tf.sub(tuned, base));
    for (const rank of [1, 3, 5]) {
      const { error } = extract(base, tuned, { rank, whole: "never" })!;
      near(error, lost(s, Math.min(rank, s.length)), `${name} ${rank}`);
    }
  }
});

extracts(
  "lora of a large kernel, whose leading triplets are sought, misses 10⁻⁴ more at the most",
  () => {
    const shape = [240, 200], r = 200;
    for (const power of [0, 0.5, 2]) {
      const left = noise([240, r], 1), right = noise([r, 200], 2);
      const weights = tf.tensor(Array.from({ length: r }, (_, i) => (i + 1) ** -power), [r, 1]);
      const tuned = tf.matMul(left as tf.Tensor2D, tf.mul(right, weights) as tf.Tensor2D);
      const base = tf.zeros(shape), s = singular(tuned);
      for (const rank of [1, 4]) {
        const { error } = extract(base, tuned, { rank })!, best = lost(s, rank);
        assert.ok(
          error >= best - 1e-6 && error < best + 1e-4,
          `${power} ${rank}: ${error} ${best}`,
        );
      }
      const rules: ExtractOptions[] = [
        { threshold: s[4] * 1.01 },
        { ratio: s[3] / s[0] * 0.99 },
        { energy: 0.999 * (1 - lost(s, 3) ** 2) },
        { error: 1.001 * lost(s, 3) },
      ];
      const ranks = rules.map((rule) => extract(base, tuned, rule)!.adapter.rank);
      assert.equal(ranks, [4, 4, 3, 3], `power ${power}`);
    }
  },
);

extracts(
  "finds a large ΔW of few ranks, however much they differ in size, as good as whole",
  () => {
    for (const [m, n] of [[240, 200], [150, 400], [700, 90]]) {
      const weights = tf.tensor([1, 1e-1, 1e-2, 1e-3], [4, 1]);
      const left = noise([m, 4], 1) as tf.Tensor2D, right = tf.mul(noise([4, n], 2), weights);
      const tuned = tf.matMul(left, right as tf.Tensor2D);
      const { adapter, error } = extract(tf.zeros([m, n]), tuned, { rank: 4 })!;
      assert.ok(error < 1e-6, `${error}`);
      close(delta(adapter), tuned);
    }
  },
);

extracts("lokr at a rank that its large part does not have is the one with w2 whole", () => {
  const base = noise([9, 180], 1), tuned = noise([9, 180], 2), factor = 2;
  const { adapter, error } = extract(base, tuned, { algorithm: "lokr", factor, rank: 20 })!;
  const whole = extract(base, tuned, { algorithm: "lokr", factor })!;
  assert.ok(adapter.factors.w2);
  near(error, whole.error, "error");
});

extracts("lokr with w2 whole is the nearest Kronecker product; of low rank no sweep loses", () => {
  for (const shape of [[12, 18], [3, 3, 8, 12]]) {
    const base = noise(shape, 1), tuned = noise(shape, 2);
    const kernel = { shape, data: tf.sub(tuned, base).dataSync() };
    for (const factor of [2, -1]) {
      const { adapter, error } = extract(base, tuned, { algorithm: "lokr", factor })!;
      near(error, nearestKronecker(kernel, adapter.factors.w1!.shape).error);
      const low = extract(base, tuned, { algorithm: "lokr", factor: 2, rank: 1 })!;
      const { w1 } = low.adapter.factors, { b } = nearestKronecker(kernel, w1!.shape);
      const columns = outputs(b.shape),
        { s } = svd(matrix(b.data.length / columns, columns, b.data));
      const cut = s[0] ** 2 / s.reduce((sum, value) => sum + value ** 2, 0);
      const whole = extract(base, tuned, { algorithm: "lokr", factor: 2 })!;
      assert.ok(low.energy >= cut * whole.energy - 1e-6, "not worse than cutting the nearest");
    }
  }
});

extracts("loha misses less than a lora of its rank, which it starts from", () => {
  for (const shape of [[24, 40], [3, 3, 8, 12]]) {
    const base = noise(shape, 1), tuned = noise(shape, 2);
    for (const rank of [2, 3]) {
      const loha = extract(base, tuned, { algorithm: "loha", rank })!;
      const lora = extract(base, tuned, { rank, whole: "never" })!;
      assert.ok(loha.error < lora.error, `${loha.error} ${lora.error}`);
    }
  }
});

extracts(
  "loha of a rank above that of the kernel, without a restart, is found from random factors",
  () => {
    const base = noise([4, 6], 1), tuned = noise([4, 6], 2);
    const { adapter, error } = extract(base, tuned, { algorithm: "loha", rank: 5, restarts: 0 })!;
    assert.is(adapter.rank, 5);
    assert.ok(error < 0.1);
  },
);

extracts("ia3 is a least-squares solution: no other number of any channel misses less", () => {
  for (const onInput of [false, true]) {
    const base = noise([3, 3, 4, 6], 1), tuned = noise([3, 3, 4, 6], 2);
    const { adapter, error } = extract(base, tuned, { algorithm: "ia3", onInput })!;
    const { vector } = adapter.factors, difference = tf.sub(tuned, base);
    for (let channel = 0; channel < vector!.size; channel++) {
      for (const step of [0.01, -0.01]) {
        const other = vector!.dataSync().slice();
        other[channel] += step;
        const moved = tf.mul(base, tf.tensor(other, vector!.shape));
        assert.ok(norm(tf.sub(difference, moved)) / norm(difference) > error);
      }
    }
  }
});

extracts(
  "a whole difference is given where factors are no smaller, at half the outputs, or never",
  () => {
    const base = tf.zeros([16, 24]), tuned = noise([16, 24], 1);
    const is = (options: ExtractOptions) => extract(base, tuned, options)!.adapter.algorithm;
    assert.is(is({ rank: 9 }), "lora"); // 9 · 40 < 384
    assert.is(is({ rank: 10 }), "full");
    assert.is(is({}), "full");
    assert.is(is({ rank: 11, whole: "half" }), "lora");
    assert.is(is({ rank: 12, whole: "half" }), "full");
    assert.is(is({ rank: 12, lycoris: true }), "full");
    assert.is(is({ rank: 16, whole: "never" }), "lora");
  },
);

extracts("the sparse rest holds the largest numbers missed, and the error with it is told", () => {
  for (
    const options of [{ rank: 2 }, { rank: 2, tucker: true }, {
      rank: 2,
      tucker: true,
      lycoris: true,
    }]
  ) {
    const base = noise([3, 3, 8, 12], 1), tuned = noise([3, 3, 8, 12], 2);
    const { adapter, sparse } = extract(base, tuned, { ...options, sparsity: 0.9 })!;
    const { indices, values, error } = sparse!;
    assert.is(indices.length, 87); // 864 numbers, those at and above place 776.7
    const whole = delta(adapter).dataSync().slice(), difference = tf.sub(tuned, base);
    indices.forEach((place, i) => whole[place] += values[i]);
    const missed = tf.sub(difference, tf.tensor(whole, [3, 3, 8, 12]));
    near(norm(missed) / norm(difference), error);
    const least = Math.min(...values.map(Math.abs));
    assert.ok(Math.max(...missed.dataSync().map(Math.abs)) <= least);
  }
});

extracts(
  "a bias goes with a whole difference; of any other adapter it is told what it misses",
  () => {
    const base = tf.zeros([16, 24]), tuned = noise([16, 24], 1), bias = { tuned: noise([24], 2) };
    const whole = extract(base, tuned, { algorithm: "full", bias })!;
    close(mergeBias(undefined, whole.adapter)!, bias.tuned);
    near(extract(base, tuned, { rank: 1, bias })!.missedBias!, norm(bias.tuned));
    assert.is(extract(base, tuned, { rank: 1, bias: {} })!.missedBias, undefined);
    const gamma = extract(tf.ones([8]), noise([8], 3), {
      rank: 1,
      bias: { base: tf.ones([8]), tuned: tf.zeros([8]) },
    })!;
    assert.is(gamma.adapter.algorithm, "norm");
    close(merge(tf.ones([8]), gamma.adapter), noise([8], 3));
    close(gamma.adapter.factors.bias!, tf.fill([8], -1));
  },
);

extracts("kernels that do not differ, or hardly, give nothing", () => {
  const base = noise([8, 12], 1), tuned = tf.add(base, 1e-6);
  assert.is(extract(base, base), undefined);
  assert.is(extract(base, tuned, { minDiff: 1e-5 }), undefined);
  assert.is(extract(base, tf.mul(base, 1 + 5e-6), { lycoris: true }), undefined);
  assert.ok(extract(base, tuned));
  assert.ok(extract(base, tf.mul(base, 1 + 3e-5), { lycoris: true }));
});

extracts("refuses kernels of two shapes, numbers that are none, and a search without end", () => {
  const base = noise([8, 12], 1), tuned = noise([8, 12], 2);
  const leaks = tf.memory().numTensors;
  assert.throws(
    () => extract(base, noise([12, 8], 2)),
    /of one shape: current shapes are 8×12 and 12×8/,
  );
  assert.throws(() => extract(base, tf.mul(tuned, Infinity)), /must be finite/);
  assert.throws(() => extract(base, tuned, { algorithm: "auto" }), /pass { bytes }/);
  for (const algorithm of ["lora", "lokr", "loha"] as const) {
    assert.throws(
      () => extract(base, tuned, { algorithm, rank: 1.5 }),
      /rank must be a whole number/,
    );
  }
  assert.throws(() => extract(base, tuned, { algorithm: "lokr", factor: 2.5 }), /factor must be/);
  assert.throws(
    () => extract(base, tuned, { algorithm: "lora", bytes: 10 }),
    /Cannot fit adapters/,
  );
  assert.throws(() => extract(base, tuned, { rank: 1, sparsity: 2 }), /between 0 and 1/);
  assert.is(tf.memory().numTensors - leaks, 2, "but for those made here");
});

/** Bytes of all tensors of an adapter's file. */
async function stored(adapter: Adapter, dtype: "f32" | "f16"): Promise<number> {
  const { tensors } = parse(await encode(new Map([["layer", adapter]]), { dtype }));
  return [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
}

extracts("bytes are kept to in the file, and auto misses least of all algorithms", async () => {
  const shapes = [[24, 40], [3, 3, 8, 12]];
  for (const shape of shapes) {
    for (const structure of ["noise", "lokr", "ia3"] as const) {
      const base = noise(shape, 1);
      const clear = structure === "noise"
        ? noise(shape, 2)
        : structure === "ia3"
        ? tf.mul(base, noise([1, outputs(shape)], 3))
        : delta(trained(["lokr", 16, { full: true }], shape));
      const tuned = tf.add(base, tf.add(clear, tf.mul(noise(shape, 4), 0.01)));
      for (const [bytes, dtype] of [[400, "f32"], [400, "f16"], [1500, "f32"]] as const) {
        const of = (algorithm: ExtractOptions["algorithm"]) =>
          extract(base, tuned, { algorithm, bytes, dtype })!;
        const auto = of("auto");
        assert.ok(await stored(auto.adapter, dtype) <= bytes);
        for (const algorithm of ["lora", "lokr", "ia3"] as const) {
          let alone: Extracted;
          try {
            alone = of(algorithm);
          } catch (error) {
            assert.match((error as Error).message, /Cannot fit adapters into/);
            continue;
          }
          assert.ok(await stored(alone.adapter, dtype) <= bytes, algorithm);
          // the sweeps of a lokr find more than is known when the choice is made
          assert.ok(auto.error <= alone.error + 0.02, `${structure} ${algorithm}`);
        }
      }
    }
  }
});

extracts("an error asked for is kept by the fewest bytes", () => {
  const base = noise([24, 40], 1), tuned = tf.add(base, delta(trained(["lokr", 1, {}], [24, 40])));
  const { adapter, error } = extract(base, tuned, { algorithm: "auto", error: 0.01 })!;
  assert.is(adapter.algorithm, "lokr");
  assert.ok(error <= 0.01);
  const noisy = extract(base, noise([24, 40], 5), { algorithm: "auto", error: 0.01 })!;
  assert.is(noisy.adapter.algorithm, "full");
});

/** Layers of different sizes and structures. */
const LAYERS: Record<string, { shape: number[]; size: number; like?: Row }> = {
  "block.0.conv": { shape: [3, 3, 8, 12], size: 1 },
  "block.0.linear": { shape: [24, 40], size: 0.5, like: ["lokr", 16, { full: true }] },
  "block.1.linear": { shape: [16, 24], size: 2, like: ["lora", 2, {}] },
  "block.1.norm": { shape: [16], size: 0.2 },
  same: { shape: [8, 8], size: 0 },
};
const load = (name: string) => {
  const { shape, size, like } = LAYERS[name], base = noise(shape, 1);
  const clear = like ? delta(trained(like, shape)) : noise(shape, 2);
  const tuned = tf.add(base, tf.mul(tf.add(clear, tf.mul(noise(shape, 3), 0.05)), size));
  return { base, tuned };
};

const together = suite("extractAll()");
leakless(together);

together(
  "without bytes is extract() of every layer, with rules of their own for wide kernels",
  async () => {
    const told: string[] = [];
    const { layers, left } = await extractAll(Object.keys(LAYERS), load, {
      rank: 2,
      conv: { rank: 3 },
      onLayer: (layer, found) => told.push(`${layer} ${found?.adapter.rank}`),
    });
    assert.equal(told, [
      "block.0.conv 3",
      "block.0.linear 2",
      "block.1.linear 2",
      "block.1.norm 0",
      "same undefined",
    ]);
    assert.is(left.size, 0);
    for (const { adapter } of layers.values()) dispose(adapter);
  },
);

together(
  "the file keeps to the bytes, and misses less with more ways to choose from and with more bytes",
  async () => {
    const metadata = { made: "by hand" };
    let before = Infinity;
    for (const bytes of [4000, 6000, 9000]) {
      const overhead = 1800,
        options = { bytes, overhead, among: ["lora", "lokr", "full"] as const };
      const lora = await extractAll(Object.keys(LAYERS), load, options);
      const auto = await extractAll(Object.keys(LAYERS), load, { ...options, algorithm: "auto" });
      const missed = ({ layers, left }: typeof lora) =>
        [...layers.values(), ...left.values()]
          .reduce((sum, { norm, error }) => sum + (norm * error) ** 2, 0);
      assert.ok(missed(auto) <= missed(lora) * 1.01, `${missed(auto)} ${missed(lora)}`);
      assert.ok(missed(auto) < before);
      before = missed(auto);
      for (const { layers } of [lora, auto]) {
        const adapters = new Map([...layers].map(([name, { adapter }]) => [name, adapter]));
        const { length } = await encode(adapters, { metadata });
        assert.ok(length <= bytes, `${length} of ${bytes}`);
        for (const adapter of adapters.values()) dispose(adapter);
      }
    }
    // so few numbers that the whole is the best of the layer's own ways
    const { layers } = await extractAll(["block.1.norm"], load, { bytes: 64 });
    assert.is(layers.get("block.1.norm")!.adapter.algorithm, "norm");
    for (const { adapter } of layers.values()) dispose(adapter);
  },
);

together("for the bytes of one rank in all layers it misses no more than that rank", async () => {
  const missed = ({ layers, left }: Awaited<ReturnType<typeof extractAll>>) =>
    [...layers.values(), ...left.values()]
      .reduce((sum, { norm, error }) => sum + (norm * error) ** 2, 0);
  for (const rank of [1, 2, 3]) {
    const even = await extractAll(Object.keys(LAYERS), load, { rank });
    const bytes = [...even.layers.values()].reduce(
      (sum, { adapter }) => sum + bytesOf(adapter, "f32"),
      0,
    );
    for (const algorithm of ["lora", "auto"] as const) {
      const divided = await extractAll(Object.keys(LAYERS), load, { algorithm, bytes });
      assert.ok(missed(divided) <= missed(even) * (1 + 1e-5), `${algorithm}, rank ${rank}`);
      for (const { adapter } of divided.layers.values()) dispose(adapter);
    }
    for (const { adapter } of even.layers.values()) dispose(adapter);
  }
});

together("relative to ‖W‖, it is the layer of the smaller kernel that gets the bytes", async () => {
  const differing = (name: string) => {
    const [size, bump] = name === "small" ? [0.1, 0.1] : [1, 0.5];
    const base = tf.mul(noise([8, 8], 1), size);
    return { base, tuned: tf.add(base, tf.mul(noise([8, 8], 2), bump)) };
  };
  for (const [relative, first] of [[false, "large"], [true, "small"]] as const) {
    const { layers } = await extractAll(["large", "small"], differing, { bytes: 68, relative });
    assert.equal([...layers.keys()], [first]);
    for (const { adapter } of layers.values()) dispose(adapter);
  }
});

together.run();

if (hasGolden) {
  const info = JSON.parse(readFileSync(golden("extract_dev.json"), "utf8"));
  const { tensors } = parse(new Uint8Array(readFileSync(golden("extract_dev.safetensors"))));
  /** A fixture as a kernel here: `[a, b, ...k]` → `[...k, b, a]`. */
  const kernel = ({ dtype, shape, bytes }: TensorView) =>
    tf.tidy(() => {
      const k = shape.slice(2).map((_, axis) => axis + 2);
      return tf.transpose(tf.tensor(toFloat32(dtype, bytes), [...shape]), [...k, 1, 0]);
    });
  const pair = (layer: string) =>
    ["base", "tuned"].map((name) => kernel(tensors.get(`${layer}/${name}`)!));
  const scattered = ({ indices, values }: Sparse, shape: number[]) => {
    const whole = new Float32Array(size(shape));
    indices.forEach((place, i) => whole[place] = values[i]);
    return tf.tensor(whole, shape);
  };
  const RULES: Record<string, keyof ExtractOptions> = {
    fixed: "rank",
    threshold: "threshold",
    ratio: "ratio",
    quantile: "percentile",
    percentile: "percentile",
  };
  const ruled = (mode: string, p: number): ExtractOptions => ({
    lycoris: true,
    ...(mode === "full" ? { algorithm: "full" } : { [RULES[mode]]: p }),
  });
  for (const { id, mode, param, is_cp, status, rank, residual_norm } of info.items) {
    extracts(`${id} is LyCORIS's`, () => {
      const [base, tuned] = pair(id.split("/")[0]);
      const whole = is_cp ? "never" : "half";
      const { adapter, error, norm } = extract(base, tuned, { ...ruled(mode, param), whole })!;
      assert.is(adapter.algorithm, status === "full" ? "full" : "lora");
      if (status === "full") return close(merge(base, adapter), tuned);
      assert.is(adapter.rank, rank);
      close(delta(adapter), kernel(tensors.get(`${id}/delta`)!));
      near(error * norm, residual_norm, "residual");
    });
  }
  for (const [name, settings] of Object.entries(info.files) as [string, Record<string, number>][]) {
    extracts(`${name} is LyCORIS's file, ΔW for ΔW`, async () => {
      const bytes = new Uint8Array(readFileSync(golden(`extract_dev_files/${name}.safetensors`)));
      const { adapters } = await open(bytes), raw = parse(bytes).tensors;
      for (const [module, theirs] of adapters) {
        const layer = module.replace("lora_unet_", "");
        if (!tensors.has(`${layer}/base`)) continue; // a normalization, which the fixture has no pair of
        const [base, tuned] = pair(layer), wide = base.shape[0] === 3;
        const p = wide ? settings.conv_param : settings.linear_param;
        const found = extract(base, tuned, {
          ...ruled(String(settings.mode), p),
          tucker: settings.small_conv === undefined,
          sparsity: settings.use_bias ? settings.sparsity : undefined,
        })!;
        const rest = found.sparse ? scattered(found.sparse, base.shape) : 0;
        close(tf.add(delta(found.adapter), rest), delta(theirs), "bfloat", layer); // three factors of float16
        if (!found.sparse) continue;
        const values = toFloat32("F16", raw.get(`${module}.bias_values`)!.bytes);
        const { indices } = found.sparse, [O] = base.shape.slice(-1), I = base.shape.at(-2)!;
        const places = new Int16Array(raw.get(`${module}.bias_indices`)!.bytes.slice().buffer);
        const k = size(base.shape.slice(0, -2)), count = values.length;
        const expected = new Map(Array.from(values, (value, i) => {
          const o = places[i], column = places[count + i];
          return [(column % k * I + Math.floor(column / k)) * O + o, value];
        }));
        assert.is(indices.length, count);
        indices.forEach((place, i) =>
          near(found.sparse!.values[i], expected.get(place)!, "", 1e-3)
        );
      }
      for (const adapter of adapters.values()) dispose(adapter);
    });
  }
}

extracts.run();
