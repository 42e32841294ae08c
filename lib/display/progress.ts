/**
 * One line of progress on a terminal or in a notebook; where nobody looks, nothing.
 *
 * Our own few lines, as the maintained packages of npm redraw from timers, which do not fire while an
 * engine computes, and hide the cursor, which stays hidden after an error. Here is nothing to restore.
 */
import { type Screen, screen as current } from "./screen.ts";

export type { Screen } from "./screen.ts";

/** How far something is. */
export interface Progress {
  /** `count` units more are done (1 unless told); `text` says what is worth knowing now */
  step(count?: number, text?: string): void;
  /** the line stays as it is, and the cursor goes below it */
  done(): void;
}

/** Milliseconds before the first line and between two: what is over sooner shows nothing. */
const PAUSE = 100;
const WIDTH = 24;

/**
 * Shows `title ━━━━━━━──── 12/40 · 0:07 left · text`, redrawn in place.
 *
 * @param total how many units there are; Infinity where nobody knows, then they are only counted
 * @param screen where people look; written to only if it is a terminal
 */
export function progress(title: string, total: number, screen: Screen = current()): Progress {
  const start = performance.now();
  let finished = 0, shown = start, drawn = false, text = "";

  const draw = () => {
    shown = performance.now();
    drawn = true;
    screen.write("\r" + line().slice(0, (screen.columns || 80) - 1) + "\x1b[K");
  };
  const line = () => {
    const share = Math.min(1, finished / total), passed = performance.now() - start;
    const bar = "━".repeat(Math.round(WIDTH * share)).padEnd(WIDTH, "─");
    const count = total < Infinity ? `${bar} ${finished}/${total}` : String(finished);
    const time = share > 0 && share < 1 ? `${clock(passed / share - passed)} left` : clock(passed);
    return [`${title} ${count}`, time, text].filter(Boolean).join(" · ");
  };

  return {
    step(count = 1, now = text) {
      finished += count;
      text = now;
      if (screen.isTTY && performance.now() - shown >= PAUSE) draw();
    },
    done() {
      if (!drawn) return;
      draw();
      screen.write("\n");
    },
  };
}

/** Minutes and seconds, `1:05`. */
function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
