/**
 * TensorFlow.js's `wasm` backend (XNNPACK, one thread), made to train: it lacks the weight gradients of
 * convolutions and is slow at other steps backwards; `wasm/` builds those from its own fast kernels.
 */
import * as tf from "@tensorflow/tfjs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { NATIVE } from "../tensor/convolve.ts";
import { allowed } from "./environment.ts";
import type { Backend } from "./wasm/compose.ts";
import { guard } from "./wasm/heap.ts";
import { install } from "./wasm/install.ts";

/** The engine's name and its backend's. */
export const name = "wasm";

/** Where the package's wasm file may be read. */
export function available(): Promise<true | string> {
  const path = dirname(fileURLToPath(import.meta.resolve("@tensorflow/tfjs-backend-wasm")));
  const reason = `Deno may not read ${path}: run it with --allow-read`;
  return Promise.resolve(allowed({ name: "read", path }) || reason);
}

/** Registers the kernels, once, and selects the backend; the package's own file holds the code. */
export async function start(): Promise<void> {
  await import("@tensorflow/tfjs-backend-wasm");
  install();
  NATIVE.set(name, { dilations: true, groups: false });
  if (!await tf.setBackend(name)) throw new Error("TensorFlow.js could not load its wasm file");
  guard(tf.backend() as unknown as Backend);
}
