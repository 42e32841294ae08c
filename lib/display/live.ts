/** Curves that grow while something is trained. */
import { kernel, place } from "./kernel.ts";
import { plot } from "./plot.ts";
import { DISPLAY, escaped } from "./bundle.ts";
import { stopSignal } from "./stop.ts";
import { COLORS, type Figure, FONT, TEXT, WIDTH } from "./theme.ts";

/** What the training is given: the options of `fit` that let it be watched and stopped. */
export interface Live {
  onStep(step: number, loss: number): void;
  signal: AbortSignal;
  title: "";
}

/** Milliseconds between two drawings. */
const PAUSE = 200;
const HEIGHT = 160;
const STEPS = COLORS[5], MEANS = COLORS[1];

/**
 * Runs a training and draws its loss while it runs: `await livePlot("loss", (live) => fit(v, batches, loss, live))`.
 *
 * The thin curve is the loss, the thick one its mean over about a twentieth of the steps. Stop ends the training and
 * keeps what was trained. Outside a notebook nothing is drawn.
 *
 * @param axis what the loss is, with its unit: "loss (nats)" for cross entropy
 * @returns what the training returns; undefined when it was stopped
 */
export async function livePlot<T>(
  title: string,
  train: (live: Live) => Promise<T>,
  { axis = "loss" }: { axis?: string } = {},
): Promise<T | undefined> {
  const losses: number[] = [], signal = stopSignal(), show = place();
  let drawn = performance.now();
  const live: Live = {
    title: "",
    signal,
    onStep(_, loss) {
      losses.push(loss);
      if (!kernel() || performance.now() - drawn < PAUSE) return;
      drawn = performance.now();
      void show({ "image/svg+xml": sketch(title, losses), "text/plain": title });
    },
  };
  try {
    return await train(live);
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
  } finally {
    if (kernel() && losses.length > 0) {
      await show(await plot(curves(title, axis, losses))[DISPLAY]());
    }
  }
}

/** The mean of each number with those before it, which count less the older they are; its start is not biased. */
export function smoothed(numbers: readonly number[], steps = numbers.length / 20): number[] {
  const keep = 1 - 1 / Math.max(1, steps);
  let sum = 0, weight = 0;
  return numbers.map((number) => {
    sum = keep * sum + number;
    weight = keep * weight + 1;
    return sum / weight;
  });
}

/** The figure that stays. */
function curves(title: string, axis: string, losses: readonly number[]): Figure {
  const x = losses.map((_, i) => i + 1);
  return {
    data: [
      { x, y: losses, name: "each step", mode: "lines", line: { width: 1, color: STEPS } },
      { x, y: smoothed(losses), name: "smoothed", mode: "lines", line: { color: MEANS } },
    ],
    layout: { title, height: 300, xaxis: { title: "step" }, yaxis: { title: axis } },
  };
}

/** A quick drawing of the same. */
function sketch(title: string, losses: readonly number[]): string {
  const every = Math.ceil(losses.length / WIDTH), means = smoothed(losses);
  const top = losses.reduce((a, b) => Math.max(a, b)),
    low = losses.reduce((a, b) => Math.min(a, b), 0);
  const line = (numbers: readonly number[], style: string) => {
    const points = numbers.flatMap((number, i) => {
      if (i % every !== 0 || !Number.isFinite(number)) return [];
      const x = i * WIDTH / losses.length, y = HEIGHT * (top - number) / (top - low || 1);
      return [`${x.toFixed(1)},${y.toFixed(1)}`];
    });
    return `<polyline points="${points.join(" ")}" fill="none" ${style}/>`;
  };
  const step = losses.length, now = means[step - 1].toFixed(4);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT + 24}">` +
    line(losses, `stroke="${STEPS}"`) +
    line(means, `stroke="${MEANS}" stroke-width="2"`) +
    `<text x="0" y="${HEIGHT + 18}" font-size="12" fill="${TEXT}" font-family="${FONT}">` +
    `${escaped(title)} · step ${step} · smoothed ${now}</text></svg>`;
}
