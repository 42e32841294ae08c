/** Adapters merged into a checkpoint that is written anew, a tensor in memory at a time, and taken out again. */
import { resolve } from "node:path";
import * as backups from "./backup.ts";
import { type Checkpoint, type CheckpointFile, openCheckpoint } from "./checkpoint.ts";
import { writeCheckpoint } from "./checkpoint_write.ts";
import { HALF_UNIT } from "./dtypes.ts";
import { type MergePart, type Note, type Plan, planMerge } from "./merge_plan.ts";
import { changedTensor, type Way } from "./merge_values.ts";
import type { Place } from "./source.ts";

export type { MergePart, Note } from "./merge_plan.ts";

/** How a checkpoint is written. */
export interface WriteOptions {
  /** only look, and write nothing */
  dryRun?: boolean;
  /** told of every tensor that is written */
  onTensor?: (done: number, total: number) => void;
}

/** What merging may do, and what it keeps. */
export interface MergeIntoOptions extends WriteOptions {
  /** go on without adapters that the checkpoint has no place for, and without keys that are no adapter's */
  skipMissing?: boolean;
  /** a file for what `unmergeFrom` needs to give the checkpoint back bit for bit: the tensors that change, as they were */
  backup?: string;
}

/** What merging did, or would do. */
export interface MergedInto {
  /** of all files */
  bytes: number;
  tensors: number;
  /** keys of tensors that changed */
  changed: string[];
  /** of each part: how many modules it changed, and what was left out */
  parts: (Note & { modules: number; missing: string[] })[];
  /** bytes of the backup, if there is one */
  backup?: number;
}

/** The key of a checkpoint's metadata that tells what was merged into it. */
export const MERGED = "lowrank.merged";

/** What a checkpoint says was merged into it, the first first. */
export function notesOf({ files }: Pick<Checkpoint, "files">): Note[] {
  for (const { tensors: { metadata } } of files) {
    if (!(MERGED in metadata)) continue;
    try {
      const notes = JSON.parse(metadata[MERGED]);
      if (Array.isArray(notes)) return notes;
    } catch {
      continue; // another's text under our key tells nothing
    }
  }
  return [];
}

/** The metadata of the files that change, with other notes. */
function noting(changes: ReadonlyMap<string, unknown>, notes: readonly Note[]) {
  return ({ path, prefix, tensors: { tensors, metadata } }: CheckpointFile) => {
    const { [MERGED]: old, ...rest } = metadata;
    const changed = [...tensors.keys()].some((key) => changes.has(prefix + key));
    if (path !== "" && !changed && old === undefined) return undefined;
    return notes.length > 0 ? { ...rest, [MERGED]: JSON.stringify(notes) } : rest;
  };
}

/** Throws if any adapter has no place. */
function refuseMissing({ missing, notes }: Plan, way: Way): void {
  const lost = notes.map(({ file }, i) => ({ file, names: missing[i] }));
  const found = lost.filter(({ names }) => names.length > 0);
  if (found.length === 0) return;
  const told = found.map(({ file, names }) => {
    const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
    return `${names.slice(0, 5).join(", ")}${more} of "${file}"`;
  });
  throw new RangeError(
    `Cannot ${way} as every adapter must be for one module of the checkpoint, and every key an adapter's: ` +
      `current ones that are not are ${
        told.join("; ")
      }; give the checkpoint that they are for, or ` +
      "skipMissing (--skip-missing) to leave them out",
  );
}

/** Counts what is written. */
function counter({ tensors }: Checkpoint, { onTensor }: WriteOptions): () => void {
  let done = 0;
  return () => onTensor?.(++done, tensors.size);
}

/** The bytes of every tensor that changes, by key, each computed when its turn comes. */
function changesOf(
  checkpoint: Checkpoint,
  { weights, biases }: Plan,
  way: Way,
  told: (key: string, largest: { before: number; after: number }) => void = () => {},
): Map<string, () => Promise<Uint8Array>> {
  const sides = [["weight", weights], ["bias", biases]] as const;
  return new Map(sides.flatMap(([side, all]) =>
    [...all].map(([key, uses]) => {
      const make = async () => {
        const { bytes, largest } = await changedTensor(checkpoint, key, uses, side, way);
        told(key, largest);
        return bytes;
      };
      return [key, make] as const;
    })
  ));
}

/**
 * W′ = W + Σ s · scale · ΔW for every module that any of the parts adapts, written as a new checkpoint.
 *
 * The parts are merged in order, in float32, and the result is rounded once to the dtype that the weight has; tensors
 * that no part changes are copied byte for byte. Order, metadata and form (one file, shards, a pipeline's folder) stay;
 * hashes among the metadata are made right, and `lowrank.merged` tells what was merged.
 *
 * A number too large for its dtype is refused, in E4M3 too, where PyTorch would write 448: a merge that clips is another
 * than was asked for. F8 keeps 4 or 3 bits of a number, so that what changes one by less than 1/32 of it (E5M2: 1/16) leaves
 * it as it was: a base of 16 bits takes in far more.
 *
 * @param base see `openCheckpoint`
 * @param output replaced if it is there, at once; it may be the base itself
 * @throws {RangeError} for adapters that the checkpoint has no place for, unless `skipMissing`; for numbers that are not
 * finite
 * @throws {TypeError} for an adapter that does not fit its module, or a weight that is not F32, F16, BF16 or F8, or F8
 * with a scale beside it
 *
 * @example
 * ```ts
 * import { files, full, tf } from "lowrank";
 * import { serialize } from "lowrank/safetensors";
 * import { mkdtemp, rm } from "node:fs/promises";
 * import { tmpdir } from "node:os";
 * import * as assert from "uvu/assert";
 *
 * const bytes = new Uint8Array(Float32Array.of(1, 2).buffer);
 * const base = serialize([["head.weight", { dtype: "F32", shape: [1, 2], bytes }]]);
 * const adapter = { ...full.create([2, 1]), factors: { difference: tf.tensor([[4], [0]]) } };
 * const place = await files.encode(new Map([["head", adapter]]));
 *
 * const folder = await mkdtemp(`${tmpdir()}/lowrank-`), out = `${folder}/out.safetensors`;
 * await files.mergeInto(base, [{ place, strength: -0.5 }], out);
 * await using merged = await files.openCheckpoint(out);
 * const kernel = await files.readKernel(merged, merged.modules.get("head")!);
 * assert.equal(kernel.arraySync(), [[-1], [2]]); // [I, O]
 * await rm(folder, { recursive: true });
 * ```
 */
export async function mergeInto(
  base: Place,
  parts: readonly MergePart[],
  output: string,
  options: MergeIntoOptions = {},
): Promise<MergedInto> {
  const { skipMissing = false, backup, dryRun = false } = options;
  if (backup !== undefined && resolve(backup) === resolve(output)) {
    throw new RangeError(
      `Cannot merge into "${output}" as the backup is a file of its own: current name is the same`,
    );
  }
  await using checkpoint = await openCheckpoint(base);
  await using plan = await planMerge(checkpoint, parts);
  if (!skipMissing) refuseMissing(plan, "merge");
  const changes = changesOf(checkpoint, plan, "merge");
  const notes = [...notesOf(checkpoint), ...plan.notes];
  if (!dryRun && backup !== undefined) {
    await backups.write(backup, checkpoint, [...changes.keys()], notes);
  }
  if (!dryRun) {
    await writeCheckpoint(output, checkpoint, {
      changes,
      metadata: noting(changes, notes),
      onTensor: counter(checkpoint, options),
    });
  }
  return {
    bytes: backups.tensorBytes(checkpoint),
    tensors: checkpoint.tensors.size,
    changed: [...changes.keys()],
    parts: plan.notes.map((note, i) => ({
      ...note,
      modules: plan.counts[i],
      missing: plan.missing[i],
    })),
    ...(backup !== undefined && { backup: backups.tensorBytes(checkpoint, [...changes.keys()]) }),
  };
}

/** What unmerging did, or would do. */
export interface UnmergedFrom {
  bytes: number;
  tensors: number;
  /** keys of tensors that changed */
  changed: string[];
  /** whether the checkpoint is bit for bit what it was */
  exact: boolean;
  /**
   * without a backup: about how far any number may be from what it was, as a share of the largest of its tensor, and
   * which tensor that is
   */
  error?: { share: number; tensor: string };
}

const sameNote = (a: Note, b: Note) =>
  a.strength === b.strength && a.textEncoder === b.textEncoder && a.blocks === b.blocks;

/**
 * The notes that stay when the parts go.
 *
 * @throws {RangeError} when the last that were merged are others
 */
function withoutLast(before: readonly Note[], gone: readonly Note[]): readonly Note[] {
  if (before.length === 0) return [];
  const left = before.length - gone.length, last = before.slice(Math.max(0, left));
  if (left >= 0 && last.every((note, i) => sameNote(note, gone[i]))) return before.slice(0, left);
  throw new RangeError(
    `Cannot unmerge ${JSON.stringify(gone)} as the last that were merged go first: ` +
      `current ${MERGED} is ${JSON.stringify(before)}`,
  );
}

/**
 * W = W′ − Σ s · scale · ΔW: the inverse of {@link mergeInto} with the same parts in the same order.
 *
 * With a backup the checkpoint is what it was bit for bit, header and all, and the parts are not needed. Without, each
 * number was rounded when it was merged and is again now: the answer tells how far it may be off.
 *
 * @throws {TypeError} without a backup for DoRA, GLoRA and T-LoRA, whose W′ does not tell W
 * @throws {RangeError} for parts that are not the last that were merged, or another checkpoint's backup
 *
 * @example
 * ```ts
 * import { files, full } from "lowrank";
 * import { serialize } from "lowrank/safetensors";
 * import { mkdtemp, readFile, rm } from "node:fs/promises";
 * import { tmpdir } from "node:os";
 * import * as assert from "uvu/assert";
 *
 * const bytes = new Uint8Array(Float32Array.of(1, 2).buffer);
 * const base = serialize([["head.weight", { dtype: "F32", shape: [1, 2], bytes }]]);
 * const place = await files.encode(new Map([["head", full.create([2, 1])]]));
 *
 * const folder = await mkdtemp(`${tmpdir()}/lowrank-`), [out, back, backup] = ["out", "back", "backup"]
 *   .map((name) => `${folder}/${name}.safetensors`);
 * await files.mergeInto(base, [{ place }], out, { backup });
 * const { exact } = await files.unmergeFrom(out, [], back, { backup });
 * assert.ok(exact);
 * assert.equal(new Uint8Array(await readFile(back)), base);
 * await rm(folder, { recursive: true });
 * ```
 */
export async function unmergeFrom(
  merged: Place,
  parts: readonly MergePart[],
  output: string,
  options: MergeIntoOptions = {},
): Promise<UnmergedFrom> {
  const { backup, skipMissing = false, dryRun = false } = options;
  await using checkpoint = await openCheckpoint(merged);
  const facts = { bytes: backups.tensorBytes(checkpoint), tensors: checkpoint.tensors.size };
  const onTensor = counter(checkpoint, options), notes = notesOf(checkpoint);
  if (backup !== undefined) {
    await using kept = await backups.open(backup, checkpoint, notes);
    const { changes, header } = kept;
    if (!dryRun) await writeCheckpoint(output, checkpoint, { changes, header, onTensor });
    return { ...facts, changed: [...changes.keys()], exact: true };
  }
  await using plan = await planMerge(checkpoint, parts);
  if (!skipMissing) refuseMissing(plan, "unmerge");
  const left = withoutLast(notes, plan.notes);
  let error = { share: 0, tensor: "" };
  const steps = parts.length; // each rounds to float32
  const changes = changesOf(checkpoint, plan, "unmerge", (tensor, { before, after }) => {
    const unit = HALF_UNIT[checkpoint.tensors.get(tensor)!.dtype]!;
    const off = unit + steps * HALF_UNIT.F32!;
    const share = off * (Math.max(before, after) + after) / (after || 1);
    if (share > error.share) error = { share, tensor };
  });
  if (!dryRun) {
    await writeCheckpoint(output, checkpoint, {
      changes,
      metadata: noting(changes, left),
      onTensor,
    });
  }
  return {
    ...facts,
    changed: [...changes.keys()],
    exact: changes.size === 0,
    ...(changes.size > 0 && !dryRun && { error }),
  };
}
