/** Where oneDNN may lie on this machine, and opening the first that works. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { cacheFolder } from "../cache.ts";
import { allowed, environment } from "../environment.ts";
import { type Foreign, foreign } from "../ffi.ts";
import { type Dnnl, open } from "./api.ts";
import { prepare, type Threads, threads } from "./threads.ts";

/** The names of the library's file, newest version first. */
const NAMES: Record<string, string[]> = {
  linux: ["libdnnl.so.3", "libdnnl.so.2"],
  darwin: ["libdnnl.3.dylib", "libdnnl.2.dylib"],
  win32: ["dnnl.dll"],
};

/** Paths to try in order: the one that the environment names, alone; else the cache's, then the system's. */
function candidates(): string[] {
  const chosen = environment("LOWRANK_ONEDNN");
  if (chosen) return [chosen];
  const names = NAMES[process.platform] ?? [], folder = cacheFolder("onednn");
  const kept = folder ? names.map((name) => join(folder, name)) : [];
  return [...kept.filter((path) => allowed({ name: "read", path }) && existsSync(path)), ...names];
}

/** An open library and the functions that opened it. */
export interface Library {
  dnnl: Dnnl;
  ffi: Foreign;
  threads: Threads;
}

/**
 * The first oneDNN that opens.
 *
 * @throws {Error} that says in one line why there is none
 */
export async function find(): Promise<Library> {
  const ffi = await foreign();
  prepare(ffi);
  const obstacles: string[] = [];
  for (const path of candidates()) {
    try {
      return { dnnl: open(ffi, path), ffi, threads: threads(ffi, path) };
    } catch (error) {
      obstacles.push((error as Error).message.split("\n")[0]);
    }
  }
  throw new Error(obstacles.join("; ") || `oneDNN is not known on ${process.platform}`);
}
