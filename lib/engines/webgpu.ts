/**
 * TensorFlow.js's `webgpu` backend on Deno's `navigator.gpu`: any card that Vulkan, Metal or Direct3D 12
 * reaches, with no more than its driver.
 *
 * A processor that plays a card is slower than every other engine, so it is used only where
 * `LOWRANK_WEBGPU_SOFTWARE=1` asks for it. Each shape of a computation is compiled when it first occurs.
 */
import * as tf from "@tensorflow/tfjs";
import { find, isSoftware, likely } from "./webgpu/adapter.ts";
import type { Backend } from "./webgpu/backend.ts";

/** The engine's name and its backend's. */
export const name = "webgpu";

let adapter: GPUAdapter | undefined;
let backend: Backend | undefined;
let info: GPUAdapterInfo | undefined;

/** Where the runtime has `navigator.gpu` and that a card; software only where it was asked for. */
export async function available(): Promise<true | string> {
  try {
    adapter = await find();
    return true;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Registers the kernels, once, and selects the backend; once more where the device was lost, and with it all
 * that lay there.
 */
export async function start(): Promise<void> {
  if (!backend || backend.lost) {
    const from = adapter ?? await find();
    adapter = undefined; // it gives one device only
    const { open } = await import("./webgpu/backend.ts"); // a megabyte, with which no other engine starts
    const opened = await open(from);
    // importing the package registers a backend, on an adapter of its own choice
    if (tf.engine().registryFactory[name]) tf.removeBackend(name);
    tf.registerBackend(name, () => opened);
    (await import("./webgpu/kernels.ts")).install();
    [backend, info] = [opened, from.info];
  }
  await tf.setBackend(name);
}

/** Versions on which reading at once is tried out: another may end in a crash, so there it must be asked for. */
const KNOWN = /^2\.[89]\./;

/** A card comes before the engines that compute on the processor. */
export async function preferred(): Promise<boolean> {
  if (!("Deno" in globalThis) || !KNOWN.test(Deno.version.deno) || !likely()) return false;
  return await available() === true && !isSoftware(adapter!.info);
}

/** The card. */
export function device(): string | undefined {
  return info && `${info.description}${isSoftware(info) ? ", in software" : ""}`;
}
