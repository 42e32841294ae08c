/** An adapter at a glance: what it is, its shapes, parameters and share, its length and its spectrum. */
import * as tf from "@tensorflow/tfjs";
import { type Adapter, parameters, scale, tensors } from "../adapter/adapter.ts";
import { delta } from "../adapter/merge.ts";
import type { Attached } from "../layers/site.ts";
import { matrix } from "../tensor/matrix.ts";
import { outputs, show, size } from "../tensor/shape.ts";
import { svd } from "../tensor/svd.ts";
import { DISPLAY, type Shown, shown } from "./bundle.ts";
import { table as html } from "./rows.ts";
import { table } from "./table.ts";
import { COLORS } from "./theme.ts";

/** Numbers of a ΔW beyond which its spectrum takes longer than a glance. */
const LARGEST = 400_000;
/** Singular values that a thumbnail shows. */
const BARS = 32;

/**
 * Shows an adapter, or one attached to a layer.
 *
 * @param base the kernel of a bare adapter, where its ΔW depends on one
 *
 * @example
 * ```ts
 * import { lora } from "lowrank";
 * import { card } from "lowrank/display";
 * import * as assert from "uvu/assert";
 *
 * const text = String(card(lora.create([3, 3, 64, 128], 8)));
 * assert.match(text, "5,632"); // 8 · (9 · 64 + 128) parameters
 * ```
 */
export function card(
  subject: Adapter | Attached,
  base?: tf.Tensor,
): Shown & { toString(): string } {
  const attached = "adapter" in subject ? subject : undefined;
  const adapter = attached ? attached.adapter : subject as Adapter;
  const { algorithm, shape, rank } = adapter, count = parameters(adapter);
  const values = differenceOf(attached, adapter, base);
  const norm = values && Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  const row = {
    adapter: algorithm + (attached ? ` on ${attached.layer.name}` : ""),
    kernel: show(shape),
    rank,
    scale: scale(adapter),
    factors: tensors(adapter).map(([name, tensor]) => `${name} ${show(tensor.shape)}`).join(", "),
    parameters: count,
    share: `${(100 * count / size(shape)).toFixed(1)} %`,
    "‖ΔW‖": norm === undefined ? "" : norm.toPrecision(3),
  };
  const bars = values && norm && values.length <= LARGEST
    ? thumbnail(
      svd(matrix(values.length / outputs(shape), outputs(shape), values), { rank: 1 }).spectrum,
    )
    : "";
  const bundle = html([row])[DISPLAY]() as Record<string, string>;
  return shown({ "text/html": bundle["text/html"] + bars, "text/plain": table([row]) });
}

/** The numbers of ΔW, where it can be told. */
function differenceOf(
  attached: Attached | undefined,
  adapter: Adapter,
  base: tf.Tensor | undefined,
): Float32Array | undefined {
  try {
    return tf.tidy(() =>
      (attached ? attached.delta() : delta(adapter, base)).dataSync()
    ) as Float32Array;
  } catch (error) {
    if (error instanceof TypeError && !base) return undefined; // depends on a base that is not at hand
    throw error;
  }
}

/** Singular values as bars, as shares of the largest. */
function thumbnail(spectrum: Float64Array): string {
  const bars = [...spectrum.subarray(0, BARS)].map((s, i) => {
    const height = 40 * s / spectrum[0];
    return `<rect x="${5 * i}" y="${(40 - height).toFixed(1)}" width="4" height="${
      height.toFixed(1)
    }"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${5 * BARS}" height="40" fill="${
    COLORS[0]
  }">` +
    `<title>singular values of ΔW</title>${bars.join("")}</svg>`;
}
