/** Whether an adapter is in a checkpoint, and at what strength. */
import { type Adapter, dispose } from "../adapter/adapter.ts";
import { energyOf } from "../adapter/matrices.ts";
import { type Fitted, type Projected, projected, strengthOf } from "../adapter/strength_of.ts";
import { rowOf } from "../algorithms/table.ts";
import { adaptersOf, openModules, type OpenOptions } from "./adapter_modules.ts";
import { type Checkpoint, openCheckpoint, readKernel } from "./checkpoint.ts";
import type { CheckpointModule } from "./checkpoint_modules.ts";
import { type Dtype, HALF_UNIT } from "./dtypes.ts";
import { rename } from "./names.ts";
import type { Place } from "./source.ts";

/** What layers together tell of the strength. */
export interface Estimate {
  /** the s that explains most; 0 is not there */
  strength: number;
  /** with the base: ‖W′ − W − s·ΔW‖ / ‖W′ − W‖, 1 where nothing is explained; none where W′ is W */
  residual?: number;
  /** by how much s may be off by chance, one standard deviation */
  deviation: number;
}

/** What a layer tells. */
export interface VerifiedLayer extends Estimate {
  name: string;
}

/** Whether an adapter is in a checkpoint. */
export interface Verified extends Estimate {
  /**
   * - `yes`: the adapter is all that differs from the base, up to how the checkpoint stores numbers
   * - `among others`: it is there at the strength told, and other changes are too
   * - `no`: nothing of it is there
   * - `likely`: without the base, it lies along ΔW more than chance does
   * - `unknown`: without the base, no more than chance: give the base
   */
  verdict: "yes" | "among others" | "no" | "likely" | "unknown";
  /** whether W′ − W was compared with ΔW, or W′ alone projected on it */
  by: "difference" | "projection";
  /** the same for the networks of a pipeline, by their names in diffusers */
  networks: Record<string, Estimate>;
  layers: VerifiedLayer[];
  /** adapters that the checkpoint has no module for */
  missing: string[];
}

/** How it is looked for. */
export interface VerifyOptions extends OpenOptions {
  /** the checkpoint that the adapter was merged into */
  base?: Place;
  /** told of every module that is done, of so many */
  onModule?: (done: number, all: number) => void;
}

/** How many standard deviations are no chance. */
const CLEAR = 6;

/**
 * Whether an adapter is in a checkpoint and how strong: with the base by least squares of W′ − W on what the adapter
 * adds, over all layers and each; without it by projecting W′ on ΔW, where moved ΔW tell what chance gives.
 *
 * The projection takes for s what training of ΔW had in common with W, too: it finds an adapter and does not measure it.
 * One layer of both checkpoints is in memory at a time.
 *
 * @param model W′: a checkpoint, in any form that is opened
 * @param adapter a file of adapters of any dialect
 * @throws {TypeError} without the base for an adapter whose ΔW depends on it
 * @throws {RangeError} when the checkpoint has none of the adapter's modules
 *
 * @example
 * ```ts ignore
 * import { verify } from "lowrank";
 *
 * const { verdict, strength } = await verify("merged.safetensors", "style.safetensors", {
 *   base: "base.safetensors",
 * });
 * console.log(verdict, strength); // "yes" 0.8
 * ```
 */
export async function verify(
  model: Place,
  adapter: Place,
  { base, onModule, ...options }: VerifyOptions = {},
): Promise<Verified> {
  await using file = await openModules(adapter, options);
  await using one = await openCheckpoint(model);
  await using two = base === undefined ? undefined : await openCheckpoint(base);
  const found: [name: string, network: string, told: Told][] = [], missing: string[] = [];
  let done = 0;
  for await (const { name, adapter } of adaptersOf(file)) {
    try {
      const [own, before] = [moduleOf(one, name), two && moduleOf(two, name)];
      if (!own || (two && !before)) missing.push(name);
      else {
        const told = await layer(name, adapter, [one, own], two && before && [two, before]);
        found.push([name, networkOf(own.name), told]);
      }
    } finally {
      dispose(adapter);
    }
    onModule?.(++done, file.modules.size);
  }
  if (found.length === 0) {
    throw new RangeError(
      `Cannot verify an adapter as its modules must be the checkpoint's: current modules are ` +
        `${missing.slice(0, 3).join(", ") || "none"}`,
    );
  }
  const all = found.map(([, , told]) => told), total = estimate(all);
  const networks = Object.fromEntries(
    [...Map.groupBy(found, ([, network]) => network)].map(([network, own]) =>
      [network, estimate(own.map(([, , told]) => told))] as const
    ),
  );
  return {
    verdict: base === undefined ? guess(total) : judged(total, all),
    by: base === undefined ? "projection" : "difference",
    ...total,
    networks,
    layers: found.map(([name, , told]) => ({ name, ...estimate([told]) })),
    missing,
  };
}

/** A layer's sums, and the square of what storing both kernels may have moved. */
type Told = { fitted: Fitted; stored: number } | { projected: Projected };

/** The network that a module's name in diffusers begins with. */
const networkOf = (name: string) => /^(unet|text_encoder(_\d)?)\./.exec(name)?.[1] ?? "network";

/** A checkpoint's module by any of its names; none where it has no such. */
function moduleOf({ model, modules }: Checkpoint, name: string): CheckpointModule | undefined {
  try {
    const [own] = rename(new Map([[name, true]]), { to: "diffusers", model }).keys();
    return modules.get(own);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

async function layer(
  name: string,
  adapter: Adapter,
  [checkpoint, module]: [Checkpoint, CheckpointModule],
  before?: [Checkpoint, CheckpointModule],
): Promise<Told> {
  const relative = rowOf(adapter.algorithm).relative || adapter.dora;
  if (!before && relative) {
    throw new TypeError(
      `Cannot look for "${name}" as what it adds depends on the base kernel: ` +
        "current base is none, give the checkpoint that it was merged into",
    );
  }
  const W = await readKernel(checkpoint, module);
  try {
    if (!before) return { projected: projected(adapter, W) };
    const base = await readKernel(...before);
    try {
      const fitted = strengthOf(adapter, base, W);
      const unit = (dtype: Dtype) => HALF_UNIT[dtype] ?? 0;
      // rounding moves a number by up to u |w|, evenly: u² w² / 3
      const stored = energyOf(W) * (unit(module.dtype) ** 2 + unit(before[1].dtype) ** 2) / 3;
      return { fitted, stored };
    } finally {
      base.dispose();
    }
  } finally {
    W.dispose();
  }
}

const add = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

/** What layers together tell. */
function estimate(layers: readonly Told[]): Estimate {
  const fits = layers.flatMap((told) => "fitted" in told ? told.fitted : []);
  if (fits.length === 0) {
    return projection(layers.flatMap((told) => "projected" in told ? told.projected : []));
  }
  const weight = add(fits.map(({ weight }) => weight));
  const strength = weight > 0
    ? add(fits.map(({ strength, weight }) => strength * weight)) / weight
    : 0;
  const rest = add(
    fits.map(({ strength: own, weight, rest }) => rest + (strength - own) ** 2 * weight),
  );
  const all = add(fits.map(({ all }) => all)), count = add(fits.map(({ count }) => count));
  return {
    strength,
    ...(all > 0 && { residual: Math.sqrt(rest / all) }),
    deviation: weight > 0 ? Math.sqrt(rest / count / weight) : 0,
  };
}

function projection(layers: readonly Projected[]): Estimate {
  const weight = add(layers.map(({ weight }) => weight));
  if (weight === 0) return { strength: 0, deviation: 0 };
  const moves = layers[0].chance.map((_, move) => add(layers.map(({ chance }) => chance[move])));
  return {
    strength: add(layers.map(({ shared }) => shared)) / weight,
    deviation: Math.sqrt(add(moves.map((move) => move * move)) / moves.length) / weight,
  };
}

/** With the base. */
function judged(total: Estimate, layers: readonly Told[]): Verified["verdict"] {
  const { strength, residual = 0, deviation } = total;
  const all = add(layers.map((told) => "fitted" in told ? told.fitted.all : 0));
  const stored = add(layers.map((told) => "fitted" in told ? told.stored : 0));
  if (all === 0 || Math.abs(strength) <= CLEAR * deviation) return "no";
  return residual <= Math.max(1e-3, 2 * Math.sqrt(stored / all)) ? "yes" : "among others";
}

/** Without. */
function guess({ strength, deviation }: Estimate): Verified["verdict"] {
  return Math.abs(strength) > CLEAR * deviation && deviation > 0 ? "likely" : "unknown";
}
