/**
 * A network as a plain list of modules, in the order of PyTorch's `named_modules`: a parent before its children.
 *
 * Which modules take an adapter is decided on this list (`rules.ts`), so that it is decided alike for layers of
 * tf.layers, for the weights of a file, and for networks that are no layers at all.
 */
import type { Shape } from "../tensor/shape.ts";

/** One module of a network. */
export interface Module {
  /** names from the root down with dots between, "" for the root */
  readonly path: string;
  /** PyTorch's name of its class: `Linear`, `Conv2d`, `GroupNorm`, `Transformer2DModel` */
  readonly class: string;
  /** of a linear layer `[I, O]`, of a convolution `[...k, I/G, O]`; left out for every other module */
  readonly kernel?: Shape;
}

/**
 * Classes that a path tells, by the naming of diffusers and transformers.
 *
 * Attention is called as diffusers once called it, since that is the name in LyCORIS's `attn-only`.
 */
const CONTAINERS: readonly [path: RegExp, name: string][] = [
  [/(^|\.)attentions\.\d+$/, "Transformer2DModel"],
  [/(^|\.)resnets\.\d+$/, "ResnetBlock2D"],
  [/(^|\.)downsamplers\.\d+$/, "Downsample2D"],
  [/(^|\.)upsamplers\.\d+$/, "Upsample2D"],
  [/(^|\.)transformer_blocks\.\d+$/, "BasicTransformerBlock"],
  [/(^|\.)attn[12]$/, "CrossAttention"],
  [/(^|\.)time_embedding$/, "TimestepEmbedding"],
  [/(^|\.)self_attn$/, "CLIPAttention"],
  [/(^|\.)mlp$/, "CLIPMLP"],
];

/** The class of the module at a path, `Module` where nothing is known of it. */
function classAt(path: string): string {
  return CONTAINERS.find(([pattern]) => pattern.test(path))?.[1] ?? "Module";
}

/**
 * The modules of a network of which only the layers are known: with what must be around them, by their paths.
 *
 * @param layers in any order; those of one parent keep theirs
 *
 * @example
 * ```ts
 * import { modulesOf } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const modules = modulesOf([{ path: "attentions.0.proj_in", class: "Conv2d", kernel: [1, 1, 8, 8] }]);
 * assert.equal(modules.map((module) => module.class), ["Module", "Module", "Transformer2DModel", "Conv2d"]);
 * ```
 */
export function modulesOf(layers: Iterable<Module>): Module[] {
  const children = new Map<string, string[]>(), known = new Map<string, Module>();
  const place = (path: string) => {
    if (path === "" || children.has(path)) return;
    const parent = path.slice(0, Math.max(0, path.lastIndexOf(".")));
    place(parent);
    children.set(parent, [...children.get(parent) ?? [], path]);
    children.set(path, children.get(path) ?? []);
  };
  for (const layer of layers) {
    known.set(layer.path, layer);
    place(layer.path);
  }
  const list = (path: string): Module[] => [
    known.get(path) ?? { path, class: classAt(path) },
    ...(children.get(path) ?? []).flatMap(list),
  ];
  return list("");
}

/** A module and all that is inside it. */
export function within(modules: readonly Module[], { path }: Module): Module[] {
  if (path === "") return [...modules];
  return modules.filter((module) => module.path === path || module.path.startsWith(`${path}.`));
}
