/** The laws that every algorithm keeps: algorithms and options × kernels × engines. */
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Adapter,
  type AdapterOptions,
  bornZero,
  create,
  dispose,
  mapFactors,
  parameters,
  tensors,
  trained as trainable,
} from "../lib/adapter/adapter.ts";
import { forward } from "../lib/adapter/forward.ts";
import { lowRankForm, truncate } from "../lib/adapter/low_rank.ts";
import { delta, merge, mergeBias, unmerge } from "../lib/adapter/merge.ts";
import { costOf, hasHybrid, type Route } from "../lib/adapter/route.ts";
import { view } from "../lib/adapter/view.ts";
import { type AlgorithmName, rowOf } from "../lib/algorithms/table.ts";
import * as lora from "../lib/algorithms/lora.ts";
import * as engine from "../lib/engines/engine.ts";
import { encode, open } from "../lib/files/adapters.ts";
import { convolve } from "../lib/tensor/convolve.ts";
import { matrix } from "../lib/tensor/matrix.ts";
import { isWide, outputs, size } from "../lib/tensor/shape.ts";
import { svd } from "../lib/tensor/svd.ts";
import { close, leakless } from "./support/close.ts";
import { type Place, PLACES, values } from "./support/geometries.ts";

type Row = [algorithm: AlgorithmName, rank: number, options: AdapterOptions];
const ADAPTERS: Row[] = [
  ["lora", 2, { alpha: 3 }],
  ["lora", 2, { tucker: true }],
  ["lora", 3, { scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["lora", 2, { dora: "output", alpha: 1 }],
  ["lora", 2, { dora: "input" }],
  ["lora", 2, { init: "pissa", alpha: 3 }],
  ["lora", 1, { init: "pissa", dora: "output" }],
  ["lora", 2, { init: "olora", rankScale: "alpha/sqrt(r)" }],
  ["loha", 2, { alpha: 1 }],
  ["loha", 2, { tucker: true, scalar: true }],
  ["loha", 1, { dora: "output" }],
  ["lokr", 1, { alpha: 0.5 }],
  ["lokr", 1, { factor: 2, tucker: true }],
  ["lokr", 1, { factor: 2, decomposeBoth: true, unbalanced: true }],
  ["lokr", 4, { full: true, scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["lokr", 1, { factor: 2, dora: "input" }],
  ["ia3", 0, {}],
  ["ia3", 0, { onInput: true }],
  ["dylora", 4, { block: 2, alpha: 2 }],
  ["dylora", 3, {}],
  ["full", 0, { bias: true }],
  ["norm", 0, { bias: true }],
  ["norm", 0, {}],
  ["oft", 2, {}],
  ["oft", 4, { rescaled: true, constraint: 0.01 }],
  ["boft", 2, { rescaled: true }],
  ["boft", 6, { constraint: 0.01 }],
  ["glora", 2, { alpha: 3 }],
  ["glora", 1, { scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["tlora", 2, { alpha: 1 }],
  ["tlora", 1, { triplets: "last" }],
  ["tlora", 3, { triplets: "middle" }],
];

/** Where an algorithm can be with its options: a Tucker core on wide kernels, norm on vectors, BOFT as O allows. */
function canBe([algorithm, rank, options]: Row, { kernel }: Place): boolean {
  if (kernel.length === 1 || algorithm === "norm") {
    return kernel.length === 1 && algorithm === "norm";
  }
  if (algorithm === "boft") {
    const blocks = [1, 2, 4, 8].map((count) => outputs(kernel) / count);
    return blocks.some((b) => b % 2 === 0 && b <= rank);
  }
  return options.tucker ? isWide(kernel) : true;
}

const VECTORS: Place[] = [
  { name: "normalization", kernel: [6], x: [2, 4, 3, 6], geometry: {} },
  { name: "normalization of rows", kernel: [5], x: [3, 5], geometry: {} },
];

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);

/** A new adapter of a place; its base where it asks for one. */
function born([algorithm, rank, options]: Row, { kernel }: Place, base: tf.Tensor): Adapter {
  const asks = options.dora || options.init || algorithm === "tlora";
  return create(algorithm, kernel, rank, asks ? { ...options, base } : options);
}

/** The same with factors that no longer are as born. */
function trained(row: Row, place: Place, base: tf.Tensor): Adapter {
  const adapter = born(row, place, base);
  return mapFactors(adapter, (factor, name) => {
    if (name.startsWith("born")) return factor;
    if (name === "magnitude") return tf.mul(factor, tf.add(tensor(factor.shape, 9), 1.5));
    const seed = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
    return tf.mul(tensor(factor.shape, seed), 0.3);
  });
}

function told([algorithm, rank, options]: Row): string {
  const words = Object.entries(options).map(([name, value]) => `${name} ${value}`);
  return [algorithm, rank > 0 ? `rank ${rank}` : "", ...words].filter(Boolean).join(" ");
}

/** How many singular values of a kernel as a matrix are not rounding. */
function rankOf(kernel: tf.Tensor): number {
  const O = outputs(kernel.shape), rows = size(kernel.shape) / O;
  const { s } = svd(matrix(rows, O, kernel.dataSync()));
  return s.filter((value) => value > s[0] * 1e-5).length;
}

/** op(x; W), or x̂ ⊙ γ. */
const operate = (x: tf.Tensor, kernel: tf.Tensor, { geometry }: Place) =>
  kernel.rank === 1 ? tf.mul(x, kernel) : convolve(x, kernel, geometry);

/** All that an adapter adds at strength 1: ΔW, and Δb behind it. */
function change(adapter: Adapter, base: tf.Tensor): tf.Tensor {
  const bias = mergeBias(undefined, adapter), added = tf.reshape(delta(adapter, base), [-1]);
  return bias ? tf.concat([added, bias]) : added;
}

/** Every engine that starts here, or the one that the environment chose. */
const chosen = process.env.LOWRANK_ENGINE;
const present = (await engine.list())
  .filter(({ name, available }) => available === true && (!chosen || chosen === name));
for (const { name } of present) {
  const laws = suite(`laws on ${name}`);
  laws.before(async () => void (await engine.use(name)));
  leakless(laws);

  for (const row of ADAPTERS) {
    const [algorithm, rank, options] = row, { relative } = rowOf(algorithm);
    const { adapt, restore } = rowOf(algorithm).algorithm;
    const value = adapt ? "rotation" : "value", gradient = adapt ? "rotationGradient" : "gradient";
    for (const place of [...PLACES, ...VECTORS].filter((place) => canBe(row, place))) {
      const { kernel, x, geometry } = place;
      laws(`${told(row)} on ${place.name}`, () => {
        const base = tensor(kernel, 1), input = tensor(x, 2);

        const newborn = born(row, place, base);
        close(merge(base, newborn), base, "value", "W′ at birth");
        assert.is(costOf(newborn).parameters, parameters(newborn));
        const counted = rowOf(algorithm).algorithm.cost(kernel, rank, options).parameters;
        const extra = tensors(newborn).filter(([name]) => ["scalar", "magnitude"].includes(name));
        const extras = extra.reduce((sum, [, { size }]) => sum + size, 0);
        assert.is(counted + extras, parameters(newborn), "cost counts the elements that exist");

        const adapter = trained(row, place, base);
        const added = delta(adapter, base), merged = merge(base, adapter, { strength: 0.7 });
        if (!adapter.dora) {
          const s = adapt ? 1 : 0.7, sum = tf.add(base, tf.mul(added, s));
          close(merge(base, adapter, { strength: s }), sum, value, "W + s · delta");
        }
        if (adapter.dora || (relative && !restore)) {
          assert.throws(() => unmerge(merged, adapter, { strength: 0.7 }), /keep the base/);
        } else {
          close(unmerge(merged, adapter, { strength: 0.7 }), base, value, "unmerge(merge(W))");
        }
        const { factors } = adapter, { algorithm: { bypass, delta: unscaled } } = rowOf(algorithm);
        const by = operate(input, unscaled(factors, base, adapter), place);
        close(bypass(factors, input, geometry, { ...adapter, base }), by, value, "bypass");

        const dy = tensor(by.shape, 5), bias = tensor([outputs(kernel)], 6);
        const mergedBias = mergeBias(bias, adapter, { strength: 0.7 })!;
        const unmergedBias = mergeBias(mergedBias, adapter, { strength: -0.7 })!;
        close(unmergedBias, bias, "value", "b, added and taken back");
        const expected = tf.add(operate(input, merged, place), mergedBias);
        const routes: Route[] = ["bypass", "rebuild"];
        if (hasHybrid(adapter) && (geometry.groups ?? 1) === 1) routes.push("hybrid");
        const learning = trainable(adapter), names = learning.map(([name]) => name);
        const inputs = [input, ...learning.map(([, factor]) => factor)];
        const run = (route: Route) => (x: tf.Tensor, ...all: tf.Tensor[]) => {
          const given = mapFactors(adapter, (own, name) => all[names.indexOf(name)] ?? own);
          const parts = [{ view: view(given)!, strength: 0.7 }];
          return forward(x, { kernel: base, geometry, bias }, parts, route);
        };
        const gradients = routes.map((route) => {
          close(run(route)(inputs[0], ...inputs.slice(1)), expected, value, route);
          return tf.grads((...all) => run(route)(all[0], ...all.slice(1)))(inputs, dy);
        });
        for (const [i, others] of gradients.entries()) {
          others.forEach((other, j) =>
            close(other, gradients[0][j], gradient, `gradient ${j} by ${routes[i]}`)
          );
        }
      });

      laws(`${told(row)} on ${place.name}: rank, form and gradients at birth`, () => {
        const base = tensor(kernel, 1), adapter = trained(row, place, base);
        const { lowRank } = rowOf(algorithm);
        if (lowRank && !adapter.dora) {
          const form = lowRankForm(adapter),
            unscaled = rowOf(algorithm).algorithm.delta(adapter.factors);
          close(lora.delta(form), unscaled, "value", "lowRankForm");
          assert.ok(rankOf(unscaled) <= outputs(form.down.shape), "rank of ΔW");
          const births = options.init ? 2 : 1;
          if (/^(dy)?lora$/.test(algorithm)) assert.is(form.up.shape[0], births * rank);
          if (algorithm === "loha") assert.is(form.up.shape[0], rank ** 2);
        }

        const newborn = born(row, place, base);
        const zero = (adapter: Adapter) => {
          const size = tf.max(tf.abs(change(adapter, base))).dataSync()[0];
          return size <= 1e-6;
        };
        const inputs = trainable(newborn), names = inputs.map(([name]) => name);
        const given = (all: tf.Tensor[]) =>
          mapFactors(newborn, (own, name) => all[names.indexOf(name)] ?? own);
        const gradients = tf.grads((...all) => change(given(all), base))(
          inputs.map(([, factor]) => factor),
          tensor(change(newborn, base).shape, 7),
        );
        inputs.forEach(([name, factor], i) => {
          const alone = mapFactors(
            newborn,
            (own, other) => other === name ? tf.add(factor, tensor(factor.shape, 8)) : own,
          );
          const size = Math.max(...gradients[i].dataSync().map(Math.abs));
          assert.is(size <= 1e-6, zero(alone), `gradient of ${name} at birth is ${size}`);
        });
        const still = inputs.filter((_, i) => tf.max(tf.abs(gradients[i])).dataSync()[0] <= 1e-6);
        for (const [name, factor] of options.init ? [] : inputs) {
          const isZero = tf.max(tf.abs(factor)).dataSync()[0] === 0;
          const beside = still.some(([other]) => other !== name);
          assert.is(bornZero(newborn, name), isZero && beside, `${name} is born zero`);
        }
      });

      laws(`${told(row)} on ${place.name}: open(save()) has the same W′`, async () => {
        const base = tensor(kernel, 1), adapter = trained(row, place, base);
        const { adapters, leftovers } = await open(await encode(new Map([["layer", adapter]])));
        const back = adapters.get("layer")!;
        assert.is(leftovers.size, 0);
        assert.equal([...back.shape], [...kernel]);
        assert.is(back.algorithm, algorithm);
        const before = merge(base, adapter, { strength: 0.7 });
        close(merge(base, back, { strength: 0.7 }), before, "value");
        const bias = tensor([outputs(kernel)], 6);
        close(mergeBias(bias, back)!, mergeBias(bias, adapter)!, "value", "b′");
        dispose(back);
      });
    }
  }
  laws("the same seed gives the same factors, another seed others", () => {
    const place: Place = { name: "", kernel: [3, 3, 8, 12], x: [], geometry: {} };
    const random = ["lora", "loha", "lokr", "dylora", "glora"];
    for (const [algorithm, rank, options] of ADAPTERS.filter((row) => canBe(row, place))) {
      const [one, same, other] = [5, 5, 6].map((seed) =>
        tensors(born([algorithm, rank, { ...options, seed }], place, tensor(place.kernel, 1)))
          .map(([, factor]) => [...factor.dataSync()])
      );
      assert.equal(one, same);
      const drawn = random.includes(algorithm) && !options.init;
      assert.is(JSON.stringify(one) === JSON.stringify(other), !drawn);
    }
  });

  laws("dylora truncated to b is its forward at b", () => {
    const place = PLACES.find(({ name }) => name === "3×3 same")!;
    const base = tensor(place.kernel, 1), x = tensor(place.x, 2);
    const adapter = trained(["dylora", 4, { block: 2, alpha: 3 }], place, base);
    for (const b of [2, 4]) {
      const at = view(adapter, { active: b })!, layer = { kernel: base, geometry: place.geometry };
      const y = forward(x, layer, [{ view: at, strength: 1 }], "bypass");
      close(convolve(x, merge(base, truncate(adapter, b)), place.geometry), y);
    }
    assert.throws(() => truncate(adapter, 3), /multiple of its block 2/);
  });

  laws("dylora trains the last block drawn, on the sum of those before", () => {
    const place = PLACES.find(({ name }) => name === "3×3 same")!;
    const base = tensor(place.kernel, 1), x = tensor(place.x, 2);
    const adapter = trained(["dylora", 6, { block: 2 }], place, base);
    const factors = tensors(adapter);
    for (const route of ["bypass", "rebuild", "hybrid"] as const) {
      const step = () => {
        const drawn = view(adapter, { training: true, random: () => 0.5 })!;
        const layer = { kernel: base, geometry: place.geometry };
        return forward(x, layer, [{ view: drawn, strength: 1 }], route);
      };
      const all = factors.map(([, factor]) => factor), none = true;
      const { grads, value } = tf.engine().gradients(step, all, tf.ones([2, 6, 5, 6]), none);
      const trained = factors.filter((_, i) => grads[i] != null).map(([name]) => name);
      assert.equal(trained, ["down1", "up1"], route);
      const at = truncate(adapter, 4);
      close(value, convolve(x, merge(base, at), place.geometry), "value", route);
    }
  });

  laws.run();
}
