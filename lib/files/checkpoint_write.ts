/** A checkpoint written anew, in the form that it has: a file, or a folder with all that lies in it. */
import { randomUUID } from "node:crypto";
import { access, cp, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { Checkpoint, CheckpointFile } from "./checkpoint.ts";
import { rewrite } from "./rewrite.ts";
import { pathOf } from "./source.ts";

/** What of a checkpoint is to be another. */
export interface CheckpointChanges {
  /** bytes of tensors by the checkpoint's keys, of the same dtype and shape, asked for when their turn comes */
  changes: ReadonlyMap<string, () => Promise<Uint8Array>>;
  /** the metadata of a file, where it is another than its own */
  metadata?: (file: CheckpointFile) => Record<string, string> | undefined;
  /** the header of a file to the byte, in the place of one made of its tensors and metadata */
  header?: (file: CheckpointFile) => Uint8Array | undefined;
  /** told of every tensor that is written */
  onTensor?: () => void;
}

/** The changes of one of the files, by its own keys. */
function within(
  { prefix, tensors }: CheckpointFile,
  { changes }: CheckpointChanges,
): Map<string, () => Promise<Uint8Array>> {
  const own = [...tensors.tensors.keys()].flatMap((key) => {
    const change = changes.get(prefix + key);
    return change ? [[key, change] as const] : [];
  });
  return new Map(own);
}

/** A file with its changes; one of a folder that has none is copied. */
async function writeFile(path: string, file: CheckpointFile, all: CheckpointChanges) {
  const { tensors, place } = file;
  const changes = within(file, all), metadata = all.metadata?.(file), header = all.header?.(file);
  const from = file.path === "" || changes.size > 0 || metadata || header
    ? undefined
    : pathOf(place);
  if (from === undefined) {
    return await rewrite(path, tensors, { changes, metadata, header, onTensor: all.onTensor });
  }
  await cp(from, path, { dereference: true });
  for (const _ of tensors.tensors) all.onTensor?.();
}

/** A folder's files as they are, but for those that are told. */
async function copyRest(from: string, to: string, but: ReadonlySet<string>): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name), target = join(to, entry.name);
    if (but.has(source) || entry.name.endsWith(".partial")) continue;
    if (entry.isDirectory()) await copyRest(source, target, but);
    else if ((await stat(source)).isFile()) await cp(source, target, { dereference: true });
  }
}

/** Whether a path is another or lies below it. */
const isWithin = (path: string, folder: string) =>
  !/^\.\.([/\\]|$)/.test(relative(resolve(folder), resolve(path)));

/**
 * Writes a checkpoint with changes; `output` is never half of one.
 *
 * A file replaces what is there at once. A folder is filled beside the target, which then gives up its place to it.
 *
 * @throws {RangeError} for a folder inside the one that is read, or with a file's name
 */
export async function writeCheckpoint(
  output: string,
  checkpoint: Checkpoint,
  changes: CheckpointChanges,
): Promise<void> {
  const { folder, files } = checkpoint;
  if (folder === undefined) return await writeFile(output, files[0], changes);
  const refuse = (rule: string, current: string): never => {
    throw new RangeError(`Cannot write the checkpoint "${output}" as ${rule}: current ${current}`);
  };
  if (isWithin(output, folder) && resolve(output) !== resolve(folder)) {
    refuse("it must lie outside of the one that is read", `folder of that is "${folder}"`);
  }
  if (output.endsWith(".safetensors")) refuse("it becomes a folder", "name is a file's");
  const beside = (what: string) =>
    join(dirname(resolve(output)), `.${basename(output)}.${randomUUID()}.${what}`);
  const partial = beside("partial"), old = beside("old");
  try {
    await copyRest(folder, partial, new Set(files.map(({ path }) => join(folder, path))));
    for (const file of files) await writeFile(join(partial, file.path), file, changes);
    const there = await access(output).then(() => true, () => false);
    if (there) await rename(output, old);
    await rename(partial, output).catch(async (error) => {
      if (there) await rename(old, output);
      throw error;
    });
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}
