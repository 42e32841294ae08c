/**
 * Adapters on a layer of tf.layers: attached, used, merged, detached.
 *
 * The layer's `call` is wrapped, so that the sum comes before its activation, and the factors become weights of
 * the layer, so that `fit` trains them and optimizers remember them. The layer's own weights are frozen and
 * never written to but by `merge`.
 */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, checkOptions, mapFactors } from "../adapter/adapter.ts";
import { rowOf } from "../algorithms/table.ts";
import { conform } from "../adapter/conform.ts";
import { forward, rebuilt, rebuiltBias } from "../adapter/forward.ts";
import { delta, merge, mergeBias } from "../adapter/merge.ts";
import { cheapest, costOf, hasHybrid, type Route, ROUTES } from "../adapter/route.ts";
import { generator } from "../tensor/random.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Shape } from "../tensor/shape.ts";
import { anatomy, channels, type Host, type LayerVariable, takes } from "./host.ts";
import { forget, keptKernel } from "./kept.ts";
import { teach } from "./models.ts";
import {
  type Attached,
  factorsOf,
  type Guest,
  partsOf,
  type Site,
  sites,
  touched,
} from "./site.ts";

/** How an adapter sits on a layer. */
export interface AttachOptions {
  /** s in W′ = W + s · scale · ΔW; may be changed at any time; default 1 */
  strength?: number;
  /** force one of the three routes; default: the least counted work of each pass */
  route?: Route;
  /** of what a training step draws (dropouts, DyLoRA's block); default 0 */
  seed?: number;
}

/** A zero that hangs on a factor: tf.layers cannot take a step in which no variable has a gradient. */
function anchor(y: tf.Tensor, site: Site): tf.Tensor {
  const least = factorsOf(site).reduce((a, b) => (b.size < a.size ? b : a));
  return tf.add(y, tf.mul(tf.sum(least), 0));
}

/** The layer's `call` with its adapters: computed here where it is known how the kernel moves. */
function adaptedCall(layer: tf.layers.Layer, own: Host["call"]): Host["call"] {
  const { host, variable, bias, shape, geometry, see } = anatomy(layer);
  if (!geometry) {
    return (inputs, options) => tf.tidy(() => substituted(layer, own, inputs, options));
  }
  return (inputs, options) =>
    tf.tidy(() => {
      const site = sites.get(layer)!, training = options?.training === true;
      const x = channels.last(Array.isArray(inputs) ? inputs[0] : inputs, host);
      const parts = partsOf(site, training);
      const forced = site.guests.find(({ route }) => route)?.route;
      const adapters = parts.map(({ view }) => view.adapter);
      const pass = { kernel: shape, geometry, x: x.shape, training };
      const route = forced ?? (parts.length > 0 ? cheapest(adapters, pass) : "bypass");
      const kernel = see(variable.read()), offset = bias?.read();
      const W = keptKernel(site, training, variable.read(), () => rebuilt(kernel, parts));
      const y = W
        ? forward(x, { kernel: W, geometry, bias: rebuiltBias(offset, parts) }, [], route)
        : forward(x, { kernel, geometry, bias: offset }, parts, route);
      const z = training && parts.length === 0 ? anchor(y, site) : y;
      return channels.back(host.activation ? host.activation.apply(z) : z, host);
    });
}

/** The layer's own `call`, with W′ and b′ in the place of its variables. */
function substituted(
  layer: tf.layers.Layer,
  call: Host["call"],
  inputs: tf.Tensor | tf.Tensor[],
  options: Record<string, unknown>,
): tf.Tensor {
  const { host, kind, variable, bias, see, own } = anatomy(layer), site = sites.get(layer)!;
  const training = options?.training === true, parts = partsOf(site, training);
  const make = () => own(rebuilt(see(variable.read()), parts));
  const kernel = keptKernel(site, training, variable.read(), make) ??
    (parts.length > 0 ? make() : variable.read());
  const offset = rebuiltBias(bias?.read(), parts);
  const variables = host as unknown as Record<string, LayerVariable>;
  const instead = (original: LayerVariable, value: tf.Tensor): LayerVariable =>
    Object.create(original, { read: { value: () => value } });
  try {
    variables[kind.kernel] = instead(variable, kernel);
    if (bias && offset) variables[kind.bias!] = instead(bias, offset);
    // a batch normalization whose base is frozen goes on normalizing by what it has learnt
    const still = kind.family === "norm" ? { training: false } : {};
    const y = call.call(host, inputs, { ...options, ...still }), one = Array.isArray(y) ? y[0] : y;
    return training && parts.length === 0 ? anchor(one, site) : one;
  } finally {
    variables[kind.kernel] = variable;
    if (bias) variables[kind.bias!] = bias;
  }
}

function refuse(adapter: Adapter, layer: tf.layers.Layer, rule: string, current: string): never {
  throw new TypeError(
    `Cannot attach ${adapter.algorithm} to "${layer.name}" as ${rule}: current ${current}`,
  );
}

/** Checks all that `attach` would refuse, and changes nothing. */
export function checkAttach(
  layer: tf.layers.Layer,
  adapter: Adapter,
  { route }: AttachOptions = {},
): void {
  const { kind, bias, shape, geometry } = anatomy(layer);
  if (!takes(kind, adapter.algorithm)) {
    refuse(
      adapter,
      layer,
      "norm is for normalizations, and they for norm",
      `class is ${layer.getClassName()}`,
    );
  }
  tf.tidy(() => void conform(adapter, shape));
  if (adapter.factors.bias && !bias) {
    refuse(adapter, layer, "its bias is for a layer that has one", "layer has none");
  }
  const site = sites.get(layer);
  if (site?.guests.some(({ source }) => source === adapter)) {
    refuse(
      adapter,
      layer,
      "an adapter sits on a layer once",
      "adapter is attached, detach it first",
    );
  }
  if (route === undefined) return;
  if (!ROUTES.includes(route)) {
    refuse(adapter, layer, `route is ${ROUTES.join(", ")}`, `route is ${route}`);
  }
  if (!geometry && route !== "rebuild") {
    refuse(
      adapter,
      layer,
      "the layer computes by itself, from W′",
      `route is ${route}, use rebuild`,
    );
  }
  const alone = !site && (geometry?.groups ?? 1) === 1;
  if (route === "hybrid" && !(alone && hasHybrid(adapter))) {
    refuse(
      adapter,
      layer,
      "the hybrid route is for one LoRA, DyLoRA, LoHa or (IA)^3 without dropout or groups",
      "route is hybrid, use bypass or rebuild",
    );
  }
}

/**
 * Makes the layer's own weights untrainable, whether or not the layer was frozen before, and wraps its call.
 *
 * They are moved to the list of those that never train: `compile` of a Sequential sets the flags of the others.
 * Among the layer's weights they stay the first, so that `layer.getWeights()[0]` is the kernel as before.
 */
function occupy(layer: tf.layers.Layer, host: Host): Site {
  const own = [...host._trainableWeights], others = [...host._nonTrainableWeights];
  const flags = own.map(({ trainable }) => trainable);
  const site: Site = { guests: [], trainable: host.trainable_, own, others, flags };
  for (const weight of own) weight.trainable = false;
  host._trainableWeights = [];
  host._nonTrainableWeights = [...own, ...others];
  host.trainable_ = true;
  sites.set(layer, site);
  touched.add(layer);
  host.call = adaptedCall(layer, host.call);
  const dispose = layer.dispose;
  layer.dispose = () => {
    forget(site);
    return dispose.call(layer);
  };
  const weights = { get: () => [...own, ...others, ...host._trainableWeights], configurable: true };
  Object.defineProperty(host, "weights", weights);
  return site;
}

/** Gives the layer its own call and its own trainable weights back. */
function vacate(layer: tf.layers.Layer, host: Host, site: Site): void {
  delete (host as { call?: unknown }).call;
  delete (layer as { dispose?: unknown }).dispose;
  delete (host as { weights?: unknown }).weights;
  site.own.forEach((weight, i) => weight.trainable = site.flags[i]);
  host._trainableWeights = site.own;
  host._nonTrainableWeights = site.others;
  host.trainable_ = site.trainable;
  sites.delete(layer);
}

/**
 * Puts an adapter on a layer, on top of those it has.
 *
 * The adapter's tensors are copied into variables of the layer and stay the caller's.
 *
 * @throws {TypeError} for a layer of another kind or not built, an adapter of another shape, or one that is
 * on the layer already; nothing is changed then
 */
export function attach(
  layer: tf.layers.Layer,
  adapter: Adapter,
  options: AttachOptions = {},
): Attached {
  checkAttach(layer, adapter, options);
  teach();
  const { host, variable, bias, shape, see, own } = anatomy(layer);
  const site = sites.get(layer) ?? occupy(layer, host);
  const variables: LayerVariable[] = [], kept: tf.Tensor[] = [];
  const { frozen = [] } = rowOf(adapter.algorithm);
  const add = (tensor: tf.Tensor, name: string) => {
    if (frozen.includes(name)) {
      const own = tf.keep(tf.clone(tensor));
      kept.push(own);
      return own;
    }
    const initializer = { apply: () => tf.clone(tensor) };
    let unique = `${layer.name}/${adapter.algorithm}_${name}`;
    for (let n = 2; host._addedWeightNames.includes(unique); n++) {
      unique = `${layer.name}/${adapter.algorithm}${n}_${name}`;
    }
    const added = host.addWeight(
      unique,
      tensor.shape,
      "float32",
      initializer,
      undefined,
      true,
      undefined,
      () => initializer,
    );
    variables.push(added);
    return added.read();
  };
  const dropouts = { ...adapter.dropouts };
  const live: Adapter = { ...tidy(() => mapFactors(conform(adapter, shape), add)), dropouts };

  const detach = ({ keep = false } = {}): Adapter | undefined => {
    const place = site.guests.indexOf(self);
    if (place < 0) refuse(adapter, layer, "an adapter is detached once", "adapter is not attached");
    const value = keep ? mapFactors(live, (tensor) => tf.clone(tensor)) : undefined;
    forget(site);
    site.guests.splice(place, 1);
    host._trainableWeights = host._trainableWeights.filter((weight) => !variables.includes(weight));
    const names = variables.map(({ originalName }) => originalName);
    host._addedWeightNames = host._addedWeightNames.filter((name) => !names.includes(name));
    for (const weight of variables) weight.dispose();
    tf.dispose(kept);
    if (site.guests.length === 0) vacate(layer, host, site);
    return value;
  };
  const kernel = () => see(variable.read());
  const self: Guest = {
    layer,
    source: adapter,
    adapter: live,
    strength: options.strength ?? 1,
    route: options.route,
    random: generator(options.seed ?? 0),
    delta: () => tf.tidy(() => delta(live, kernel())),
    drop: (probabilities) => {
      checkOptions(adapter.algorithm, probabilities, "drop parts of");
      const next = { ...dropouts, ...probabilities };
      if (self.route === "hybrid" && !hasHybrid({ ...live, dropouts: next })) {
        throw new TypeError(
          `Cannot drop parts of ${adapter.algorithm} on "${layer.name}" as its route is hybrid, ` +
            "which has no dropout: attach it without a route",
        );
      }
      Object.assign(dropouts, probabilities);
    },
    cost: (places) => costOf(live, places ?? placesOf(layer)),
    merge: () => {
      const { strength } = self;
      const [W, b] = tf.tidy(() => [
        own(merge(kernel(), live, { strength })),
        live.factors.bias ? mergeBias(bias!.read(), live, { strength })! : undefined,
      ]);
      variable.write(W!);
      if (b) bias!.write(b);
      tf.dispose([W, b]);
      detach();
    },
    detach,
  };
  site.guests.push(self);
  return self;
}

/** The lengths in space of a layer's input and output, where its model fixes them. */
function placesOf(layer: tf.layers.Layer): { output: Shape; input: Shape } {
  const { host, kind } = anatomy(layer);
  const inSpace = (shape: tf.Shape | tf.Shape[]): Shape => {
    const one = (Array.isArray(shape[0]) ? shape[0] : shape) as tf.Shape;
    const first = kind.family === "conv" && host.dataFormat === "channelsFirst";
    return (first ? one.slice(2) : one.slice(1, -1)).map((length) => length ?? 1);
  };
  return {
    output: inSpace(layer.outputShape),
    input: inSpace(layer.input ? (layer.input as tf.SymbolicTensor).shape : []),
  };
}
