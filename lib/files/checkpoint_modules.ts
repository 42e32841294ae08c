/**
 * The modules of a checkpoint, by the keys of its tensors: what each is called in diffusers, and where it lies.
 *
 * | keys begin with | network |
 * | --- | --- |
 * | `model.diffusion_model.`, `cond_stage_model.`, `conditioner.embedders.` | those of a CompVis / SGM checkpoint |
 * | `unet.`, `text_encoder.`, `text_encoder_2.`; `te.`, `te1.`, `te2.` | a pipeline's, as diffusers has them |
 * | `conv_in.`, `input_blocks.`, `text_model.` | one network of Stable Diffusion by itself |
 * | anything else | any network's, under its own names |
 */
import * as tf from "@tensorflow/tfjs";
import { outputs, type Shape, space } from "../tensor/shape.ts";
import type { Dtype } from "./dtypes.ts";
import { flip, unflip } from "./layout.ts";
import { fromCompvis, fromOpenclip, type InCheckpoint, weightOf } from "./ldm.ts";
import type { Model } from "./names.ts";
import type { Description } from "./safetensors.ts";

/** What a module's weight is, as far as its shape and its name tell. */
export type Kind = "linear" | "conv" | "norm" | "embedding";

/** A module of a checkpoint. */
export interface CheckpointModule extends InCheckpoint {
  /** in diffusers, the network's name first (`unet.conv_in`); of any other network its own path */
  name: string;
  kind: Kind;
  /** of its kernel in this library's layout: `[...k, I/G, O]`, of a normalization `[C]` */
  shape: Shape;
  /** of its weight */
  dtype: Dtype;
}

/** How a network's keys begin, and where its modules lie behind that, by their paths in diffusers. */
interface Layout {
  prefix: string;
  network: string;
  places?: (keys: ReadonlySet<string>) => Map<string, InCheckpoint>;
}

/** The modules that have a weight of their own, as PyTorch names it. */
function plain(keys: ReadonlySet<string>): Map<string, InCheckpoint> {
  const weights = [...keys].filter((key) => key.endsWith(".weight"));
  const places = weights.map((key) => {
    const path = key.slice(0, -".weight".length);
    return [path, { ...weightOf(path), bias: `${path}.bias` }] as const;
  });
  return new Map(places);
}

function compvis(keys: ReadonlySet<string>): Map<string, InCheckpoint> {
  const own = plain(keys), paths = fromCompvis(new Set(own.keys()));
  return new Map([...paths].map(([path, theirs]) => [theirs, own.get(path)!]));
}

const NETWORKS: readonly Layout[] = [
  { prefix: "model.diffusion_model.", network: "unet", places: compvis },
  { prefix: "diffusion_model.", network: "unet", places: compvis },
  { prefix: "cond_stage_model.transformer.", network: "text_encoder" },
  { prefix: "cond_stage_model.model.", network: "text_encoder", places: fromOpenclip },
  { prefix: "conditioner.embedders.0.transformer.", network: "text_encoder" },
  { prefix: "conditioner.embedders.0.model.", network: "text_encoder_2", places: fromOpenclip }, // the refiner's
  { prefix: "conditioner.embedders.1.model.", network: "text_encoder_2", places: fromOpenclip },
  { prefix: "unet.", network: "unet" },
  ...["text_encoder.", "text_encoder_1.", "te.", "te1."].map((prefix) => ({
    prefix,
    network: "text_encoder",
  })),
  ...["text_encoder_2.", "te2."].map((prefix) => ({ prefix, network: "text_encoder_2" })),
];

/** A network by itself: the key that tells it, and its layout. */
const ALONE: readonly [key: RegExp, layout: Layout][] = [
  [/^input_blocks\.0\.0\.weight$/, { prefix: "", network: "unet", places: compvis }],
  [/^down_blocks\.0\.resnets\.0\.conv1\.weight$/, { prefix: "", network: "unet" }],
  [/^text_model\.encoder\./, { prefix: "", network: "text_encoder" }],
  [/^transformer\.resblocks\./, { prefix: "", network: "text_encoder", places: fromOpenclip }],
];

/** Embeddings by the end of their path: their shape is a linear layer's. */
const EMBEDDING = /(^|[._])(embeddings?|embed|embed_tokens|wte|wpe)$/;

/** Whether a weight lies as this library has it: all others are PyTorch's `[O, I, ...k]`. */
const isOwn = ({ kind, transposed }: Pick<CheckpointModule, "kind" | "transposed">) =>
  kind === "norm" || kind === "embedding" || transposed === true;

/** The shape of a stored weight in this library's layout. */
function shapeOf(place: InCheckpoint, kind: Kind, { shape }: Description): Shape {
  if (isOwn({ ...place, kind })) return shape;
  const [O, I, ...k] = shape;
  return [...k, I, place.third === undefined ? O : O / 3];
}

/**
 * All modules, by name, in the order of the tensors.
 *
 * @param tensors of the checkpoint, by key
 * @param alone what a network that lies by itself is, where its keys leave that open: "text_encoder_2"
 */
export function modulesOf(
  tensors: ReadonlyMap<string, Description>,
  alone?: string,
): Map<string, CheckpointModule> {
  const keys = [...tensors.keys()];
  const networks = NETWORKS.filter(({ prefix }) => keys.some((key) => key.startsWith(prefix)));
  const single = ALONE.find(([told]) => keys.some((key) => told.test(key)))?.[1];
  const layouts = networks.length > 0 || !single
    ? networks
    : [{ ...single, network: alone ?? single.network }];
  const places: [name: string, place: InCheckpoint][] = [], taken = new Set<string>();
  for (const { prefix, network, places: placesIn = plain } of layouts) {
    const own = keys.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
    for (const [path, { weight, bias, ...how }] of placesIn(new Set(own))) {
      taken.add(prefix + weight);
      const told = bias !== undefined && tensors.has(prefix + bias) ? { bias: prefix + bias } : {};
      places.push([`${network}.${path}`, { ...how, weight: prefix + weight, ...told }]);
    }
  }
  for (const [path, { weight, bias }] of plain(new Set(keys))) {
    if (taken.has(weight)) continue;
    places.push([path, { weight, ...(bias && tensors.has(bias) && { bias }) }]);
  }
  const order = new Map(keys.map((key, i) => [key, i]));
  const rows = places.toSorted(([, a], [, b]) => order.get(a.weight)! - order.get(b.weight)!);
  return new Map(rows.map(([name, place]) => {
    const weight = tensors.get(place.weight)!;
    const rank = weight.shape.length;
    const kind = rank > 2
      ? "conv"
      : rank < 2
      ? "norm"
      : EMBEDDING.test(name)
      ? "embedding"
      : "linear";
    const shape = shapeOf(place, kind, weight);
    return [name, { ...place, name, kind, shape, dtype: weight.dtype }] as const;
  }));
}

/** The family and the names of a checkpoint's modules, to look names up and to spell them. */
export function modelIn(modules: ReadonlyMap<string, CheckpointModule>): Model {
  const names = [...modules.keys()],
    has = (start: string) => names.some((name) => name.startsWith(start));
  const openclip = [...modules].some(([name, { third }]) =>
    name.startsWith("text_encoder.") && third !== undefined
  );
  const family = has("text_encoder_2.") || has("unet.add_embedding.")
    ? "sdxl"
    : openclip
    ? "sd2"
    : "sd1";
  return { family, modules: names };
}

/** Names beside `weight` of what quantized weights are multiplied by: ComfyUI's, compressed-tensors', DeepSeek's. */
const SCALES = ["scale_weight", "weight_scale", "weight_scale_inv"];

/** The key of a tensor by which a module's stored numbers are multiplied before they are its weights, if there is one. */
export function scaleOf(
  tensors: ReadonlyMap<string, unknown>,
  { weight }: Pick<CheckpointModule, "weight">,
): string | undefined {
  return SCALES.map((name) => weight.replace(/(weight)?$/, name)).find((key) => tensors.has(key));
}

/** A kernel from a module's stored numbers. */
export function fromTorch(module: CheckpointModule, values: Float32Array): tf.Tensor {
  const { shape } = module;
  if (isOwn(module)) return tf.tensor(values, [...shape], "float32");
  return flip(
    tf.tensor(values, [outputs(shape), shape[shape.length - 2], ...space(shape)], "float32"),
  );
}

/** A kernel as a module stores it, the inverse of {@link fromTorch}. */
export function toTorch(module: CheckpointModule, kernel: tf.Tensor): tf.Tensor {
  return isOwn(module) ? tf.clone(kernel) : unflip(kernel);
}
