/** How many threads oneDNN computes with, and how they wait for work: both are its OpenMP library's to know. */
import process from "node:process";
import { environment } from "../environment.ts";
import type { Foreign } from "../ffi.ts";

/** Turns that a thread without work makes before it sleeps; OpenMP's own 300,000 starve what else runs. */
const SPINS = "1000";

/**
 * Before the library is loaded: threads shall sleep soon, unless the environment says how they wait.
 *
 * OpenMP reads C's environment, which Bun's `process.env` does not reach.
 */
export function prepare(ffi: Foreign): void {
  if (process.platform !== "linux" || environment("OMP_WAIT_POLICY")) return;
  const text = (value: string) => new TextEncoder().encode(value.padEnd(64, "\0"));
  try {
    const { setenv } = ffi.open("libc.so.6", { setenv: "bbi:i" });
    setenv(text("GOMP_SPINCOUNT"), text(SPINS), 0);
  } catch {
    // no glibc: they wait as they like
  }
}

/** The threads of a library's OpenMP. */
export interface Threads {
  /** how many compute what is worth sharing */
  count: number;
  /** how many compute from now on */
  set(count: number): void;
}

/**
 * After it is loaded: `LOWRANK_THREADS` threads; without that what `OMP_NUM_THREADS` says, or the cores.
 *
 * @throws {RangeError} where `LOWRANK_THREADS` is no whole number above 0
 */
export function threads(ffi: Foreign, path: string): Threads {
  const asked = environment("LOWRANK_THREADS");
  const usual = parseInt(environment("OMP_NUM_THREADS") ?? "") || navigator.hardwareConcurrency;
  const count = Number(asked ?? usual);
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(
      `Cannot set LOWRANK_THREADS as it must be a whole number above 0: current value is ${asked}`,
    );
  }
  try {
    const { omp_set_num_threads: set } = ffi.open(path, { omp_set_num_threads: "i:v" });
    set(count);
    return { count, set };
  } catch {
    return { count, set() {} }; // built on other threads than OpenMP's: it keeps its own number
  }
}
