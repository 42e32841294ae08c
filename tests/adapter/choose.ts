import { readFileSync } from "node:fs";
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
} from "../../lib/adapter/adapter.ts";
import { bytesOf } from "../../lib/adapter/bytes.ts";
import { choose, chooseAll } from "../../lib/adapter/choose.ts";
import type { FittedWay } from "../../lib/adapter/choose_fit.ts";
import { choices, extract } from "../../lib/adapter/extract.ts";
import type { ExtractOptions } from "../../lib/adapter/extract/options.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { type Goal, type Way, ways } from "../../lib/adapter/ways.ts";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { matrix } from "../../lib/tensor/matrix.ts";
import { outputs, type Shape, show, size } from "../../lib/tensor/shape.ts";
import { svd } from "../../lib/tensor/svd.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import { lora } from "../../mod.ts";
import { leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { tensor } from "../support/trained.ts";

/** What is chosen, made: how many numbers it has, what a file of it takes, and the rank of its ΔW. */
function made({ settings }: Way, shape: Shape): { count: number; bytes: number; rank: number } {
  return tf.tidy(() => {
    const { algorithm, rank, ...options } = settings;
    const born = create(algorithm, shape, rank, options);
    let seed = 0;
    const random = mapFactors(born, ({ shape }) => tensor(shape, ++seed));
    const O = outputs(shape), numbers = delta(random).dataSync();
    const { s } = svd(matrix(size(shape) / O, O, Float64Array.from(numbers)));
    const told = {
      count: parameters(born),
      bytes: bytesOf(born, "f16"),
      rank: s.filter((value) => value > s[0] * 1e-5).length,
    };
    dispose(born);
    return told;
  });
}

const SHAPES: Shape[] = [[16, 16], [12, 30], [7, 11], [3, 3, 8, 12], [1, 1, 16, 8], [3, 4, 6]];
const choosing = suite("choose()");
leakless(choosing);

for (const shape of SHAPES) {
  choosing(`says what is there, of ${show(shape)}: numbers, bytes and the rank of ΔW`, () => {
    const most = Math.min(size(shape) / outputs(shape), outputs(shape));
    const goals: Goal[] = [1, 2, 5, most].map((rank) => ({ rank }));
    for (const goal of [...goals, { parameters: 100 }, { bytes: 400 }]) {
      for (const way of ways(shape, goal)) {
        const { count, bytes, rank } = made(way, shape), told = JSON.stringify([goal, way]);
        assert.is(count, way.parameters, told);
        assert.ok(bytes === way.bytes || way.settings.algorithm === "full", told);
        assert.is(rank, way.reach, told);
        if ("rank" in goal) assert.ok(rank >= goal.rank, told);
        if ("parameters" in goal) assert.ok(count <= goal.parameters, told);
        if ("bytes" in goal) {
          assert.ok(bytes <= goal.bytes || way.settings.algorithm === "full", told);
        }
      }
    }
  });
}

const matrixRank = (shape: Shape) => Math.min(size(shape) / outputs(shape), outputs(shape));

/** The rank that a product of factors of these shapes has in general. */
function generic({ algorithm, shape, factors }: Adapter): number {
  const { up, up1, down1, up2, w1, w2, down2, core2 } = factors, most = matrixRank(shape);
  if (algorithm === "full") return most;
  if (algorithm === "lora") return Math.min(up!.shape[0], most);
  if (algorithm === "loha") return Math.min(up1!.shape[0] ** 2, most);
  const small = w1?.shape ?? [down1!.shape[0], outputs(up1!.shape)];
  const inner = core2 ? [...core2.shape.slice(0, -2), down2!.shape[0]] : down2?.shape.slice(0, -1);
  const large = w2?.shape ?? [...inner!, outputs(up2!.shape)];
  const rank = (own: Shape, pair?: tf.Tensor) => Math.min(matrixRank(own), pair?.shape[0] ?? most);
  return rank(small, up1) * rank(large, up2);
}

/** Every setting there is, one by one: what it takes and what it reaches. */
function tried(shape: Shape): { parameters: number; reach: number }[] {
  const flags = [false, true], ranks = Array.from({ length: 12 }, (_, i) => i + 1);
  const rows: [AlgorithmName, number, AdapterOptions][] = [["full", 0, {}]];
  for (const rank of ranks) {
    for (const tucker of flags) {
      rows.push(["lora", rank, { tucker }], ["loha", rank, { tucker }]);
      for (const factor of [-1, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 30]) {
        for (const decomposeBoth of flags) {
          for (const unbalanced of flags) {
            for (const full of flags) {
              rows.push(["lokr", rank, { tucker, factor, decomposeBoth, unbalanced, full }]);
            }
          }
        }
      }
    }
  }
  return rows.map(([algorithm, rank, options]) => {
    const adapter = create(algorithm, shape, rank, options);
    const told = { parameters: parameters(adapter), reach: generic(adapter) };
    dispose(adapter);
    return told;
  });
}

for (const shape of [[12, 30], [3, 3, 8, 12]]) {
  choosing(`leaves nothing better in ${show(shape)}, of all settings tried one by one`, () => {
    const all = tried(shape);
    for (const rank of [1, 2, 3, 5, 7, 12]) {
      const enough = all.filter((one) => one.reach >= rank).map((one) => one.parameters);
      assert.is(choose(shape, { rank }).parameters, Math.min(...enough), `rank ${rank}`);
    }
    for (const parameters of [50, 60, 100, 150]) {
      const fits = all.filter((one) => one.parameters <= parameters).map((one) => one.reach);
      assert.is(choose(shape, { parameters }).reach, Math.max(...fits), `${parameters} parameters`);
    }
  });
}

choosing("chooses among what it is told, and refuses what none of it reaches", () => {
  assert.is(choose([64, 64], { rank: 9 }, { among: ["lora", "loha"] }).settings.algorithm, "loha");
  assert.throws(
    () => choose([8, 4], { rank: 5 }),
    /kernel 8×4 as its rank is <= 4: current rank is 5/,
  );
  assert.throws(
    () => choose([8, 4], { parameters: 11 }, { among: ["lora"] }),
    /the least takes 12 parameters: current parameters is 11/,
  );
  assert.throws(() => choose([8, 4], { rank: 0 }), /at least 1: current rank is 0/);
  assert.throws(() => choose([8, 4], {} as Goal), /the goal must be one of rank/);
});

choosing.run();

/** The shapes of an adapter's factors. */
const shapesOf = ({ factors }: Adapter) =>
  Object.fromEntries(Object.entries(factors).map(([name, factor]) => [name, factor?.shape]));

/** Every fit of the algorithms that a spectrum tells, and of Tucker cores, made one by one. */
function fitted(base: tf.Tensor, tuned: tf.Tensor): FittedWay[] {
  const { shape } = base, most = Math.min(...shape.slice(-2)), all: ExtractOptions[] = [];
  const ranks = Array.from({ length: most }, (_, i) => i + 1);
  for (const rank of ranks) {
    all.push({ rank, whole: "never" });
    if (shape[0] > 1 && shape.length > 2) all.push({ rank, whole: "never", tucker: true });
  }
  for (const factor of [-1, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 40]) {
    const options = { algorithm: "lokr", factor } as const;
    all.push(
      ...choices(base, tuned, options).choices.map((own) => ({ ...options, ...own.options })),
    );
  }
  all.push({ algorithm: "ia3", onInput: true }, { algorithm: "ia3", onInput: false });
  return all.map((extraction) => {
    const { adapter, error } = extract(base, tuned, extraction)!;
    const told = { extraction, error, parameters: parameters(adapter) } as FittedWay;
    dispose(adapter);
    return told;
  });
}

if (hasGolden) {
  const { tensors } = parse(new Uint8Array(readFileSync(golden("extract_dev.safetensors"))));
  const layers = [...tensors.keys()].filter((key) => key.endsWith("/base"))
    .map((key) => key.split("/")[0]);
  const kernel = (key: string) => {
    const { dtype, shape, bytes } = tensors.get(key)!;
    const k = shape.slice(2).map((_, axis) => axis + 2);
    return tf.transpose(tf.tensor(toFloat32(dtype, bytes), [...shape]), [...k, 1, 0]);
  };
  const fitting = suite("choose() for a difference");
  leakless(fitting);

  for (const layer of layers) {
    fitting(
      `says what the fit of ${layer} is, and leaves none that is within the error and smaller`,
      () => {
        const base = kernel(`${layer}/base`), tuned = kernel(`${layer}/tuned`);
        const all = fitted(base, tuned);
        for (const error of [0.9, 0.4, 0.1]) {
          const way = choose({ base, tuned }, { error }),
            { algorithm, rank, ...own } = way.settings;
          const { adapter, error: measured } = extract(base, tuned, way.extraction)!;
          const told = JSON.stringify(way);
          assert.ok(measured <= error && measured === way.error, told);
          assert.is(parameters(adapter), way.parameters, told);
          assert.is(bytesOf(adapter, "f16"), way.bytes, told);
          const born = create(algorithm, base.shape, rank, own);
          assert.equal(shapesOf(born), shapesOf(adapter), told);
          for (const adapters of [born, adapter]) dispose(adapters);
          const smaller = all.filter((one) =>
            one.error <= error && one.parameters < way.parameters
          );
          assert.equal(smaller, [], told);
        }
      },
    );

    fitting(`reaches in the fit of ${layer} the ranks that it claims for the shape alone`, () => {
      const base = kernel(`${layer}/base`),
        tuned = kernel(`${layer}/tuned`),
        O = outputs(base.shape);
      for (const rank of [1, 3, 6]) {
        for (const way of ways(base.shape, { rank }, { among: ["lora", "loha"] })) {
          const { settings: { algorithm, rank: own, tucker }, parameters: claimed, reach } = way;
          if (algorithm === "loha" && tucker) continue; // which is not extracted
          const options = {
            algorithm,
            rank: own,
            tucker,
            whole: "never",
            restarts: 0,
            sweeps: 12,
          } as const;
          const { adapter } = extract(base, tuned, options)!, numbers = delta(adapter).dataSync();
          const { s } = svd(matrix(numbers.length / O, O, numbers));
          assert.is(s.filter((value) => value > 1e-5 * s[0]).length, reach, JSON.stringify(way));
          assert.is(parameters(adapter), claimed);
          dispose(adapter);
        }
      }
    });
  }

  fitting(
    "takes a difference by itself, a LoHa where it is asked for, and refuses what is none",
    () => {
      const base = kernel("lin/base"), tuned = kernel("lin/tuned"), change = tf.sub(tuned, base);
      const alone = choose(change, { error: 0.5 }), both = choose({ base, tuned }, { error: 0.5 });
      assert.is(alone.parameters, both.parameters);
      const [loha, ...others] = ways(change, { error: 0.8 }, { among: ["loha"] });
      assert.is(others.length, 0);
      assert.ok(loha.settings.algorithm === "loha" && loha.error <= 0.8);
      assert.throws(
        () => choose({ base, tuned: base }, { error: 0.5 }),
        /must differ: current ΔW is 0/,
      );
      assert.throws(() => choose(change, { error: 1 }), /below 1: current error is 1/);
      assert.throws(
        () => choose(change, { error: 0.01 }, { among: ["ia3"] }),
        /one of ia3 must fit within the error: current error is 0.01/,
      );
      assert.throws(() => choose(tf.ones([4]), { error: 0.1 }), /current shape is 4/);
    },
  );

  fitting.run();
}

const choosingAll = suite("chooseAll()");
leakless(choosingAll);

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.conv2d({ name: "conv", inputShape: [6, 6, 8], filters: 16, kernelSize: 3 }),
      tf.layers.conv2d({ name: "point", filters: 12, kernelSize: 1 }),
      tf.layers.flatten(),
      tf.layers.dense({ name: "head", units: 3 }),
    ],
  });
const shapes = new Map<string, Shape>([
  ["conv", [3, 3, 8, 16]],
  ["point", [1, 1, 16, 12]],
  ["head", [192, 3]],
]);

for (const goal of [{ rank: 8 }, { parameters: 700 }, { bytes: 3000 }] as Goal[]) {
  for (const among of [undefined, ["lora", "full"]] as const) {
    const words = `${JSON.stringify(goal)}${among ? ` among ${among}` : ""}`;
    choosingAll(`gives lora.model what to attach for ${words}`, () => {
      const model = network(), chosen = chooseAll(shapes, goal, { among });
      const all = lora.model(model, 1, { overrides: chosen.overrides });
      assert.is(all.parameters, chosen.parameters);
      if ("parameters" in goal) assert.ok(chosen.parameters <= goal.parameters);
      if ("bytes" in goal) assert.ok(chosen.bytes <= goal.bytes);
      if ("rank" in goal) {
        assert.equal([...chosen.ways.values()].map(({ reach }) => reach >= 8), [true, true, false]);
      }
      all.detach();
      model.dispose();
    });
  }
}

choosingAll(
  "takes what is within the error of every layer that differs, and lora.model takes that",
  () => {
    const model = network(),
      layers = ["conv", "point", "head"].map((name, seed) => {
        const [base] = model.getLayer(name).getWeights();
        const change = name === "point" ? 0 : tf.mul(tensor(base.shape, seed), 0.1);
        return [name, { base, tuned: tf.add(base, change) }] as const;
      });
    const chosen = chooseAll(new Map(layers), { error: 0.3 });
    assert.equal([...chosen.ways.keys()], ["conv", "head"]);
    const where = [...chosen.ways.keys()];
    const all = lora.model(model, 1, { where, overrides: chosen.overrides });
    assert.is(all.parameters, chosen.parameters);
    all.detach();
    model.dispose();
  },
);

choosingAll("gives all layers the largest rank that they can have together", () => {
  const among = ["lora"] as const,
    { ways, parameters } = chooseAll(shapes, { parameters: 700 }, { among });
  assert.equal([...ways.values()].map(({ reach }) => reach), [2, 2, 2]);
  const more = chooseAll(shapes, { rank: 3 }, { among });
  assert.ok(parameters <= 700 && more.parameters > 700);
  assert.throws(
    () => chooseAll(shapes, { parameters: 9 }),
    /3 layers as the least takes \d+ parameters/,
  );
});

choosingAll.run();
