/**
 * The contract that every algorithm keeps, read first.
 *
 * An algorithm is a module with five exports in this order: `Factors` (a type), `init`, `delta`,
 * `bypass`, `cost`. It knows the mathematics of ΔW and nothing of alpha, strength, layers or files:
 * `W′ = W + s · scale · ΔW` is put together one floor up, in `lib/adapter/`.
 *
 * Where W′ is another function of s, `adapt` says which; where ΔW is a function of W, `restore` says how W comes
 * back, if it does.
 */
import type { Tensor } from "@tensorflow/tfjs";
import type { Geometry } from "../tensor/geometry.ts";
import type { Shape } from "../tensor/shape.ts";
import type { Birth } from "./principal.ts";

/**
 * Tensors by name. In every algorithm `down` is the input side, `up` the output side, `core` a Tucker core, and
 * `bias` what is added to the layer's bias at strength 1.
 */
export type Factors = { readonly [name: string]: Tensor | undefined };

/** What shapes the factors at birth; each algorithm reads the part that it names in `table.ts`. */
export interface InitOptions {
  /** the same seed gives the same factors on every engine and runtime; default 0 */
  seed?: number;
  /** a core of the kernel's size between `down` and `up`, which then are pointwise; wide kernels only */
  tucker?: boolean;
  /** a trainable number, born 0, multiplies ΔW; then no factor needs to be born zero (LyCORIS `use_scalar`) */
  scalar?: boolean;
  /** LoRA: from the largest singular triplets of the base, or from its QR; default: random and zero */
  init?: Birth;
  /** LoKr: the wanted smaller part of the channels, −1 for the most square split */
  factor?: number;
  /** LoKr: the small matrix is low rank too, where that is smaller (LyCORIS `decompose_both`) */
  decomposeBoth?: boolean;
  /** LoKr: the large matrix is whole, whatever the rank (LyCORIS `full_matrix`) */
  full?: boolean;
  /** LoKr: the output is split the other way round (LyCORIS `unbalanced_factorization`) */
  unbalanced?: boolean;
  /** DyLoRA: ranks trained together in a step (LyCORIS `block_size`); default 4, or the rank if it is less */
  block?: number;
  /** full, norm: the layer has a bias, and it is adapted too; default false */
  bias?: boolean;
  /** OFT, BOFT: a number an output channel multiplies what is rotated (LyCORIS `rescaled`) */
  rescaled?: boolean;
  /** T-LoRA: the singular triplets of the base that it starts from (LyCORIS `sig_type`); default "principal" */
  triplets?: Triplets;
  /** the kernel that the adapter is for, where its birth depends on it: T-LoRA, DoRA, and LoRA's `init` */
  base?: Tensor;
  /** (IA)^3: one number an input channel instead of an output channel (LyCORIS `train_on_input`) */
  onInput?: boolean;
}

/** The largest singular values of a kernel and their vectors, the smallest, or those in between. */
export type Triplets = "principal" | "last" | "middle";

/** What of an adapter is no tensor, and read by its algorithm. */
export interface Settings {
  /** T-LoRA: as at birth; default "principal" */
  triplets?: Triplets;
}

/** What a bypass may read besides the input: the base kernel, and the base's output without bias. */
export interface Surroundings extends Settings {
  /** `[...k, I/G, O]` */
  base?: Tensor;
  /** op(x; W), `[N, ...out, O]` */
  output?: Tensor;
  /** s, read by an algorithm that has `adapt`; default 1 */
  strength?: number;
}

/** Where the multiply-adds of {@link Cost} are counted. */
export interface CostOptions extends InitOptions {
  /** lengths of the output in space, for one example; default 1: one position, as in a dense layer */
  output?: Shape;
  /** lengths of the input in space; default: the output's */
  input?: Shape;
  /** examples in a step; default 1 */
  batch?: number;
  /** count these factors, rather than those that the options would give birth to */
  factors?: Factors;
}

/** Multiply-adds: of a forward pass, and of a training step (forward and every gradient). */
export interface Work {
  forward: number;
  training: number;
}

/** Parameters and multiply-adds of a layer and of its adapter, by the route taken. */
export interface Cost {
  /** numbers that are trained and stored */
  parameters: number;
  /** the frozen layer alone: its forward, and the gradient of its input */
  base: Work & { parameters: number };
  /** what the activation side adds to the base: op(x; ΔW) through the factors */
  bypass: Work;
  /** what the weight side adds to the base: ΔW, its sum with W, and in training the gradient of W′ */
  rebuild: Work;
  /** what W′ with the factors' gradients through their bottleneck adds, where there is a bottleneck */
  hybrid?: Work;
}

/** A module of this folder; `import * as lora` is one. */
export interface Algorithm<F extends Factors> {
  /** Factors of a kernel `[...k, I/G, O]`, born so that ΔW = 0. */
  init(shape: Shape, rank: number, options?: InitOptions): F;
  /** ΔW, unscaled, `[...k, I/G, O]`. */
  delta(factors: F, base?: Tensor, settings?: Settings): Tensor;
  /** op(x; ΔW), unscaled and without bias, building ΔW only where there is no other way; op(x; W′ − W) with `adapt`. */
  bypass(factors: F, x: Tensor, geometry?: Geometry, around?: Surroundings): Tensor;
  /** Parameters and multiply-adds, counted from shapes alone. */
  cost(shape: Shape, rank: number, options?: CostOptions): Cost;
  /** W′ at strength s, where it is not W + s · ΔW. */
  adapt?(factors: F, base: Tensor, strength: number): Tensor;
  /** W from W′ at strength s, where ΔW depends on W. */
  restore?(factors: F, merged: Tensor, strength: number): Tensor;
}
