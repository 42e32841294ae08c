/**
 * W′ of a layer that is in use and not in training, kept for as long as nothing that it is made from changes.
 *
 * A variable that is assigned to, a factor or the layer's own kernel, has other data, which its `dataId` tells. W′ is
 * kept from the second pass with the same data on, as a first may be the only one, and let go by the next training step.
 */
import * as tf from "@tensorflow/tfjs";
import { tensors } from "../adapter/adapter.ts";
import { taped } from "../adapter/forward.ts";
import type { Site } from "./site.ts";

/** What W′ was made from in the last pass, and W′ if it is kept. */
interface Kept {
  sources: readonly unknown[];
  kernel?: tf.Tensor;
}

const all = new WeakMap<Site, Kept>();

/** Everything that W′ depends on. */
function sourcesOf({ guests }: Site, kernel: tf.Tensor): unknown[] {
  const own = guests.flatMap(({ adapter, strength, active }) => [
    ...[adapter, strength, active],
    ...tensors(adapter).map(([, { dataId }]) => dataId),
  ]);
  return [kernel.dataId, ...own];
}

/** Frees what is kept. */
export function forget(site: Site): void {
  all.get(site)?.kernel?.dispose();
  all.delete(site);
}

/**
 * W′ for a pass that nothing is trained by and no gradient taken of; undefined where it is not kept, as in the first
 * pass with these factors, strengths and kernel, and on a layer whose route is forced.
 *
 * @param variable the layer's own kernel
 * @param make W′ as the layer reads it
 */
export function keptKernel(
  site: Site,
  training: boolean,
  variable: tf.Tensor,
  make: () => tf.Tensor,
): tf.Tensor | undefined {
  if (training) forget(site);
  if (training || taped() || site.guests.some(({ route }) => route)) return undefined;
  const sources = sourcesOf(site, variable), kept = all.get(site);
  const same = kept?.sources.length === sources.length &&
    kept.sources.every((source, i) => source === sources[i]);
  if (same) return kept.kernel ??= tf.keep(make());
  forget(site);
  all.set(site, { sources });
}
