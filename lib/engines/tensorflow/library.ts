/** Where TensorFlow may lie on this machine, and opening the first that works. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { cacheFolder } from "../cache.ts";
import { allowed, environment } from "../environment.ts";
import { type Foreign, foreign } from "../ffi.ts";
import { type Library, open } from "./api.ts";

/** The file of Python's package that exports the C API. */
const NAME = "libtensorflow_cc.so.2";

/** What one byte of the configuration holds. */
const MOST = 127;

/** Paths in order: the environment's, alone; else the active Python venv's, the cache's. */
function candidates(): string[] {
  const chosen = environment("LOWRANK_LIBTENSORFLOW");
  if (chosen) return [chosen];
  const venv = environment("VIRTUAL_ENV");
  const kept = ["tensorflow-cuda", "tensorflow"].map(cacheFolder);
  const folders = [...(venv ? packages(join(venv, "lib")) : []), ...kept]
    .filter((folder) => folder !== undefined);
  return folders.map((folder) => join(folder, "tensorflow", NAME)).filter(present);
}

const present = (path: string) => allowed({ name: "read", path }) && existsSync(path);

/** `lib/python3.N/site-packages` of a venv. */
function packages(lib: string): string[] {
  if (!present(lib)) return [];
  return readdirSync(lib).filter((name) => name.startsWith("python"))
    .map((python) => join(lib, python, "site-packages"));
}

/** Before it is loaded: no news but errors, and float32 products in float32, unless the user says otherwise. */
function prepare(ffi: Foreign): void {
  const text = (value: string) => new TextEncoder().encode(value + "\0");
  const { setenv } = ffi.open("libc.so.6", { setenv: "bbi:i" }); // Bun's process.env does not reach it
  setenv(text("TF_CPP_MIN_LOG_LEVEL"), text("2"), 0);
  setenv(text("NVIDIA_TF32_OVERRIDE"), text("0"), 0);
}

/**
 * The first TensorFlow that opens.
 *
 * @throws {Error} that says in one line why there is none
 */
export async function find(): Promise<Library> {
  const ffi = await foreign();
  if (process.platform !== "linux") {
    throw new Error(`it is known on linux, not ${process.platform}`);
  }
  prepare(ffi);
  const obstacles: string[] = [];
  for (const path of candidates()) {
    try {
      return open(ffi, path);
    } catch (error) {
      obstacles.push((error as Error).message.split("\n")[0]);
    }
  }
  throw new Error(
    obstacles.join("; ") ||
      `${NAME} is neither in LOWRANK_LIBTENSORFLOW, nor the active venv, nor the cache`,
  );
}

/** Whether this machine has an NVIDIA card, and the library beside it the CUDA of Python's packages. */
export function accelerated(): boolean {
  const [path] = candidates();
  return path !== undefined && present("/dev/nvidiactl") && present(join(path, "../../nvidia"));
}

/**
 * The threads to compute with: `LOWRANK_THREADS`, or the cores.
 *
 * @throws {RangeError} where `LOWRANK_THREADS` is no whole number from 1 to 127
 */
export function threads(): number {
  const asked = environment("LOWRANK_THREADS");
  const count = Number(asked ?? Math.min(navigator.hardwareConcurrency, MOST));
  if (Number.isInteger(count) && count >= 1 && count <= MOST) return count;
  throw new RangeError(
    `Cannot set LOWRANK_THREADS as it must be a whole number from 1 to ${MOST}: ` +
      `current value is ${asked}`,
  );
}
