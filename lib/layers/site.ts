/** What is known of an adapted layer, from the first adapter attached to the last one taken off. */
import * as tf from "@tensorflow/tfjs";
import type { Cost } from "../algorithms/algorithm.ts";
import { type Adapter, type Dropouts, trained } from "../adapter/adapter.ts";
import { type Part, rebuilt, rebuiltBias } from "../adapter/forward.ts";
import type { Route } from "../adapter/route.ts";
import { view } from "../adapter/view.ts";
import type { Shape } from "../tensor/shape.ts";
import { anatomy, type LayerVariable } from "./host.ts";

/** An adapter on a layer. */
export interface Attached {
  readonly layer: tf.layers.Layer;
  /** the live value: its factors are the layer's variables, gone after `detach` unless kept */
  readonly adapter: Adapter;
  /** s, read at every call */
  strength: number;
  /** DyLoRA, T-LoRA: how many ranks are used; undefined: all, which of DyLoRA are drawn in training */
  active?: number;
  /** W′ − W at strength 1, `[...k, I/G, O]`, the caller's */
  delta(): tf.Tensor;
  /** parameters and multiply-adds, for the layer's own output or the one given */
  cost(places?: { output?: Shape; input?: Shape; batch?: number }): Cost;
  /** what a training step drops from now on; a probability that is not named stays */
  drop(probabilities: Partial<Dropouts>): void;
  /** writes W′ into the layer and detaches */
  merge(): void;
  /**
   * Takes the adapter off: the layer is what it was, bit for bit.
   *
   * @returns with `keep`, the adapter as it was trained, the caller's to dispose; else it is freed
   */
  detach(options?: { keep?: boolean }): Adapter | undefined;
}

/** An adapter on a layer, and what only the layer needs of it. */
export interface Guest extends Attached {
  /** the value that was attached */
  readonly source: Adapter;
  readonly route?: Route;
  /** where a training step draws from */
  readonly random: () => number;
}

/** The adapters of a layer, and how to give it back. */
export interface Site {
  readonly guests: Guest[];
  /** the layer's flag, its weights that train and that do not, and the flags of those that do */
  readonly trainable: boolean;
  readonly own: LayerVariable[];
  readonly others: LayerVariable[];
  readonly flags: boolean[];
}

/** Adapted layers. */
export const sites: WeakMap<object, Site> = new WeakMap();

/** Layers that are adapted or have been: what their models collected to train may be stale. */
export const touched: WeakSet<object> = new WeakSet();

/** The adapters on a layer, in the order they were attached. */
export function attachedTo(layer: tf.layers.Layer): readonly Attached[] {
  return sites.get(layer)?.guests ?? [];
}

/** The adapters that take part in a pass. */
export function partsOf({ guests }: Site, training: boolean): Part[] {
  return guests.flatMap(({ adapter, strength, active, random, route }) => {
    const seen = view(adapter, { training, random, active, dropRanks: route === "bypass" });
    return seen ? [{ view: seen, strength }] : [];
  });
}

/** The trained factors on a site, as tensors. */
export function factorsOf({ guests }: Site): tf.Tensor[] {
  return guests.flatMap(({ adapter }) => trained(adapter).map(([, tensor]) => tensor));
}

/** W′ of an adapted layer, in its kernel's own shape. */
export function mergedKernel(layer: tf.layers.Layer, site: Site): tf.Tensor {
  const { variable, see, own } = anatomy(layer);
  return tf.tidy(() => own(rebuilt(see(variable.read()), partsOf(site, false))));
}

/** b′ of an adapted layer, where an adapter has one for it. */
export function mergedBias(layer: tf.layers.Layer, site: Site): tf.Tensor | undefined {
  if (!site.guests.some(({ adapter }) => adapter.factors.bias)) return undefined;
  return tf.tidy(() => rebuiltBias(anatomy(layer).bias!.read(), partsOf(site, false))!);
}
