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

/**
 * After it is loaded: `LOWRANK_THREADS` threads; without that what `OMP_NUM_THREADS` says, or the cores.
 *
 * @throws {RangeError} where `LOWRANK_THREADS` is no whole number above 0
 */
export function limit(ffi: Foreign, path: string): void {
  const asked = environment("LOWRANK_THREADS"),
    count = Number(asked ?? navigator.hardwareConcurrency);
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(
      `Cannot set LOWRANK_THREADS as it must be a whole number above 0: current value is ${asked}`,
    );
  }
  if (!asked && environment("OMP_NUM_THREADS")) return;
  try {
    ffi.open(path, { omp_set_num_threads: "i:v" }).omp_set_num_threads(count);
  } catch {
    // built on other threads than OpenMP's: it keeps its own number
  }
}
