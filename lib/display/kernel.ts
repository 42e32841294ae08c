/** The notebook's kernel, where this runs in one: places of the page that change after they are shown. */
import type { Bundle } from "./bundle.ts";

interface Kernel {
  broadcast(type: string, content: Record<string, unknown>): Promise<void>;
}

/** The kernel; undefined outside a notebook, where reading `Deno.jupyter` throws. */
export function kernel(): Kernel | undefined {
  try {
    return (globalThis as { Deno?: { jupyter?: Kernel } }).Deno?.jupyter;
  } catch {
    return undefined;
  }
}

/** Messages go out one after another, in the order in which they were asked for. */
let last: Promise<void> = Promise.resolve();

/**
 * A place under the running cell: the first call shows a bundle there, every other replaces it, whenever it comes.
 *
 * Outside a notebook nothing happens.
 */
export function place(): (bundle: Bundle) => Promise<void> {
  const transient = { display_id: crypto.randomUUID() };
  let type = "display_data";
  return (data) => {
    const content = { data, metadata: {}, transient }, message = type;
    type = "update_display_data";
    return last = last.then(() => kernel()?.broadcast(message, content));
  };
}

/** What the kernel's own code calls with the value of a cell's last expression. */
interface Results {
  broadcastResult?(count: number, value: unknown): Promise<void>;
}

/**
 * From now on a cell's value is shown as the one that `present` gives for it, if it gives one.
 *
 * Deno tells of no way for values that are plain to be shown otherwise than it does: this is the way of its kernel that
 * the notebooks run on, and where another has none they are shown as plain values.
 */
export function presenting(present: (value: unknown) => unknown): void {
  const { Deno } = globalThis as {
    Deno?: { internal?: symbol; [key: symbol]: { jupyter?: Results } | undefined };
  };
  const results = Deno?.internal && Deno[Deno.internal]?.jupyter, show = results?.broadcastResult;
  if (!results || !show) return;
  results.broadcastResult = (count, value) => show(count, present(value) ?? value);
}
