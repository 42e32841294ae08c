/**
 * The contract that every host keeps, read first.
 *
 * A host is a program that people load adapter files with. Here is what each computes from the tensors as they are
 * stored, in PyTorch's layout and independent of this library's algorithms: `doctor.ts` compares the two. What a
 * host leaves aside without a word, it does not read.
 *
 * Source: the programs' own code, as far as it was read and run; versions stand in each file.
 */
import type * as tf from "@tensorflow/tfjs";
import type { Part } from "../adapter_modules.ts";
import type { Metadata } from "../dialect.ts";
import type { DialectName } from "../dialects.ts";
import type { Torch } from "../layout.ts";

/** A file as a host finds it. */
export interface StoredFile {
  dialect: DialectName;
  metadata: Metadata;
  /** every key, in the order of the file */
  keys: readonly string[];
  modules: ReadonlyMap<string, readonly Part[]>;
  /** what `….alpha` says, by module */
  alphas: ReadonlyMap<string, number>;
}

/** A module as a host finds it. */
export interface StoredModule {
  /** what its keys begin with */
  module: string;
  parts: readonly Part[];
  /** by kohya's suffix, whatever the key's own is; as stored */
  torch: Torch;
}

/** W′ − W at a strength, `[O, I, …k]`; throws an error whose message is why the host does not get there. */
export type Change = (W: tf.Tensor, strength: number) => tf.Tensor;

/** How a file is looked at. */
export interface Sight {
  /** whether modules must be called as in the networks that the host knows; else what they are called is passed over */
  names: boolean;
}

/** A program that loads adapters. */
export interface Host {
  /** as people know it, with what was read */
  title: string;
  /** the dialect that it is given files in */
  dialect: DialectName;
  /**
   * How it reads the modules of a file.
   *
   * Both calls throw an error whose message is the reason, where the host does not open the file, or leaves the
   * module aside.
   */
  open(file: StoredFile, sight: Sight): (stored: StoredModule) => Change;
}

/** A reason, as an error. */
export function refuse(reason: string): never {
  throw new TypeError(reason);
}

/** kohya's names of modules, and of those of its OFT. */
const NAMES = /^(lora_(unet|te\d?)|oft_unet)_[^.]*$/;

/** Refuses a module that is not called as kohya calls those of Stable Diffusion. */
export function checkName(module: string, { names }: Sight, more?: RegExp): void {
  if (module.includes(".")) refuse("it takes the name up to the first dot for the whole");
  if (names && !NAMES.test(module) && !more?.test(module)) {
    refuse("it looks for modules called lora_unet_… and lora_te_…");
  }
}

/** Whether a module has all of these tensors. */
export function has(torch: Torch, ...suffixes: string[]): boolean {
  return suffixes.every((suffix) => suffix in torch);
}

/** The number that a tensor of one is. */
export function numberOf(tensor: tf.Tensor): number {
  return tensor.dataSync()[0];
}

/** alpha / rank where both are known, of alpha 0 too; else 1. */
export function scaleAsTold({ alpha }: Torch, rank: number | undefined): number {
  return alpha && rank !== undefined ? numberOf(alpha) / rank : 1;
}
