import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, dispose } from "../../lib/adapter/adapter.ts";
import { join } from "../../lib/adapter/join.ts";
import { delta, merge, mergeBias } from "../../lib/adapter/merge.ts";
import { combine, sum } from "../../lib/adapter/sum.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { close, distance, leakless } from "../support/close.ts";
import { ADDITIVE, type Row, tensor, told, trained } from "../support/trained.ts";

const joins = suite("join()");
leakless(joins);

/** Joins are exact: what is left is the rounding of float32. */
function equal(actual: tf.Tensor, expected: tf.Tensor, what = ""): void {
  const error = distance(actual.dataSync(), expected.dataSync());
  assert.ok(error < 1e-6, `${what} relative error is ${error}`);
}

const sumOf = (parts: [Adapter, number][]) =>
  parts.map(([adapter, s]) => tf.mul(delta(adapter), s)).reduce((a, b) => tf.add(a, b));

const KERNELS: Record<string, number[]> = {
  dense: [8, 12],
  "1×1": [1, 1, 8, 12],
  "3×3": [3, 3, 8, 12],
  "1×3": [1, 3, 8, 4],
  conv1d: [3, 4, 6],
  conv3d: [2, 3, 2, 4, 6],
};
for (const [name, shape] of Object.entries(KERNELS)) {
  joins(`of every algorithm on ${name} is the sum of their ΔW, at strengths of either sign`, () => {
    const wide = shape.some((length, axis) => axis < shape.length - 2 && length > 1);
    const rows = ADDITIVE.filter(([, , { tucker }]) => wide || !tucker);
    const adapters = Object.fromEntries(
      rows.map((row, i) => [`${i} ${told(row)}`, trained(row, shape, i)]),
    );
    const strengths = Object.fromEntries(
      Object.keys(adapters).map((name, i) => [name, i % 3 === 1 ? -0.7 : 1 + i / 4]),
    );
    const joined = join(adapters, { strengths });
    equal(
      delta(joined),
      sumOf(Object.entries(adapters).map(([name, adapter]) => [adapter, strengths[name]])),
    );
    assert.is(joined.alpha, joined.rank);
    assert.is(joined.rank, joined.diagonal.length);
  });
}

joins("takes one adapter, a list, and strength 1 where none is told", () => {
  const one = trained(ADDITIVE[0], [6, 8]), two = trained(ADDITIVE[3], [6, 8]);
  equal(delta(join([one])), delta(one));
  equal(delta(join([one, two], { strengths: [2] })), sumOf([[one, 2], [two, 1]]));
});

joins("Σ is live: each slice can be turned off, and every rank by itself", () => {
  const shape = [3, 3, 8, 12];
  const style = trained(ADDITIVE[0], shape), face = trained(ADDITIVE[3], shape, 5);
  const joined = join({ style, face });
  assert.equal(joined.slices, { style: { start: 0, end: 3 }, face: { start: 3, end: 7 } });
  assert.equal(joined.diagonal, [1, 1, 1, 1, 1, 1, 1]);
  const setting = (sigma: number[]) => {
    const tensors = tf.memory().numTensors;
    joined.diagonal = sigma;
    assert.is(tf.memory().numTensors, tensors, "setting Σ leaves no tensor over");
  };
  setting([2.5, 2.5, 2.5, 0, 0, 0, 0]);
  equal(delta(joined), sumOf([[style, 2.5]]), "style only");
  setting([0, 0, 0, 1, 1, 1, 1]);
  equal(delta(joined), delta(face), "face only");
  setting(joined.diagonal.map((_, rank) => rank));
  setting([1, 1, 1, -1, -1, -1, -1]);
  equal(delta(joined), sumOf([[style, 1], [face, -1]]), "a difference, after others");
  tf.tidy(() => setting([0, 1, 0, 0, 0, 0, 0]));
  const { down, up } = joined.factors;
  equal(
    delta(joined),
    tf.tidy(() => {
      const columns = tf.slice(tf.reshape(down, [72, 7]), [0, 1], [72, 1]);
      return tf.reshape(tf.matMul(columns, tf.slice(up, [1, 0], [1, 12]) as tf.Tensor2D), shape);
    }),
    "one rank",
  );
  dispose(joined);
});

joins(
  "saved with Σ folded in: reopened, and saved and reopened again, it is applied once",
  async () => {
    const shape = [3, 3, 8, 12];
    const joined = join({ a: trained(ADDITIVE[2], shape), b: trained(ADDITIVE[5], shape, 3) });
    joined.diagonal = joined.diagonal.map((_, rank) => 0.5 - rank);
    const expected = delta(joined);
    let bytes = await encode(new Map([["layer", joined]]));
    for (let again = 0; again < 2; again++) {
      const { adapters } = await open(bytes), back = adapters.get("layer")!;
      assert.is(back.algorithm, "lora");
      equal(delta(back), expected);
      bytes = await encode(adapters);
      dispose(back);
    }
    dispose(joined);
  },
);

joins("fits sources whose file does not tell the kernel to one that does", async () => {
  const shape = [3, 3, 8, 12],
    loha = trained(ADDITIVE[3], shape),
    lora = trained(ADDITIVE[0], shape);
  const { adapters } = await open(await encode(new Map([["layer", loha]]), { metadata: {} }));
  const bare = { ...adapters.get("layer")!, shape: loha.shape };
  equal(delta(join([bare, lora])), sumOf([[loha, 1], [lora, 1]]));
  dispose(bare);
});

const RELATIVE: Row[] = [
  ["lora", 2, { dora: "output" }],
  ["ia3", 0, { onInput: true }],
  ["oft", 2, {}],
  ["glora", 2, { alpha: 1 }],
];
joins("with the base joins every algorithm that depends on it", () => {
  for (const shape of [[8, 12], [3, 3, 8, 4]]) {
    const base = tensor(shape, 1);
    const adapters = RELATIVE.map((row, i) => trained(row, shape, i));
    const strengths = [0.5, 1, -0.3, 2];
    const differences = adapters.map((adapter, i) =>
      tf.sub(merge(base, adapter, { strength: strengths[i] }), base)
    );
    close(delta(join(adapters, { strengths, base })), tf.addN(differences));
  }
});

joins(
  "refuses what needs the base, other kernels, strangers and no adapters, and leaves nothing",
  () => {
    const plain = trained(ADDITIVE[0], [8, 12]), ia3 = trained(["ia3", 0, {}], [8, 12]);
    const tensors = tf.memory().numTensors;
    assert.throws(() => join({ plain, mine: ia3 }), /Cannot join "mine" as ia3 is no sum without/);
    const dora = trained(["lokr", 1, { dora: "input" }], [8, 12]);
    assert.throws(() => join([plain, dora]), /"1" as lokr with dora/);
    assert.throws(() => join([plain, trained(ADDITIVE[0], [12, 8])]), /kernel 8×12/);
    assert.throws(() => join({ plain }, { strengths: { plane: 1 } }), /strengths are for plain/);
    assert.throws(() => join([]), /there must be one/);
    const joined = join([plain]);
    assert.throws(() => joined.diagonal = [1, 2], /3 finite numbers/);
    assert.throws(() => joined.diagonal = [1, 2, NaN], /3 finite numbers/);
    assert.equal(joined.diagonal, [1, 1, 1]);
    dispose(joined);
    assert.ok(tf.memory().numTensors >= tensors);
  },
);

joins.run();

const sums = suite("sum()");
leakless(sums);

sums("is W′ − W of all sources, and Δb, whatever their algorithms", () => {
  const shape = [3, 3, 8, 4], base = tensor(shape, 1), bias = tensor([4], 2);
  const rows: Row[] = [...ADDITIVE, ...RELATIVE, ["full", 0, { bias: true }], ["full", 0, {}]];
  const adapters = rows.map((row, i) => trained(row, shape, i));
  const strengths = rows.map((_, i) => 1 - i / 5);
  const whole = sum(adapters, { strengths, base });
  assert.is(whole.algorithm, "full");
  const differences = adapters.map((adapter, i) =>
    tf.sub(merge(base, adapter, { strength: strengths[i] }), base)
  );
  close(merge(base, whole), tf.add(base, tf.addN(differences)));
  const biased = adapters[rows.length - 2], strength = strengths[rows.length - 2];
  close(mergeBias(bias, whole)!, mergeBias(bias, biased, { strength })!);
  assert.throws(() => sum(adapters), /is no sum without the base kernel/);
});

sums("of normalizations is one", () => {
  const one = trained(["norm", 0, { bias: true }], [6]), two = trained(["norm", 0, {}], [6], 4);
  const whole = sum({ one, two }, { strengths: { two: -2 } });
  assert.is(whole.algorithm, "norm");
  equal(delta(whole), tf.sub(delta(one), tf.mul(delta(two), 2)));
  close(whole.factors.bias!, one.factors.bias!);
});
sums.run();

const combines = suite("combine()");
leakless(combines);
combines("is a LoRA while that is smaller, else the whole difference", () => {
  const small = trained(["lora", 2, {}], [8, 12]), large = trained(["lora", 4, {}], [8, 12], 1);
  const biased = trained(["full", 0, { bias: true }], [8, 12]);
  for (
    const [adapters, algorithm] of [
      [[small, small], "lora"],
      [[small, large], "full"],
      [[small, biased], "full"],
    ] as const
  ) {
    const combined = combine(adapters);
    assert.is(combined.algorithm, algorithm);
    equal(delta(combined), sumOf(adapters.map((adapter) => [adapter, 1])));
  }
  assert.throws(() => join([small, biased]), /a LoRA has a kernel and no bias/);
});
combines.run();
