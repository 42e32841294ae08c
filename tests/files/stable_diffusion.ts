/** Adapter files of Stable Diffusion made by other programs: read, merged, and written in every dialect. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispose } from "../../lib/adapter/adapter.ts";
import { merge } from "../../lib/adapter/merge.ts";
import { type AdapterFile, encode, open, type SaveOptions } from "../../lib/files/adapters.ts";
import { openCheckpoint, readKernel } from "../../lib/files/checkpoint.ts";
import { mergeInto } from "../../lib/files/merge_into.ts";
import { type Model, rename } from "../../lib/files/names.ts";
import { distance, leakless, TOLERANCE } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import * as formulas from "../support/formulas.ts";

const files = suite("files of Stable Diffusion");
leakless(files);
const check = hasGolden ? files : files.skip;

const read = (path: string) => readFileSync(golden(`sd/${path}`), "utf8");

/** The weights of the networks of a folder, by `unet.<module>`, and the modules that have kernels. */
function networks(folder: string): { weights: Map<string, formulas.Plain>; model: Model } {
  const parts: [string, string][] = [
    ["unet", "diffusion_pytorch_model"],
    ["text_encoder", "model"],
    ...(folder === "tiny_xl" ? [["text_encoder_2", "model"] as [string, string]] : []),
  ];
  const weights = new Map<string, formulas.Plain>();
  for (const [network, name] of parts) {
    const tensors = formulas.plainTensors(golden(`sd/${folder}/${network}/${name}.safetensors`));
    for (const [key, tensor] of tensors) {
      if (!key.endsWith(".weight") || tensor.shape.length < 2) continue;
      weights.set(`${network}.${key.slice(0, -".weight".length)}`, tensor);
    }
  }
  const family = folder === "tiny_xl" ? "sdxl" : "sd1";
  return { weights, model: { family, modules: [...weights.keys()] } };
}

/** OIHW → HWIO. */
function kernelOf({ shape, data }: formulas.Plain): tf.Tensor {
  const torch = tf.tensor(Float32Array.from(data), [...shape]);
  return tf.transpose(torch, [...shape.slice(2).map((_, axis) => axis + 2), 1, 0]);
}

type Get = (suffix: string) => formulas.Plain | undefined;

/** A file: where its networks are, which module each key is of, and W′ as the README defines it. */
interface Case {
  path: string;
  tensors: string;
  /** the path of a module by what the file calls it */
  module(name: string): string;
  /** strengths that the README has values for */
  merged(W: formulas.Plain, get: Get, module: string): Float64Array;
}

const inUnet = (name: string) => `unet.${name}`;
const asItIs = (name: string) => name;

/** LoRA under any of the names that its two factors have. */
const loraOf =
  (scaleOf: (get: Get, module: string) => number) =>
  (W: formulas.Plain, get: Get, module: string) => {
    const either = (...names: string[]) => names.map(get).find((tensor) => tensor)!;
    const down = either("lora_down.weight", "lora_A.weight", "lora.down.weight");
    const up = either("lora_up.weight", "lora_B.weight", "lora.up.weight");
    return formulas.lora(W, down, up, scaleOf(get, module));
  };

/** kohya's names by the fixtures' own table. */
function kohyaIn(folder: string): (name: string) => string {
  const meta = hasGolden ? JSON.parse(read(`${folder}/meta.json`)) : {};
  const tables = {
    unet: meta.unet_modules,
    text_encoder: meta.te_modules ?? meta.te1_modules,
    text_encoder_2: meta.te2_modules,
  };
  const paths = Object.entries(tables).flatMap(([network, table]) =>
    Object.entries((table ?? {}) as Record<string, string>).map(([name, path]) =>
      [name, `${network}.${path}`] as const
    )
  );
  return (name) => new Map(paths).get(name)!;
}

const alphaInFile = (get: Get) => get("alpha")!.data[0] / get("lora_down.weight")!.shape[0];

const CASES: Case[] = [
  {
    path: "tiny/locon.safetensors",
    tensors: "tiny/locon.safetensors",
    module: kohyaIn("tiny"),
    merged: loraOf(alphaInFile),
  },
  {
    path: "tiny_xl/locon_sgm.safetensors",
    tensors: "tiny_xl/locon_sgm.safetensors",
    module: kohyaIn("tiny_xl"),
    merged: loraOf(alphaInFile),
  },
  {
    path: "tiny/peft.safetensors",
    tensors: "tiny/peft.safetensors",
    module: inUnet,
    merged: loraOf(() => 2 / 4),
  },
  {
    path: "tiny/peft_pipeline.safetensors",
    tensors: "tiny/peft_pipeline.safetensors",
    module: asItIs,
    merged: loraOf(() => 2 / 4),
  },
  {
    path: "tiny/diffusers_mixed_noalpha.safetensors",
    tensors: "tiny/diffusers_mixed_noalpha.safetensors",
    module: asItIs,
    merged: loraOf(() => 1),
  },
  {
    path: "tiny/peft_te",
    tensors: "tiny/peft_te/adapter_model.safetensors",
    module: (name) => `text_encoder.${name}`,
    merged: loraOf(() => 2 / 4),
  },
  ...Object.entries({
    ia3: (W, get, module) => formulas.ia3(W, get("ia3_l")!, /(ff\.net\.2|conv1)$/.test(module)),
    loha: (W, get) => formulas.loha(W, get, 2 / 4),
    loha_effective_conv2d: (W, get) => formulas.loha(W, get, 2 / 4),
    lokr: (W, get) => formulas.lokr(W, get, 3 / 2),
    lokr_both: (W, get) => formulas.lokr(W, get, 3 / 2),
    lokr_conv_flat: (W, get) => formulas.lokr(W, get, 3 / 2),
    lokr_effective_conv2d: (W, get) => formulas.lokr(W, get, 3 / 2),
    lora_dora: (W, get) =>
      formulas.dora(
        W,
        get("lora_A.weight")!,
        get("lora_B.weight")!,
        2 / 4,
        get("lora_magnitude_vector")!,
      ),
    // rank_pattern { conv1: 3, to_q: 2 }, alpha_pattern { to_q: 1.5 }, r 4, alpha 2
    lora_patterns: loraOf((_, module) =>
      module.endsWith("to_q") ? 1.5 / 2 : module.endsWith("conv1") ? 2 / 3 : 2 / 4
    ),
    lora_rslora: loraOf(() => 2 / Math.sqrt(4)),
  } as Record<string, Case["merged"]>).map(([name, merged]): Case => ({
    path: `tiny/peft_more/${name}`,
    tensors: `tiny/peft_more/${name}/adapter_model.safetensors`,
    module: inUnet,
    merged,
  })),
];

const SUFFIX =
  /\.(lora_(down|up|A|B)\.weight|lora\.(down|up)\.weight|alpha|lora_magnitude_vector|hada_\w+|lokr_\w+|ia3_l)$/;

/** What W′ must be, by the module's path. */
function expected({ tensors, module, merged }: Case, weights: ReadonlyMap<string, formulas.Plain>) {
  const groups = new Map<string, Map<string, formulas.Plain>>();
  for (const [key, tensor] of formulas.plainTensors(golden(`sd/${tensors}`))) {
    const [found, suffix] = SUFFIX.exec(key)!;
    const name = key.slice(0, -found.length).replace("base_model.model.", "");
    groups.set(name, (groups.get(name) ?? new Map()).set(suffix, tensor));
  }
  return new Map([...groups].map(([name, group]) => {
    const path = module(name), W = weights.get(path)!;
    return [path, {
      shape: W.shape,
      data: merged(W, (suffix) => group.get(suffix), path),
    }] as const;
  }));
}

/** The W′ of every adapter, by its module's path. */
function merges(
  { adapters }: Pick<AdapterFile, "adapters">,
  weights: ReadonlyMap<string, formulas.Plain>,
  model: Model,
  module?: (name: string) => string,
): Map<string, tf.Tensor> {
  const byPath = module
    ? new Map([...adapters].map(([name, adapter]) => [module(name), adapter]))
    : rename(adapters, { to: "diffusers", model });
  return new Map(
    [...byPath].map(([path, adapter]) => [path, merge(kernelOf(weights.get(path)!), adapter)]),
  );
}

function compare(
  actual: Map<string, tf.Tensor>,
  wanted: Map<string, tf.Tensor>,
  limit: number,
  what: string,
) {
  assert.equal([...actual.keys()].sort(), [...wanted.keys()].sort(), what);
  for (const [path, tensor] of wanted) {
    const found = actual.get(path)!;
    assert.equal(found.shape, tensor.shape, path);
    const error = distance(found.dataSync(), tensor.dataSync());
    if (!(error <= limit)) assert.unreachable(`${what}: ${path} is off by ${error}`);
  }
}

/** Which dialects can hold a file's adapters, besides kohya and peft, which hold all of these. */
const isPlain = ({ path }: Case) => !/ia3|loha|lokr/.test(path);
const DTYPES: [SaveOptions["dtype"], number][] = [
  ["f32", TOLERANCE.value],
  ["f16", 8 * TOLERANCE.half],
  ["bf16", 8 * TOLERANCE.bfloat],
];

for (const one of CASES) {
  check(`${one.path} opens completely, and merges by the README's formula`, async () => {
    const { weights, model: _ } = networks(one.path.split("/")[0]);
    const file = await open(golden(`sd/${one.path}`));
    assert.equal([...file.leftovers.keys()], []);
    const wanted = [...expected(one, weights)].map(([path, W]) => [path, kernelOf(W)] as const);
    compare(merges(file, weights, [], one.module), new Map(wanted), TOLERANCE.value, one.path);
    for (const adapter of file.adapters.values()) dispose(adapter);
  });

  check(`${one.path} merges into a file and into a pipeline by the README's formula`, async () => {
    const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
    const network = one.path.split("/")[0], wanted = expected(one, networks(network).weights);
    for (const base of ["single_file.safetensors", "."]) {
      const output = join(folder, base === "." ? "pipeline" : base);
      const place = golden(`sd/${network}/${base}`);
      const report = await mergeInto(place, [{ place: golden(`sd/${one.path}`) }], output);
      assert.equal(report.parts[0].missing, []);
      await using before = await openCheckpoint(place);
      await using after = await openCheckpoint(output);
      for (const [path, module] of after.modules) {
        const W = wanted.get(path);
        if (!W) continue;
        const kernel = await readKernel(after, module);
        tf.tidy(() =>
          compare(new Map([["", kernel]]), new Map([["", kernelOf(W)]]), TOLERANCE.value, path)
        );
        kernel.dispose();
      }
      assert.equal([...wanted.keys()].filter((path) => !after.modules.has(path)), []);
      const changed = new Set(report.changed);
      for (const key of before.tensors.keys()) {
        if (changed.has(key)) continue;
        assert.equal((await after.read(key)).bytes, (await before.read(key)).bytes, key);
      }
    }
    await rm(folder, { recursive: true });
  });

  check(`${one.path} survives every dialect that can hold it`, async () => {
    const { weights, model } = networks(one.path.split("/")[0]);
    const file = await open(golden(`sd/${one.path}`));
    const before = merges(file, weights, model);
    for (
      const dialect of ["kohya", "peft", ...(isPlain(one) ? ["diffusers"] as const : [])] as const
    ) {
      for (const [dtype, limit] of DTYPES) {
        const back = await open(await encode(file.adapters, { dialect, dtype, model }));
        assert.is(back.dialect, dialect);
        assert.is(back.leftovers.size, 0);
        tf.tidy(() => compare(merges(back, weights, model), before, limit, `${dialect} ${dtype}`));
        for (const adapter of back.adapters.values()) dispose(adapter);
      }
    }
    if (isPlain(one) && !one.path.includes("dora")) {
      const places = [...rename(file.adapters, { to: "diffusers", model }).keys()];
      const walked = new Map(
        [...file.adapters.values()].map((adapter, i) => [`unet:${i}`, adapter]),
      );
      const back = await open(await encode(walked, { dialect: "cloneofsimo" }));
      const place = (name: string) => places[Number(name.split(":")[1])];
      compare(merges(back, weights, model, place), before, TOLERANCE.value, "cloneofsimo");
      for (const adapter of back.adapters.values()) dispose(adapter);
    }
    for (const adapter of file.adapters.values()) dispose(adapter);
  });
}

files.run();
