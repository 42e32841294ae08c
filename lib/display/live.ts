/** Curves that grow while something is trained. */
import { kernel, place } from "./kernel.ts";
import { plot } from "./plot.ts";
import { DISPLAY } from "./bundle.ts";
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

/**
 * Runs a training and draws its loss while it runs: `await livePlot("loss", (live) => fit(v, batches, loss, live))`.
 *
 * The thin curve is the loss, the thick one its mean over about a twentieth of the steps. Stop ends the training and
 * keeps what was trained. Outside a notebook nothing is drawn.
 *
 * @returns what the training returns; undefined when it was stopped
 */
export async function livePlot<T>(
  title: string,
  train: (live: Live) => Promise<T>,
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
    if (kernel() && losses.length > 0) await show(await plot(curves(title, losses))[DISPLAY]());
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
function curves(title: string, losses: readonly number[]): Figure {
  const x = losses.map((_, i) => i + 1);
  return {
    data: [
      { x, y: losses, name: "each step", mode: "lines", line: { width: 1 }, opacity: 0.4 },
      { x, y: smoothed(losses), name: "smoothed", mode: "lines", line: { color: COLORS[0] } },
    ],
    layout: { title, height: 300, xaxis: { title: "step" }, yaxis: { title: "loss" } },
  };
}

/** A quick drawing of the same. */
function sketch(title: string, losses: readonly number[]): string {
  const every = Math.ceil(losses.length / WIDTH), top = Math.max(...losses);
  const line = (numbers: readonly number[], style: string) => {
    const points = numbers.filter((_, i) => i % every === 0).map((number, i) =>
      `${(i * every * WIDTH / losses.length).toFixed(1)},${
        (HEIGHT * (1 - number / top)).toFixed(1)
      }`
    );
    return `<polyline points="${points.join(" ")}" fill="none" ${style}/>`;
  };
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT + 24}">` +
    line(losses, `stroke="${COLORS[0]}" opacity="0.4"`) +
    line(smoothed(losses), `stroke="${COLORS[0]}" stroke-width="2"`) +
    `<text x="0" y="${HEIGHT + 18}" font-size="12" fill="${TEXT}" font-family="${FONT}">` +
    `${title} · step ${losses.length} · ${losses[losses.length - 1].toFixed(4)}</text></svg>`;
}
