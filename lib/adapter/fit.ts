/** An adapter that stands for a ΔW, and how well. */
import type { Adapter } from "./adapter.ts";

/** How well an adapter stands for a ΔW. */
export interface Quality {
  /** ‖ΔW‖, the Frobenius norm of what it stands for */
  readonly norm: number;
  /** ‖ΔW − ΔW′‖ / ‖ΔW‖, 0 where ΔW is 0 */
  readonly error: number;
  /** the share of ‖ΔW‖² that is kept: 1 − error² */
  readonly energy: number;
}

/** An adapter found for a ΔW; its tensors are the caller's. */
export interface Fit extends Quality {
  readonly adapter: Adapter;
}

/** A fit from its norm and error. */
export function fit(adapter: Adapter, norm: number, error: number): Fit {
  return { adapter, norm, error, energy: 1 - error * error };
}
