/**
 * The engine under TensorFlow.js: which backend computes, chosen by name or by what this machine has.
 *
 * Each engine is one file with the same exports, and joins by one row in {@link ENGINES}. Nothing here
 * touches the network. What TensorFlow.js itself can select (`tf.setBackend`) goes on working.
 */
import * as tf from "@tensorflow/tfjs";
import * as cpu from "./cpu.ts";
import { environment } from "./environment.ts";
import * as onednn from "./onednn.ts";
import * as wasm from "./wasm.ts";

/** What every engine's file exports. */
export interface Engine {
  /** the name of the engine, and of the TensorFlow.js backend it starts */
  name: string;
  /** whether it can start here: true, or the reason why not, as one sentence */
  available(): Promise<true | string>;
  /** registers its kernels with TensorFlow.js, once, and selects its backend */
  start(): Promise<void>;
}

/** Fastest first: "auto" takes the first that starts. */
const ENGINES = [onednn, wasm, cpu] as const satisfies readonly Engine[];

/** An engine of this library. */
export type EngineName = typeof ENGINES[number]["name"];

/** The backend that {@link use} selected last; undefined before. */
export let name: string | undefined;

/**
 * Selects the engine that computes from now on.
 *
 * "auto" is the environment's `LOWRANK_ENGINE` where that is set; otherwise a backend from outside this
 * library which is already selected (`tfjs-node-gpu` selects itself when imported) stays; otherwise the
 * fastest engine that starts.
 *
 * @returns the name of the backend selected
 * @throws {RangeError} when no engine has that name
 * @throws {Error} when the engine asked for, or every engine, cannot start here
 */
export async function use(choice: "auto" | EngineName = "auto"): Promise<string> {
  const asked = choice === "auto" ? environment("LOWRANK_ENGINE") ?? "auto" : choice;
  if (asked !== "auto") {
    const engine = ENGINES.find((engine) => engine.name === asked);
    if (!engine) {
      const names = ENGINES.map((engine) => engine.name).join(", ");
      throw new RangeError(
        `Cannot use engine "${asked}" as it must be one of auto, ${names}: ` +
          `current ${choice === "auto" ? "LOWRANK_ENGINE" : "name"} is ${asked}`,
      );
    }
    const obstacle = await attempt(engine);
    if (obstacle) throw new Error(`Cannot use engine "${asked}" as it must start: ${obstacle}`);
    return name = engine.name;
  }
  const selected = tf.getBackend();
  const ours = ENGINES.some((engine) => engine.name === selected);
  if (selected && !ours) return name = selected;
  const obstacles = [];
  for (const engine of ENGINES) {
    const obstacle = await attempt(engine);
    if (!obstacle) return name = engine.name;
    obstacles.push(`${engine.name}: ${obstacle}`);
  }
  throw new Error(`Cannot use any engine as one must start: ${obstacles.join("; ")}`);
}

/** Every engine, fastest first, with true where it can start or the reason why not. */
export async function list(): Promise<{ name: EngineName; available: true | string }[]> {
  const rows: { name: EngineName; available: true | string }[] = [];
  for (const engine of ENGINES) {
    rows.push({ name: engine.name, available: await engine.available() });
  }
  return rows;
}

/** Starts an engine, or says in a sentence why it cannot. */
async function attempt(engine: Engine): Promise<string | undefined> {
  const available = await engine.available();
  if (available !== true) return available;
  try {
    await engine.start();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
