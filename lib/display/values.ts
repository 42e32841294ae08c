/** What this library's values look like as the last expression of a cell, without anything being called. */
import * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../adapter/adapter.ts";
import { ALGORITHMS } from "../algorithms/table.ts";
import { show } from "../tensor/shape.ts";
import { type Shown, shown } from "./bundle.ts";
import { card, type Subject } from "./card.ts";
import { findings } from "./inspection.ts";

/** Numbers of a tensor that are read to write the first and last of them. */
const READ = 1e6;

/** Whether a value has all of these fields. */
function has<K extends string>(value: object, ...fields: K[]): value is Record<K, unknown> {
  return fields.every((field) => field in value);
}

function isAdapter(value: unknown): value is Adapter {
  return typeof value === "object" && value !== null &&
    has(value, "algorithm", "shape", "rank", "factors") && `${value.algorithm}` in ALGORITHMS;
}

/** Whether a value is a map of adapters, on layers or not, and not an empty one. */
function isNamed(value: unknown): value is ReadonlyMap<string, Adapter> {
  if (!(value instanceof Map) || value.size === 0) return false;
  return [...value.values()].every((one) => isAdapter(one) || isAdapter(one?.adapter));
}

/** What a value has to show of itself, if it is one of ours: adapters, wherever they are, and tensors. */
export function presented(value: unknown): Shown | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (value instanceof tf.Tensor) return shown({ "text/plain": written(value) });
  if (isAdapter(value) || isNamed(value)) return card(value);
  if (has(value, "adapter", "layer") && isAdapter(value.adapter)) return card(value as Subject);
  if (has(value, "attached", "model") && isNamed(value.attached)) return card(value as Subject);
  // a file's
  if (has(value, "adapters", "dialect") && isNamed(value.adapters)) return card(value.adapters);
  return findings(value);
}

/** A tensor's shape and its numbers, the first and last where they are many. */
function written(tensor: tf.Tensor): string {
  const name = `Tensor ${show(tensor.shape)} ${tensor.dtype}`;
  if (tensor.isDisposed) return `${name}, disposed of`;
  return tensor.size > READ ? name : tensor.toString().replace(/^Tensor/, name);
}
