/** Files of adapters become one, module by module, each in its smallest exact form. */
import * as tf from "@tensorflow/tfjs";
import { rowOf } from "../algorithms/table.ts";
import { type Adapter, copy, dispose } from "./adapter.ts";
import { combine, sum } from "./sum.ts";

/** The adapters of a network, and how much of them. */
export interface Part {
  readonly adapters: ReadonlyMap<string, Adapter>;
  /** s, may be negative; default 1 */
  readonly strength?: number;
}

/** What joining may need, and who is told. */
export interface JoinAllOptions {
  /** a module's kernel in the library's layout, the tensor goes over; for adapters that are no sum without it */
  base?: (module: string) => Promise<tf.Tensor | undefined>;
  /** told of every module that is done */
  onModule?: (module: string) => void;
}

/** s · ΔW as an adapter of the same kind. */
function strengthened(adapter: Adapter, strength: number): Adapter {
  if (strength === 1) return copy(adapter);
  if (!rowOf(adapter.algorithm).scaled) return sum([adapter], { strengths: [strength] });
  return { ...copy(adapter), alpha: adapter.alpha * strength };
}

/**
 * W + Σ s_j · scale_j · ΔW_j for every module of any of the parts, exact.
 *
 * What one part alone has keeps its algorithm, with s in its alpha; what several have is {@link combine}d: a LoRA of all
 * their ranks while that is smaller than the kernel, the whole difference beyond. `resizeAll` makes it smaller.
 *
 * @param parts files' adapters; a module has the same name in all of them
 * @returns adapters with tensors of their own, in the order in which the parts first name them
 * @throws {TypeError} for kernels of two shapes, or where ΔW depends on a base that there is not
 *
 * @example
 * ```ts
 * import { joinAll, loha, lora } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const style = new Map([["a", lora.create([8, 16], 2)]]);
 * const face = new Map([["a", lora.create([8, 16], 1)]]);
 * const pose = new Map([["b", loha.create([8, 16], 4)]]);
 * const all = await joinAll([
 *   { adapters: style },
 *   { adapters: face, strength: 0.5 },
 *   { adapters: pose, strength: 0.5 },
 * ]);
 * assert.is(all.get("a")!.rank, 3);
 * assert.is(all.get("b")!.alpha, 2); // 0.5 · 4
 * ```
 */
export async function joinAll(
  parts: readonly Part[],
  { base = () => Promise.resolve(undefined), onModule }: JoinAllOptions = {},
): Promise<Map<string, Adapter>> {
  const modules = new Set(parts.flatMap(({ adapters }) => [...adapters.keys()]));
  const joined = new Map<string, Adapter>();
  try {
    for (const module of modules) {
      const own = parts.flatMap(({ adapters, strength = 1 }) => {
        const adapter = adapters.get(module);
        return adapter ? [{ adapter, strength }] : [];
      });
      joined.set(module, await joinOne(module, own, base));
      onModule?.(module);
    }
  } catch (error) {
    for (const adapter of joined.values()) dispose(adapter);
    throw error;
  }
  return joined;
}

async function joinOne(
  module: string,
  own: readonly { adapter: Adapter; strength: number }[],
  base: NonNullable<JoinAllOptions["base"]>,
): Promise<Adapter> {
  const [{ adapter, strength }] = own;
  const relative = own.find(({ adapter: { algorithm, dora } }) =>
    rowOf(algorithm).relative || dora
  );
  if (own.length === 1 && (!relative || strength === 1)) return strengthened(adapter, strength);
  const kernel = relative && await base(module);
  if (relative && !kernel) {
    const { algorithm, dora } = relative.adapter;
    throw new TypeError(
      `Cannot join "${module}" as ${algorithm}${dora ? " with dora" : ""} is no sum without the ` +
        "base kernel: current base does not have it, give the checkpoint it was trained on",
    );
  }
  try {
    const strengths = own.map(({ strength }) => strength);
    return combine(own.map(({ adapter }) => adapter), { strengths, base: kernel });
  } finally {
    kernel?.dispose();
  }
}
