/**
 * The kohya / LyCORIS dialect: `<prefix>_<module>.<suffix>`, of any algorithm.
 *
 * kohya's trainer begins with `lora_unet_`, `lora_te_` (SDXL: `lora_te1_`, `lora_te2_`) or, for its own OFT,
 * `oft_unet_`; LyCORIS around any other network with `lycoris_`, which is put before a layer's name and taken off.
 * Suffixes, layouts and the scale, alpha / rank, are in `kohya.ts`. Keys with dots in the module (OneTrainer,
 * ComfyUI's LoraSave) are read too.
 */
import type { Adapter } from "../adapter/adapter.ts";
import type { Metadata, Reading, Stored, Written } from "./dialect.ts";
import { SUFFIXES } from "./kohya.ts";

const LYCORIS = "lycoris_";
const KOHYA = /^(lora|oft)_(unet|te\d?)_/;

/** Whether a name is one of kohya's, which tells no module's path. */
export function isKohya(name: string): boolean {
  return KOHYA.test(name);
}

/** Any file: what is no adapter is left over. */
export function matches(): boolean {
  return true;
}

/** By kohya's suffixes as they are. */
export function read(): Reading {
  const locate = (key: string) => {
    const suffix = SUFFIXES.find((suffix) => key.endsWith(`.${suffix}`));
    if (!suffix) return undefined;
    return { module: key.slice(0, -suffix.length - 1), suffix };
  };
  const layer = (module: string) =>
    module.startsWith(LYCORIS) ? module.slice(LYCORIS.length) : module;
  return { locate, layer, implied: [], translate: (_, torch) => torch };
}

/** kohya's names have no dots. */
export function told(layer: string): string {
  return layer.replaceAll(".", "_");
}

/** Every adapter. */
export function hold(_layer: string, adapter: Adapter): Adapter {
  return adapter;
}

/** What a layer's keys begin with: kohya's own names as they are, others behind LyCORIS's prefix. */
export function keyOf(layer: string): string {
  const name = told(layer);
  return isKohya(name) ? name : LYCORIS + name;
}

/** Every layer behind {@link keyOf} it. */
export function write(modules: ReadonlyMap<string, Stored>, metadata: Metadata): Written {
  const tensors = [...modules].flatMap(([layer, { torch }]) => {
    const module = keyOf(layer);
    return Object.entries(torch).map(([suffix, tensor]) =>
      [`${module}.${suffix}`, tensor] as [string, typeof tensor]
    );
  });
  return { tensors, metadata };
}

/** LyCORIS's name of an algorithm, where it is not this library's. */
const NAMES: Record<string, string | undefined> = { oft: "diag-oft" };

/** What kohya's readers look for, when nothing else is told. */
export function described(adapters: ReadonlyMap<string, Adapter>): Metadata {
  // a birth that is taken off is as many ranks again in the file
  const all = [...adapters.values()].map(({ algorithm, rank, alpha, factors }) => {
    const births = factors.bornUp ? 2 : 1;
    return { algorithm, rank: births * rank, alpha: births * alpha };
  });
  const one = <T>(values: T[]) =>
    values.every((value) => value === values[0]) ? values[0] : "Dynamic";
  return {
    ss_network_module: "lycoris.kohya",
    ss_network_dim: String(one(all.map(({ rank }) => rank))),
    ss_network_alpha: String(one(all.map(({ alpha }) => alpha))),
    ss_network_args: JSON.stringify({
      algo: one(all.map(({ algorithm }) => NAMES[algorithm] ?? algorithm)),
    }),
  };
}
