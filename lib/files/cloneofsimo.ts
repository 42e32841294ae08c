/**
 * The dialect of cloneofsimo/lora: `unet:0:up`, `unet:0:down`, modules by their position in the network's walk.
 *
 * | | |
 * | --- | --- |
 * | scale | 1, there is no alpha: another scale is multiplied into the factors |
 * | axes | `up` `[O, r]` or `[O, r, 1, 1]`, `down` `[r, I]` or `[r, I, kh, kw]` |
 * | metadata | `unet`: JSON list of the classes walked; `unet:0:rank` |
 * | embeddings | a tensor named as its token, of which the metadata says `<embed>`: left over, and told |
 *
 * Source: `lora_diffusion/lora.py`, `save_safeloras_with_embeds` and `parse_safeloras`. Which module a position is
 * depends on the version of diffusers that walked it, so that positions are kept as they are.
 */
import type { Adapter } from "../adapter/adapter.ts";
import { type Metadata, type Reading, refuse, type Stored, type Written } from "./dialect.ts";
import { fold } from "./fold.ts";

const NAME = "cloneofsimo";
const KEY = /^(\w+:\d+):(up|down)$/;
const POSITION = /^(\w+):(\d+)$/;

/** The classes that are walked where nothing else is told; the first only for linear layers. */
const TARGETS: Record<string, { linear: string[]; conv: string[] }> = {
  unet: {
    linear: ["CrossAttention", "Attention", "GEGLU"],
    conv: ["ResnetBlock2D", "CrossAttention", "Attention", "GEGLU"],
  },
  text_encoder: { linear: ["CLIPAttention"], conv: ["CLIPAttention"] },
};

/** A file with a factor at a position. */
export function matches(keys: readonly string[]): boolean {
  return keys.some((key) => KEY.test(key));
}

/** Without alpha, which then is the rank. */
export function read(): Reading {
  const locate = (key: string) => {
    const found = KEY.exec(key);
    return found ? { module: found[1], suffix: `lora_${found[2]}.weight` } : undefined;
  };
  return { locate, layer: told, implied: [], translate: (_, torch) => torch };
}

/** A module's position is its key. */
export function told(layer: string): string {
  return layer;
}

/** Plain LoRA, and DyLoRA as one. */
export function hold(layer: string, adapter: Adapter): Adapter {
  const folded = fold(layer, adapter, NAME);
  if (POSITION.test(layer)) return folded;
  return refuse(
    layer,
    NAME,
    "its modules are positions in the network's walk",
    "name is none, rename it unet:0, unet:1, … or text_encoder:0, … in that order",
  );
}

/** Positions count from 0 without gaps; ranks and classes are told in the metadata. */
export function write(modules: ReadonlyMap<string, Stored>, metadata: Metadata): Written {
  const kept = Object.entries(metadata).filter(([key]) => !/^\w+:\d+:rank$/.test(key));
  const told: Metadata = Object.fromEntries(kept), networks = new Map<string, number[]>();
  const tensors = [...modules].flatMap(([layer, { adapter, torch }]) => {
    const [, network, position] = POSITION.exec(layer)!;
    networks.set(network, [...networks.get(network) ?? [], Number(position)]);
    told[`${layer}:rank`] = String(adapter.rank);
    return ["up", "down"].map((side) =>
      [`${layer}:${side}`, torch[`lora_${side}.weight`]] as Written["tensors"][number]
    );
  });
  for (const [network, positions] of networks) {
    const missing = positions.toSorted((a, b) => a - b).findIndex((position, i) => position !== i);
    if (missing >= 0) {
      refuse(
        `${network}:${missing}`,
        NAME,
        "positions are read as a list without gaps",
        "map has none",
      );
    }
    const isConv = tensors.some(([key, { rank }]) => key.startsWith(`${network}:`) && rank > 2);
    const targets = TARGETS[network]?.[isConv ? "conv" : "linear"];
    if (!targets && !told[network]) {
      const remedy = `pass metadata { ${network}: '["Class"]' }`;
      refuse(
        `${network}:0`,
        NAME,
        "its metadata lists the classes walked",
        `list is none, ${remedy}`,
      );
    }
    told[network] ??= JSON.stringify(targets);
  }
  return { tensors, metadata: told };
}
