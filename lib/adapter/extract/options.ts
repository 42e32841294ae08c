/** What an extraction may be asked, and what it gives. */
import type * as tf from "@tensorflow/tfjs";
import type { Stored } from "../bytes.ts";
import type { Fit } from "../fit.ts";
import type { Cut } from "../rank.ts";

/** The algorithms that a difference is extracted as. */
export type Extractable = "lora" | "lokr" | "loha" | "ia3" | "full";

/** How a difference is extracted, by rules of {@link Cut} for the rank of a LoRA. */
export interface ExtractOptions extends Cut {
  /** default "lora"; "auto" is the one of least error for `bytes` */
  algorithm?: Extractable | "auto";
  /** what "auto" chooses from; default lora, lokr, ia3 and full: a LoHa takes many times longer to find */
  among?: readonly Extractable[];
  /** the most that the tensors may take in a file */
  bytes?: number;
  /** how that file stores numbers; default "f32" */
  dtype?: Stored;
  /** differences of at most so much are none; default 0 */
  minDiff?: number;
  /** the layer's bias in both, of which `full` takes the difference; `undefined` on one side is zero */
  bias?: { base?: tf.Tensor; tuned?: tf.Tensor };
  /** LoRA: kernels wider than one position get a core of the rank, `down` and `up` of one position */
  tucker?: boolean;
  /**
   * LoRA: when the whole difference is given instead: where the factors would be as many numbers ("smaller"), at a rank
   * of half the outputs ("half", LyCORIS's rule) or "never"; default "smaller", with `lycoris` "half" but under `tucker`
   */
  whole?: "smaller" | "half" | "never";
  /** LoRA: LyCORIS's own rules and results: rank at most I and O, its second stage of `tucker`; default the least error */
  lycoris?: boolean;
  /** LoRA: without a core, clip both factors to this quantile of their numbers, as kohya with 0.99; default not at all */
  clamp?: number;
  /** LoRA: what the adapter misses is given too, but for this share of its numbers, the smallest */
  sparsity?: number;
  /** LoKr, whose large part has the `rank`, and is whole without one: default the factor that keeps most energy a byte */
  factor?: number;
  /** LoHa, of rank 4 unless told: random starts beyond the two from singular vectors; default 2 */
  restarts?: number;
  /** LoHa: the most sweeps over all factors; default 60 */
  sweeps?: number;
  /** LoHa: of the random starts; default 0 */
  seed?: number;
  /** (IA)^3: one number an input channel; default whichever misses less */
  onInput?: boolean;
}

/** What an adapter misses, where it misses most. */
export interface Sparse {
  /** places in the kernel's numbers, as they lie */
  readonly indices: Uint32Array;
  /** what is to be added there */
  readonly values: Float32Array;
  /** ‖ΔW − ΔW′‖ / ‖ΔW‖ with it */
  readonly error: number;
}

/** An extracted adapter. */
export interface Extracted extends Fit {
  /** singular values of ΔW as far as they were needed, where they were */
  readonly s?: Float64Array;
  /** with `sparsity` */
  readonly sparse?: Sparse;
  /** ‖Δb‖ of a bias that the adapter does not hold */
  readonly missedBias?: number;
}

/** One way to extract a difference, before it is done. */
export interface Choice {
  readonly algorithm: Extractable;
  /** what `extract` is to be told */
  readonly options: ExtractOptions;
  /** what its tensors take in a file */
  readonly bytes: number;
  /** ‖ΔW − ΔW′‖² at the most */
  readonly loss: number;
}
