/** One attached adapter or those of a model, alike. */
import type * as tf from "@tensorflow/tfjs";
import { type Adapter, trained } from "../adapter/adapter.ts";
import type { AttachedModel } from "./model.ts";
import type { Attached } from "./site.ts";

/** What a training aid is for: an adapter on a layer, or the adapters of a model. */
export type Target = Attached | AttachedModel;

/** The attached adapters, by the name of their layer. */
export function each(target: Target): ReadonlyMap<string, Attached> {
  return "attached" in target ? target.attached : new Map([[target.layer.name, target]]);
}

/** The variables of an attached adapter that training changes, by the name of their factor. */
export function variablesOf(adapter: Adapter): [name: string, variable: tf.Variable][] {
  return trained(adapter) as [string, tf.Variable][];
}
