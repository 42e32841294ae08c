/**
 * Max-norm regularization: a ΔW longer than allowed is shortened to it, as kohya's `scale_weight_norms` does after a
 * step (LyCORIS, `apply_max_norm`).
 *
 * The norm is that of scale · ΔW. LyCORIS skips (IA)^3, full, norm, DyLoRA and GLoRA, and multiplies T-LoRA's scale in
 * twice and then its Λ, which does not shorten a difference; here every algorithm is held to what was asked.
 */
import * as tf from "@tensorflow/tfjs";
import type { AlgorithmName } from "../algorithms/table.ts";
import { type Adapter, mapFactors, tensors } from "./adapter.ts";
import { scaled } from "./merge.ts";
import { view } from "./view.ts";

/** The factors that take the ratio, each of them whole: ΔW is linear in them together. */
const LINEAR: Record<Exclude<AlgorithmName, "lokr" | "tlora">, RegExp> = {
  lora: /^up$/,
  loha: /^up1$/,
  ia3: /^vector$/,
  dylora: /^up\d+$/,
  full: /^difference$/,
  norm: /^difference$/,
  oft: /^blocks$/,
  boft: /^blocks$/,
  glora: /^up[AB]$/,
};

/** What an adapter is multiplied by to be no longer than allowed. */
export interface Cap {
  /** the norm that it has then */
  norm: number;
  /** 1 where it is not too long */
  ratio: number;
  /** of each factor, by name */
  factors: Record<string, number>;
  /** of alpha */
  alpha: number;
}

/**
 * The multipliers that make ‖scale · ΔW‖ at most `max`; ‖B‖ for OFT and BOFT, whose length of ΔW is no measure of how
 * far they turn.
 *
 * The ratio goes into `scalar` where there is one, else into `up` (GLoRA's two), LoKr's is shared out over all factors,
 * and T-LoRA's and that of a LoRA born from the base, a difference of products that no factor scales, into alpha.
 *
 * @param base the kernel, for algorithms whose ΔW depends on it
 */
export function cap(adapter: Adapter, max: number, base?: tf.Tensor): Cap {
  if (!(max > 0)) {
    throw new RangeError(`Cannot cap a norm as it must be above 0: current norm is ${max}`);
  }
  const { algorithm, factors } = adapter, names = tensors(adapter).map(([name]) => name);
  const length = tf.tidy(() =>
    tf.norm(factors.blocks ?? scaled(view(adapter)!, base)).dataSync()[0]
  );
  const ratio = Math.min(1, max / length), norm = Math.min(length, max);
  const of = (taking: string[], share: number) =>
    Object.fromEntries(taking.map((name) => [name, share]));
  if (algorithm === "tlora" || factors.bornUp) return { norm, ratio, factors: {}, alpha: ratio };
  if (algorithm === "lokr") {
    const own = names.filter((name) => !["scalar", "magnitude"].includes(name));
    return { norm, ratio, factors: of(own, ratio ** (1 / own.length)), alpha: 1 };
  }
  const taking = factors.scalar ? ["scalar"] : names.filter((name) => LINEAR[algorithm].test(name));
  return { norm, ratio, factors: of(taking, ratio), alpha: 1 };
}

/**
 * The adapter, no longer than allowed.
 *
 * @returns a value with tensors of its own
 */
export function capped(adapter: Adapter, max: number, base?: tf.Tensor): Adapter {
  const { factors, alpha } = cap(adapter, max, base);
  const shorter = mapFactors(adapter, (tensor, name) => tf.mul(tensor, factors[name] ?? 1));
  return { ...shorter, alpha: adapter.alpha * alpha };
}
