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
import * as tensorflow from "./tensorflow.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

/** An engine of this library. */
export type EngineName = "onednn" | "tensorflow" | "webgpu" | "wasm" | "cpu";

/** What every engine's file exports. */
export interface Engine {
  /** the name of the engine, and of the TensorFlow.js backend it starts */
  name: EngineName;
  /** whether it can start here: true, or the reason why not, as one sentence */
  available(): Promise<true | string>;
  /** registers its kernels with TensorFlow.js, once, and selects its backend */
  start(): Promise<void>;
  /** whether it comes before all others on this machine; it does not if left out */
  preferred?(): boolean | Promise<boolean>;
  /** what it computes on, once it has started */
  device?(): string | undefined;
  /** keeps a tensor in half its memory; it cannot if left out */
  halve?(tensor: tf.Tensor): void;
}

/** Fastest first where there is no GPU. */
const ENGINES: readonly Engine[] = [onednn, tensorflow, wasm, webgpu, cpu];

/** Fastest first: "auto" takes the first that starts. */
async function ordered(): Promise<Engine[]> {
  const preferred: Engine[] = [], others: Engine[] = [];
  for (const engine of ENGINES) (await engine.preferred?.() ? preferred : others).push(engine);
  return [...preferred, ...others];
}

/** The backend that {@link use} selected last; undefined before. */
export let name: string | undefined;

/**
 * Selects the engine that computes from now on.
 *
 * "auto" is the environment's `LOWRANK_ENGINE` where that is set; otherwise a backend from outside this
 * library, which the program selected or registered (importing `tfjs-node-gpu` does both); otherwise the
 * fastest engine that starts.
 *
 * @returns the name of the backend selected
 * @throws {RangeError} when no engine has that name
 * @throws {Error} when the engine asked for, or every engine, cannot start here
 */
export async function use(choice: "auto" | EngineName = "auto"): Promise<string> {
  const told = choice === "auto" ? environment("LOWRANK_ENGINE") : undefined;
  const asked = told ?? choice;
  if (asked === "auto") return name = await outside() ?? await fastest();
  return name = await start(asked, told === undefined ? "name" : "LOWRANK_ENGINE");
}

/** What the engine selected last computes on, where it tells: a library's version, a GPU. */
export function device(): string | undefined {
  return ENGINES.find((engine) => engine.name === name)?.device?.();
}

/**
 * Keeps a float32 tensor's numbers in bfloat16 from now on, in half the memory, and makes float32 of them each time
 * that they are used: for the frozen weights of a base. Only the engine `tensorflow` can.
 *
 * Every number is rounded to 8 binary digits, once and for good, by 2⁻⁸ of itself at most. Measured on normal random
 * numbers: weights are off by 0.17 % (root mean square), a matrix product of them by as much, and a network of 16
 * such layers with ReLU by 0.7 %. 512 MiB of weights took 261 MiB of the process.
 *
 * @throws {Error} on another engine
 * @throws {TypeError} for a tensor that is not float32
 */
export function halve(tensor: tf.Tensor): void {
  if (tensor.dtype !== "float32") {
    throw new TypeError(
      `Cannot halve a tensor as it must be float32: current type is ${tensor.dtype}`,
    );
  }
  const engine = ENGINES.find((engine) => engine.name === name);
  if (engine?.halve) return engine.halve(tensor);
  throw new Error(
    `Cannot halve a tensor as its engine must be tensorflow: current engine is ${name}`,
  );
}

/** The engines, fastest first on this machine, whether they can start or not. */
export async function names(): Promise<EngineName[]> {
  return (await ordered()).map(({ name }) => name);
}

/** Every engine, fastest first, with true where it can start or the reason why not. */
export async function list(): Promise<{ name: EngineName; available: true | string }[]> {
  const rows: { name: EngineName; available: true | string }[] = [];
  for (const engine of await ordered()) {
    rows.push({ name: engine.name, available: await engine.available() });
  }
  return rows;
}

/** Backends that importing TensorFlow.js or this library registers: nobody asked for those. */
const OWN: string[] = ["webgl", ...ENGINES.map((engine) => engine.name)];

/** A backend that the program selected itself, or else registered; undefined where it did neither. */
async function outside(): Promise<string | undefined> {
  const selected = tf.getBackend();
  if (selected && !OWN.includes(selected)) return selected;
  const registered = Object.entries(tf.engine().registryFactory)
    .filter(([name]) => !OWN.includes(name))
    .sort(([, a], [, b]) => b.priority - a.priority);
  for (const [name] of registered) if (await tf.setBackend(name)) return name;
}

async function fastest(): Promise<string> {
  const obstacles = [];
  for (const engine of await ordered()) {
    const obstacle = await attempt(engine);
    if (!obstacle) return engine.name;
    obstacles.push(`${engine.name}: ${obstacle}`);
  }
  throw new Error(`Cannot use any engine as one must start: ${obstacles.join("; ")}`);
}

/** Starts the engine of a name, which came from an argument or a variable. */
async function start(asked: string, from: string): Promise<string> {
  const engine = ENGINES.find((engine) => engine.name === asked);
  if (!engine) {
    const names = ENGINES.map((engine) => engine.name).join(", ");
    throw new RangeError(
      `Cannot use engine "${asked}" as it must be one of auto, ${names}: current ${from} is ${asked}`,
    );
  }
  const obstacle = await attempt(engine);
  if (obstacle) throw new Error(`Cannot use engine "${asked}" as it must start: ${obstacle}`);
  return engine.name;
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
