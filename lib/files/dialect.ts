/**
 * The contract that every dialect of adapter files keeps, read first.
 *
 * A dialect is a module with five exports in this order: `matches`, `read`, `told`, `hold`, `write`. Between it and an
 * adapter stands one form: the tensors of a module by kohya's suffixes, in PyTorch's layout (`kohya.ts`). So a
 * dialect knows key names, where the scale is told, and where a magnitude's axis lies, and no mathematics.
 */
import type * as tf from "@tensorflow/tfjs";
import type { Adapter } from "../adapter/adapter.ts";
import type { Torch } from "./kohya.ts";

/** Free text of a file by key. */
export type Metadata = Record<string, string>;

/** What a key is, if the dialect knows it. */
export interface Location {
  /** the module, by what all its keys begin with */
  module: string;
  /** kohya's suffix of the tensor; one that kohya does not have, if no adapter has such a tensor */
  suffix: string;
}

/** How one file is read. */
export interface Reading {
  /** Where a key belongs; undefined for a tensor that is no adapter's. */
  locate(key: string): Location | undefined;
  /** The name that the keys tell of a module's layer. */
  layer(module: string): string;
  /** kohya's suffixes that keys do not show, as something else tells them */
  implied: readonly string[];
  /** A module's tensors as kohya lays them out; throws a RangeError when the file contradicts itself. */
  translate(module: string, torch: Torch): Torch;
}

/** An adapter on its way into a file; its tensors are those of `torch`. */
export interface Stored {
  adapter: Omit<Adapter, "factors">;
  torch: Torch;
}

/** What goes into a file. */
export interface Written {
  tensors: [key: string, tensor: tf.Tensor][];
  metadata: Metadata;
}

/** A module of this folder; `import * as peft` is one. */
export interface Dialect {
  /** Whether a file of these keys and this metadata is of the dialect. */
  matches(keys: readonly string[], metadata: Metadata): boolean;
  /** How a file with this metadata is read; throws a SyntaxError for metadata that is malformed. */
  read(metadata: Metadata): Reading;
  /** The name that the keys will tell of a layer, see `Reading.layer`. */
  told(layer: string): string;
  /** The adapter as the dialect can hold it; throws a TypeError when it cannot, with the remedy. */
  hold(layer: string, adapter: Adapter): Adapter;
  /** The tensors and the metadata of a file, from adapters that `hold` gave; inside a tidy scope. */
  write(modules: ReadonlyMap<string, Stored>, metadata: Metadata): Written;
}

/** Refuses an adapter that a dialect cannot hold. */
export function refuse(layer: string, dialect: string, rule: string, current: string): never {
  throw new TypeError(`Cannot save "${layer}" as ${dialect} as ${rule}: current ${current}`);
}
