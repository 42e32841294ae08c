/** The laws that every algorithm keeps: algorithms and options × kernels × engines. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Adapter,
  type AdapterOptions,
  create,
  dispose,
  mapFactors,
  parameters,
  tensors,
} from "../lib/adapter/adapter.ts";
import { forward } from "../lib/adapter/forward.ts";
import { lowRankForm, truncate } from "../lib/adapter/low_rank.ts";
import { delta, merge, unmerge } from "../lib/adapter/merge.ts";
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
];

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);

/** A new adapter of a place; its base where it asks for one. */
function born([algorithm, rank, options]: Row, { kernel }: Place, base: tf.Tensor): Adapter {
  return create(algorithm, kernel, rank, options.dora ? { ...options, base } : options);
}

/** The same with factors that no longer are as born. */
function trained(row: Row, place: Place, base: tf.Tensor): Adapter {
  const adapter = born(row, place, base);
  return mapFactors(adapter, (factor, name) => {
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

const present = (await engine.list()).filter(({ available }) => available === true);
for (const { name } of present) {
  const laws = suite(`laws on ${name}`);
  laws.before(async () => void (await engine.use(name)));
  leakless(laws);

  for (const row of ADAPTERS) {
    const [algorithm, rank, options] = row;
    const places = PLACES.filter(({ kernel }) => options.tucker === true ? isWide(kernel) : true);
    for (const place of places) {
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
          close(merged, tf.add(base, tf.mul(added, 0.7)), "value", "W + s · delta");
          close(unmerge(merged, adapter, { strength: 0.7 }), base, "value", "unmerge(merge(W))");
        }
        const { factors } = adapter, { algorithm: { bypass, delta: unscaled } } = rowOf(algorithm);
        const by = convolve(input, unscaled(factors, base), geometry);
        close(bypass(factors, input, geometry, { base }), by, "value", "bypass");

        const dy = tensor(by.shape, 5), bias = tensor([outputs(kernel)], 6);
        const expected = tf.add(convolve(input, merged, geometry), bias);
        const routes: Route[] = ["bypass", "rebuild"];
        if (hasHybrid(adapter) && (geometry.groups ?? 1) === 1) routes.push("hybrid");
        const inputs = [input, ...tensors(adapter).map(([, factor]) => factor)];
        const run = (route: Route) => (x: tf.Tensor, ...all: tf.Tensor[]) => {
          const names = tensors(adapter).map(([name]) => name);
          const given = mapFactors(adapter, (_, name) => all[names.indexOf(name)]);
          const parts = [{ view: view(given)!, strength: 0.7 }];
          return forward(x, { kernel: base, geometry, bias }, parts, route);
        };
        const gradients = routes.map((route) => {
          close(run(route)(inputs[0], ...inputs.slice(1)), expected, "value", route);
          return tf.grads((...all) => run(route)(all[0], ...all.slice(1)))(inputs, dy);
        });
        for (const [i, others] of gradients.entries()) {
          others.forEach((gradient, j) =>
            close(gradient, gradients[0][j], "gradient", `gradient ${j} by ${routes[i]}`)
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
          if (algorithm === "lora" || algorithm === "dylora") assert.is(form.up.shape[0], rank);
          if (algorithm === "loha") assert.is(form.up.shape[0], rank ** 2);
        }

        const newborn = born(row, place, base);
        const zero = (adapter: Adapter) => {
          const size = tf.max(tf.abs(delta(adapter, base))).dataSync()[0];
          return size <= 1e-6;
        };
        const inputs = tensors(newborn), names = inputs.map(([name]) => name);
        const given = (all: tf.Tensor[]) =>
          mapFactors(newborn, (_, name) => all[names.indexOf(name)]);
        const gradients = tf.grads((...all) => delta(given(all), base))(
          inputs.map(([, factor]) => factor),
          tensor(kernel, 7),
        );
        inputs.forEach(([name, factor], i) => {
          const alone = mapFactors(
            newborn,
            (own, other) => other === name ? tf.add(factor, tensor(factor.shape, 8)) : own,
          );
          const size = tf.max(tf.abs(gradients[i])).dataSync()[0];
          assert.is(size <= 1e-6, zero(alone), `gradient of ${name} at birth is ${size}`);
        });
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
        dispose(back);
      });
    }
  }
  laws("the same seed gives the same factors, another seed others", () => {
    for (const [algorithm, rank, { dora: _, ...options }] of ADAPTERS) {
      const [one, same, other] = [5, 5, 6].map((seed) =>
        tensors(create(algorithm, [3, 3, 8, 12], rank, { ...options, seed }))
          .map(([, factor]) => [...factor.dataSync()])
      );
      assert.equal(one, same);
      if (algorithm !== "ia3") assert.not.equal(one, other);
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
