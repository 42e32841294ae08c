/** The kernels of the networks that a folder of whole files was made for, by the names of their modules in any of them. */
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { loadBase } from "./networks.ts";

const PREFIXES: Record<string, readonly string[]> = {
  unet: ["", "lycoris_", "lora_unet_"],
  te: ["lora_te_", "lora_te1_"],
  te2: ["lora_te2_"],
};

/** What gives a copy of a module's kernel, and what frees them. */
export function kernelsOf(folder: string) {
  const kernels = new Map<string, tf.Tensor>();
  const files = ["base.safetensors", "base_te2.safetensors"].map((file) =>
    loadBase(join(folder, file))
  );
  const all = files.flatMap((file) => [...file]);
  for (const [key, tensor] of all) {
    if (!key.endsWith(".weight")) continue;
    const [network, ...path] = key.slice(0, -".weight".length).split(".");
    for (const prefix of PREFIXES[network]) kernels.set(prefix + path.join("_"), tensor);
  }
  return {
    base: (name: string) => Promise.resolve(kernels.get(name)?.clone()),
    dispose: () => tf.dispose(all.map(([, tensor]) => tensor)),
  };
}
