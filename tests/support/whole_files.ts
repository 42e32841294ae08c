/** The adapter files of a folder of fixtures, applied to the networks they were made for. */
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { merge, mergeBias } from "../../lib/adapter/merge.ts";
import { dispose } from "../../lib/adapter/adapter.ts";
import { ALGORITHMS } from "../../lib/algorithms/table.ts";
import { open } from "../../lib/files/adapters.ts";
import type { Verdict } from "./cases.ts";
import { distance, TOLERANCE } from "./close.ts";
import { channelsLast, loadBase, loadTensors, textEncoder, under, unet } from "./networks.ts";

/** LyCORIS's module classes by the name of their algorithm here. */
const CLASSES: Record<string, string> = {
  LoConModule: "lora",
  LohaModule: "loha",
  LokrModule: "lokr",
  IA3Module: "ia3",
  DyLoraModule: "dylora",
  FullModule: "full",
  NormModule: "norm",
  DiagOFTModule: "oft",
  ButterflyOFTModule: "boft",
  GLoRAModule: "glora",
  TLoraModule: "tlora",
};

/** The module names by which kohya's trainer calls the modules of a network. */
const PREFIXES: Record<string, string> = { unet: "lora_unet_", te: "lora_te_", te2: "lora_te2_" };

/** Checks every file that a `wholefile*` folder's manifest names. */
export async function* wholeFiles(folder: string): AsyncGenerator<Verdict> {
  for (const name of readdirSync(folder).filter((name) => name.startsWith("wholefile")).sort()) {
    const place = join(folder, name);
    const { files } = JSON.parse(await readFile(join(place, "manifest.json"), "utf8")) as {
      files: Record<string, { modules: [string, string][] }>;
    };
    const base = loadBase(join(place, "base.safetensors"));
    if (existsSync(join(place, "base_te2.safetensors"))) {
      for (const [key, tensor] of loadBase(join(place, "base_te2.safetensors"))) {
        base.set(key, tensor);
      }
    }
    const expected = loadTensors(join(place, "expected.safetensors"));
    for (const [stem, { modules }] of Object.entries(files)) {
      const known = modules.every(([, kind]) => CLASSES[kind] in ALGORITHMS);
      yield { name: stem, failures: known ? await check(stem, place, base, expected) : undefined };
    }
    tf.dispose([...base.values(), ...expected.values()]);
  }
}

async function check(
  stem: string,
  place: string,
  base: Map<string, tf.Tensor>,
  expected: Map<string, tf.Tensor>,
): Promise<string[]> {
  const { adapters, leftovers } = await open(join(place, `${stem}.safetensors`));
  const failures = [...leftovers.keys()].map((key) => `${key} is left over`);
  const used = new Set<string>();
  const rotates = [...adapters.values()].some(({ factors }) => factors.blocks);

  /** The weights with every adapter merged that is meant for one of them. */
  const adapted = (strength: number) => {
    const weights = [...base].map(([key, weight]) => {
      const [network, ...path] = key.split("."), module = path.slice(0, -1).join("_");
      const numbered = network === "te" ? [`lora_te1_${module}`] : [];
      const names = [
        PREFIXES[network] + module,
        ...numbered,
        ...(network === "unet" ? [module] : []),
      ];
      const name = names.find((name) => adapters.has(name));
      if (!name) return [key, weight] as const;
      used.add(name);
      const put = key.endsWith(".bias") ? mergeBias : merge;
      return [key, put(weight, adapters.get(name)!, { strength })!] as const;
    });
    return new Map(weights);
  };
  tf.tidy(() => {
    const get = (key: string) => expected.get(key)!;
    const x = channelsLast(get("x")), t = get("t") as tf.Tensor2D;
    const compare = (what: string, actual: tf.Tensor, by: tf.Tensor) => {
      const error = distance(actual.dataSync(), by.dataSync());
      if (!(error <= TOLERANCE[rotates ? "rotation" : "value"])) {
        failures.push(`${what} is off by ${error.toExponential(2)}`);
      }
    };
    for (const [out, strength] of [["out", 1], ["out_mult", 0.6]] as const) {
      if (!expected.has(`${stem}/${out}`)) continue;
      const weights = adapted(strength), both = expected.has(`${stem}/ctx`);
      const embedded = get("emb") as tf.Tensor3D;
      const context = both
        ? textEncoder(under("te", weights), embedded)
        : get("ctx_base") as tf.Tensor3D;
      if (both && strength === 1) {
        compare("ctx", context, get(`${stem}/ctx`));
        const second = expected.get(`${stem}/ctx2`);
        if (second) compare("ctx2", textEncoder(under("te2", weights), embedded), second);
      }
      compare(
        out,
        unet(under("unet", weights), x, t, context),
        channelsLast(get(`${stem}/${out}`)),
      );
    }
  });
  for (const [name, adapter] of adapters) {
    if (!used.has(name)) failures.push(`${name} is for no module of the networks`);
    dispose(adapter);
  }
  return failures;
}
