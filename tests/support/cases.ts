/** The single-layer cases of a folder of fixtures: what LyCORIS computed, and whether this library does. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { type Adapter, mapFactors, tensors } from "../../lib/adapter/adapter.ts";
import { conform } from "../../lib/adapter/conform.ts";
import { forward } from "../../lib/adapter/forward.ts";
import { adapted, adaptedBias } from "../../lib/adapter/merge.ts";
import { hasHybrid, type Route } from "../../lib/adapter/route.ts";
import { view } from "../../lib/adapter/view.ts";
import * as dylora from "../../lib/algorithms/dylora.ts";
import type { Triplets } from "../../lib/algorithms/algorithm.ts";
import { type AlgorithmName, ALGORITHMS } from "../../lib/algorithms/table.ts";
import { toFloat32 } from "../../lib/files/floats.ts";
import * as kohya from "../../lib/files/kohya.ts";
import { parse, type TensorView } from "../../lib/files/safetensors.ts";
import type { Geometry } from "../../lib/tensor/geometry.ts";
import { distance, TOLERANCE, type Tolerance } from "./close.ts";

/** One fixture: its failures, none when it passed, undefined when its algorithm does not exist. */
export interface Verdict {
  name: string;
  failures?: string[];
}

/** A case as `cases.json` tells it. */
interface Case {
  id: string;
  algo: string;
  layer: {
    type: string;
    stride?: number[];
    padding?: number[];
    dilation?: number[];
    groups?: number;
    eps?: number;
  };
  options: Record<string, number | boolean | string>;
  multiplier2: number;
  training: boolean;
  mode: "rebuild" | "bypass";
  dylora_block?: number;
}

/** Reads every `*.cases.json` of a folder and checks its cases. */
export async function* cases(folder: string): AsyncGenerator<Verdict> {
  for (
    const file of (await readdir(folder)).filter((file) => file.endsWith(".cases.json")).sort()
  ) {
    const { cases } = JSON.parse(await readFile(join(folder, file), "utf8")) as { cases: Case[] };
    const stem = file.slice(0, -".cases.json".length);
    const { tensors } = parse(new Uint8Array(await readFile(join(folder, `${stem}.safetensors`))));
    for (const one of cases) {
      const own = new Map<string, TensorView>();
      for (const [key, tensor] of tensors) {
        if (key.startsWith(`${one.id}/`)) own.set(key.slice(one.id.length + 1), tensor);
      }
      const known = nameOf(one) in ALGORITHMS;
      yield { name: one.id, failures: known ? check(one, own) : undefined };
    }
  }
}

/** LyCORIS's name of the algorithm as this library's. */
const nameOf = ({ algo }: Case) => (algo === "diag-oft" ? "oft" : algo);

const load = ({ dtype, shape, bytes }: TensorView) =>
  tf.tensor(toFloat32(dtype, bytes), [...shape]);

/** NCHW → NHWC, of any number of dimensions; linear activations have their channels last already. */
function channelsLast(x: tf.Tensor, flat: boolean): tf.Tensor {
  if (flat) return x;
  return tf.transpose(x, [0, ...x.shape.slice(2).map((_, axis) => axis + 2), 1]);
}

/** x̂: what a normalization makes of its input `[N, ...space, C]` before γ and β. */
function normalized(x: tf.Tensor, { type, groups = 1, eps }: Case["layer"]): tf.Tensor {
  const [N, ...rest] = x.shape, C = rest[rest.length - 1];
  const split = type === "groupnorm"
    ? tf.reshape(x, [N, -1, groups, C / groups])
    : tf.reshape(x, [-1, 1, 1, C]);
  const { mean, variance } = tf.moments(split, [1, 3], true);
  return tf.reshape(tf.div(tf.sub(split, mean), tf.sqrt(tf.add(variance, eps!))), x.shape);
}

/** OIHW → HWIO, of any number of dimensions. */
function kernelOf(weight: tf.Tensor): tf.Tensor {
  if (weight.rank === 1) return weight;
  return tf.transpose(weight, [...weight.shape.slice(2).map((_, axis) => axis + 2), 1, 0]);
}

/** The tensors of a group of keys, by the rest of the key. */
function group(own: ReadonlyMap<string, TensorView>, prefix: string): Record<string, tf.Tensor> {
  const found = [...own].filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(found.map(([key, view]) => [key.slice(prefix.length), load(view)]));
}

/** An adapter from tensors named as LyCORIS saves them, with the options it was made with. */
function adapterOf(one: Case, torch: kohya.Torch, kernel: tf.Tensor): Adapter {
  const { scalar, ...saved } = torch, { options } = one, rank = Number(options.lora_dim ?? 0);
  const read = conform(kohya.read(saved)!, kernel.shape);
  const block = Number(options.block_size ?? 0);
  return {
    ...read,
    algorithm: nameOf(one) as AlgorithmName,
    rank: read.factors.blocks ? read.rank : rank,
    alpha: Number(options.alpha ?? 1) || rank,
    rankScale: options.rs_lora ? "alpha/sqrt(r)" : "alpha/r",
    factors: {
      ...(block
        ? dylora.split(read.factors as { down: tf.Tensor; up: tf.Tensor }, block)
        : read.factors),
      ...(scalar && { scalar }),
    },
    dropouts: {
      dropout: 0,
      rankDropout: Number(options.rank_dropout ?? 0),
      rankDropoutScale: Boolean(options.rank_dropout_scale),
      moduleDropout: 0,
    },
    ...(block && { block }),
    ...(options.sig_type && { triplets: options.sig_type as Triplets }),
  };
}

/** What differs from what LyCORIS computed, a line each. */
function check(one: Case, own: ReadonlyMap<string, TensorView>): string[] {
  return tf.tidy(() => {
    const { type } = one.layer, norm = type.endsWith("norm"), failures: string[] = [];
    const flat = type === "linear" || type === "layernorm";
    const rotates = nameOf(one).endsWith("oft");
    const compare = (what: string, actual: tf.Tensor, expected: tf.Tensor, by: Tolerance) => {
      const rotation = by === "value" ? "rotation" : "rotationGradient";
      const error = distance(actual.dataSync(), expected.dataSync());
      if (!(error <= TOLERANCE[rotates ? rotation : by])) {
        failures.push(`${what} is off by ${error.toExponential(2)}`);
      }
    };
    const get = (key: string) => load(own.get(key)!);
    const kernel = kernelOf(get("base.weight")), x = channelsLast(get("x"), flat);
    const cotangent = channelsLast(get("cotangent"), flat);
    const bias = own.has("base.bias") ? get("base.bias") : undefined;
    const { stride, padding, dilation, groups } = one.layer;
    const geometry: Geometry = flat || norm ? {} : {
      strides: stride,
      padding: padding!.map((zeros) => [zeros, zeros] as const),
      dilations: dilation,
      groups,
    };
    const saved = group(own, "adapter/"), raw = group(own, "raw/");
    const adapter = adapterOf(one, { ...saved, ...raw }, kernel);

    // what LyCORIS drew in its step, drawn again; a mask leaves the first ranks
    const active = own.has("mask") ? tf.sum(get("mask")).dataSync()[0] : undefined;
    const rand = own.has("rand") ? get("rand").dataSync() : [], block = one.dylora_block;
    const pass = (adapter: Adapter) => {
      let drawn = 0;
      const random = () =>
        block === undefined ? rand[drawn++] : (block + 0.5) / (adapter.rank / adapter.block!);
      const training = one.training || block !== undefined;
      return view(adapter, { training, random, active, dropRanks: one.mode === "bypass" })!;
    };
    const names = tensors(adapter).map(([name]) => name);
    const given = (values: tf.Tensor[]): Adapter => {
      const named = new Map(names.map((name, i) => [name, values[i]]));
      return mapFactors(adapter, (_, name) => named.get(name)!);
    };
    const run = (route: Route, strength: number) => (x: tf.Tensor, ...values: tf.Tensor[]) =>
      forward(
        norm ? normalized(x, one.layer) : x,
        { kernel, geometry, bias },
        [{ view: pass(given(values)), strength }],
        route,
      );

    const expectedOf = gradients(one, own, saved, raw, kernel);
    const routes: Route[] = one.mode === "bypass" && one.training
      ? ["bypass"]
      : ["bypass", "rebuild"];
    if (hasHybrid(adapter) && (groups ?? 1) === 1) routes.push("hybrid");
    const inputs = [x, ...tensors(adapter).map(([, tensor]) => tensor)];
    for (const route of routes) {
      const out = (strength: number) => run(route, strength)(inputs[0], ...inputs.slice(1));
      compare(`out by ${route}`, out(1), channelsLast(get("out"), flat), "value");
      const other = channelsLast(get("out_mult"), flat);
      compare(`out_mult by ${route}`, out(one.multiplier2), other, "value");
      // a tensor that takes no part, as DyLoRA's other blocks, has no gradient: zero
      const none = true, forwards = () => run(route, 1)(inputs[0], ...inputs.slice(1));
      const grads = tf.engine().gradients(forwards, inputs, cotangent, none).grads
        .map((grad, i) => grad ?? tf.zerosLike(inputs[i]));
      compare(`grad/x by ${route}`, grads[0], channelsLast(get("grad/x"), flat), "gradient");
      names.forEach((name, i) => {
        const expected = expectedOf(name);
        compare(`grad/${name} by ${route}`, grads[i + 1], expected, "gradient");
      });
    }
    if (own.has("delta_bias")) {
      const delta = tf.sub(adaptedBias(bias, pass(adapter), 1)!, bias!);
      compare("delta_bias", delta, get("delta_bias"), "value");
    }
    if (own.has("delta")) {
      const delta = tf.sub(adapted(kernel, pass(adapter), 1), kernel);
      compare("delta", delta, kernelOf(get("delta")), "value");
    }
    return failures as unknown as tf.TensorContainer;
  }) as unknown as string[];
}

/** The expected gradient of each factor: read through the dialect as the factors are, for it only rearranges. */
function gradients(
  one: Case,
  own: ReadonlyMap<string, TensorView>,
  saved: kohya.Torch,
  raw: kohya.Torch,
  kernel: tf.Tensor,
): (name: string) => tf.Tensor {
  const { scalar: _scalar, ...values } = { ...saved, ...raw }, grads = group(own, "grad/");
  const told = ["alpha", "on_input"];
  const torch = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      grads[name] ?? (told.includes(name) ? value : tf.zerosLike(value)),
    ]),
  );
  if (grads.scalar) torch.scalar = grads.scalar;
  const arranged = adapterOf(one, torch, kernel);
  const found = new Map(tensors(arranged));
  return (name) => found.get(name)!;
}
