/** What every kernel on TensorFlow works with. */
import type * as tf from "@tensorflow/tfjs";
import type { Attribute } from "./api.ts";
import type { Backend, Input } from "./backend.ts";

/** What TensorFlow.js hands to a kernel. */
export interface Call {
  inputs: Record<string, tf.TensorInfo>;
  attrs: Record<string, unknown>;
  backend: Backend;
}

/** Runs an operation of one result, which lives until the kernel ends if it is not what the kernel gives. */
export type Run = (
  name: string,
  inputs: readonly Input[],
  attributes?: Record<string, Attribute>,
) => tf.TensorInfo;

/** A kernel; undefined where it declines, and TensorFlow.js's `cpu` kernel of the same name computes. */
export type Kernel = (call: Call, run: Run) => tf.TensorInfo | tf.TensorInfo[] | undefined;

/** Whether all tensors are of one of the types. */
export const all = (inputs: Call["inputs"], ...types: tf.DataType[]): boolean =>
  Object.values(inputs).every((input) => !input || types.includes(input.dtype));
