/**
 * Writes what `tests/judges/peft.py` reads: `judged.ts OUT GOLDEN`.
 *
 * `OUT/base.safetensors` are the weights of a network of five layers; `OUT/peft/<kind>` a folder of PEFT for it each, and
 * `OUT/expected/<kind>.safetensors` the weights that this library merges. `OUT/sd` are the fixtures' files of Stable
 * Diffusion in other dialects than they came in. `OUT/cured/<network>` are kohya's files of every kind after
 * `lowrank doctor --fix peft` and `--fix diffusers`, and `OUT/cured/expected` the weights as they were trained.
 */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import type { AdapterOptions } from "../../lib/adapter/adapter.ts";
import { merge } from "../../lib/adapter/merge.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import { open, openCheckpoint, readKernel, save } from "../../lib/files/adapters.ts";
import { fromFloat32 } from "../../lib/files/floats.ts";
import type { HostName } from "../../lib/files/hosts/hosts.ts";
import { type Model, modelOf, rename } from "../../lib/files/names.ts";
import { write } from "../../lib/files/safetensors.ts";
import type { Shape } from "../../lib/tensor/shape.ts";
import { run } from "../../lib/tools/lowrank.ts";
import { kernel, trained } from "./few.ts";

const [out, golden] = process.argv.slice(2);

const LAYERS: Record<string, Shape> = {
  dense: [6, 8],
  "block.dense": [6, 8],
  "block.point": [1, 1, 6, 8],
  "block.conv": [3, 3, 6, 8],
  "block.line": [3, 6, 8],
};
const FLAT = ["dense", "block.dense", "block.point", "block.conv"];

/** Kinds of adapters, the layers that PEFT has them on, and a layer's rank if it has one of its own. */
const KINDS: [name: string, AlgorithmName, AdapterOptions, layers?: string[]][] = [
  ["lora", "lora", { alpha: 3 }],
  ["rslora", "lora", { alpha: 3, rankScale: "alpha/sqrt(r)" }],
  ["dylora", "dylora", { alpha: 3, block: 1 }],
  ["dora", "lora", { alpha: 3, dora: "output" }],
  ["loha", "loha", { alpha: 1 }],
  ["loha_core", "loha", { tucker: true }, FLAT],
  ["lokr", "lokr", { alpha: 0.5 }, FLAT],
  ["lokr_whole", "lokr", { alpha: 3, full: true }, FLAT],
  ["lokr_both", "lokr", { alpha: 3, decomposeBoth: true, factor: 3 }, FLAT],
  ["lokr_core", "lokr", { alpha: 3, tucker: true }, FLAT],
  ["ia3", "ia3", {}, FLAT],
  ["ia3_on_input", "ia3", { onInput: true }, FLAT],
];

/** A kernel as a torch tensor of a file. */
function entry(layer: string, W: tf.Tensor) {
  const k = W.shape.slice(0, -2).map((_, axis) => axis);
  const torch = tf.transpose(W, [W.rank - 1, W.rank - 2, ...k]);
  const bytes = fromFloat32("F32", torch.dataSync<"float32">() as Float32Array);
  return { name: `${layer}.weight`, dtype: "F32" as const, shape: torch.shape, bytes: () => bytes };
}

await mkdir(join(out, "expected"), { recursive: true });
const bases = new Map(Object.entries(LAYERS).map(([layer, shape]) => [layer, kernel(shape)]));
await write(join(out, "base.safetensors"), [...bases].map(([layer, W]) => entry(layer, W)));

for (const [kind, algorithm, options, layers = Object.keys(LAYERS)] of KINDS) {
  const adapters = new Map(layers.map((layer, i) => {
    const rank = algorithm === "lokr" ? 1 : 2 + i % 2;
    const alpha = options.alpha && options.alpha + i % 3;
    return [
      layer,
      trained(algorithm, LAYERS[layer], rank, { ...options, ...(alpha && { alpha }) }),
    ];
  }));
  for (const dtype of ["f32", "f16"] as const) {
    await save(join(out, "peft", `${kind}.${dtype}`), adapters, { dialect: "peft", dtype });
  }
  const merged = [...adapters].map(([layer, adapter]) =>
    entry(layer, merge(bases.get(layer)!, adapter))
  );
  await write(join(out, "expected", `${kind}.safetensors`), merged);
}

/** What is fixed: every algorithm, and the options that other programs read otherwise; a rank, where all have one. */
const FIXED: [name: string, AlgorithmName, rank: number, AdapterOptions][] = [
  ["lora", "lora", 2, { alpha: 3 }],
  ["lora_scalar_root", "lora", 3, { alpha: 2, scalar: true, rankScale: "alpha/sqrt(r)" }],
  ["lora_core", "lora", 2, { tucker: true }],
  ["dora", "lora", 2, { alpha: 3, dora: "output" }],
  ["dora_input", "lora", 2, { alpha: 3, dora: "input" }],
  ["loha", "loha", 2, { alpha: 1 }],
  ["loha_core", "loha", 2, { tucker: true, scalar: true }],
  ["lokr", "lokr", 1, { alpha: 0.5 }],
  ["lokr_both", "lokr", 1, { factor: 2, decomposeBoth: true, tucker: true }],
  ["lokr_whole", "lokr", 4, { full: true, alpha: 3 }],
  ["dylora", "dylora", 4, { block: 2, alpha: 2 }],
  ["ia3", "ia3", 0, {}],
  ["ia3_on_input", "ia3", 0, { onInput: true }],
  ["oft", "oft", 2, {}],
  ["boft", "boft", 2, {}],
  ["glora", "glora", 2, { alpha: 1 }],
  ["tlora", "tlora", 2, {}],
  ["full", "full", 0, {}],
];

/** Writes kohya's file of each kind for some kernels, has the doctor rewrite it, and writes the weights trained. */
async function fix(
  name: string,
  base: string,
  kernels: ReadonlyMap<string, tf.Tensor>,
  host: HostName,
  model: Model,
): Promise<void> {
  const folder = join(out, "cured", name), expected = join(out, "cured", "expected");
  await mkdir(folder, { recursive: true });
  await mkdir(expected, { recursive: true });
  for (const [kind, algorithm, rank, options] of FIXED) {
    const adapters = new Map([...kernels].map(([layer, W], i) => {
      const own = {
        ...options,
        ...(options.alpha && { alpha: options.alpha + i % 3 }),
        ...(algorithm === "tlora" && { base: W }),
      };
      return [layer, trained(algorithm, W.shape, rank, own)];
    }));
    const file = join(out, "trained.safetensors");
    await save(file, adapters, { model });
    const fixed = join(folder, host === "peft" ? kind : `${kind}.safetensors`);
    const code = await run(["doctor", file, "--fix", host, "-o", fixed, "--base", base]);
    if (code !== 0) process.exit(code);
    const merged = [...adapters].map(([layer, adapter]) =>
      entry(layer, merge(kernels.get(layer)!, adapter))
    );
    await write(join(expected, `${name}.${kind}.safetensors`), merged);
  }
}

await fix("net", join(out, "base.safetensors"), bases, "peft", {
  family: "sd1",
  modules: Object.keys(LAYERS),
});

if (golden && existsSync(golden)) {
  await using checkpoint = await openCheckpoint(join(golden, "tiny"));
  const all = [...checkpoint.modules].filter(([name, { kind }]) =>
    /^unet\.(conv_in|mid_block)|^text_encoder\..*layers\.0\./.test(name) &&
    (kind === "linear" || kind === "conv")
  );
  const kernels = new Map<string, tf.Tensor>();
  for (const [name, module] of all) kernels.set(name, await readKernel(checkpoint, module));
  // PEFT itself judges the UNet: transformers 5 has other names for its text encoder, which only diffusers knows
  const unet = new Map([...kernels].filter(([name]) => name.startsWith("unet.")));
  await fix("unet", join(golden, "tiny"), unet, "peft", checkpoint.model);
  await fix("pipeline", join(golden, "tiny"), kernels, "diffusers", checkpoint.model);

  await mkdir(join(out, "sd"));
  const files = ["locon.safetensors", "peft.safetensors", "diffusers_mixed_noalpha.safetensors"];
  const cases = ["ia3", "loha", "loha_effective_conv2d", "lokr", "lokr_both", "lokr_conv_flat"];
  cases.push("lokr_effective_conv2d", "lora_dora", "lora_patterns", "lora_rslora");
  const paths = [...files, ...cases.map((name) => `peft_more/${name}`)].map((path) =>
    `tiny/${path}`
  );
  for (const path of [...paths, "tiny_xl/locon_sgm.safetensors"]) {
    const { adapters } = await open(join(golden, path));
    const name = path.split("/").at(-1)!.split(".")[0], model = modelOf(adapters.keys())!;
    const all = rename(adapters, { to: "diffusers", model });
    const unet = new Map([...all].filter(([name]) => name.startsWith("unet.")));
    await save(join(out, "sd", `${name}.peft`), unet, { dialect: "peft", model });
    if (/ia3|loha|lokr/.test(name)) continue;
    await save(join(out, "sd", `${name}.diffusers.safetensors`), all, { dialect: "diffusers" });
    // diffusers takes no dora_scale, and reads no alpha of an attention layer that differs from the others
    if (name === "lora_dora" || name === "lora_patterns") continue;
    await save(join(out, "sd", `${name}.kohya.safetensors`), all, { dialect: "kohya", model });
  }
}
