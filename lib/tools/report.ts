/** What is told of the layers of an extraction, as numbers and as a figure. */
import type { Quality } from "../adapter/fit.ts";
import type { Picture } from "../display/picture.ts";
import { plot } from "../display/plot.ts";

/** What is told of a layer. */
export type Layer = Quality & { algorithm?: string; rank?: number; missedBias?: number };

/** The layers, with what all layers miss together. */
export function whole(layers: ReadonlyMap<string, Layer>) {
  const all = [...layers.values()],
    sum = (of: (layer: Layer) => number) => all.reduce((total, layer) => total + of(layer), 0);
  const norm = Math.sqrt(sum(({ norm }) => norm ** 2));
  const error = Math.sqrt(sum(({ norm, error }) => (norm * error) ** 2)) / (norm || 1);
  return { norm, error, energy: 1 - error ** 2, layers: Object.fromEntries(layers) };
}

/** Every layer's error, drawn by what the layer is extracted as. */
export function figureOf(layers: ReadonlyMap<string, Layer>): Picture {
  const rows = [...layers].map(([name, layer], i) => ({ ...layer, i: i + 1, name }));
  const data = [...new Set(rows.map(({ algorithm }) => algorithm))].map((algorithm) => {
    const own = rows.filter((row) => row.algorithm === algorithm);
    return {
      type: "bar",
      name: algorithm,
      x: own.map(({ i }) => i),
      y: own.map(({ error }) => 100 * error),
      text: own.map(({ name, energy }) => `${name}: ${(100 * energy).toFixed(2)} % of energy kept`),
      textposition: "none",
    };
  });
  const xaxis = { title: "layer, in the checkpoint's order" };
  return plot({
    data,
    layout: {
      title: "What each layer's adapter misses",
      showlegend: true,
      xaxis,
      yaxis: { title: "‖ΔW − ΔW′‖ / ‖ΔW‖ (%)", rangemode: "tozero" },
    },
  });
}
