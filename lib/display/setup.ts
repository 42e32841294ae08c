/** The first cell of a notebook. */
import * as engine from "../engines/engine.ts";
import { environment } from "../engines/environment.ts";
import { kernel, presenting } from "./kernel.ts";
import { inNotebook } from "./screen.ts";
import { catchStop } from "./stop.ts";
import { presented } from "./values.ts";

/** Whether chapters should train less: the environment's LOWRANK_QUICK is set, and not 0. */
export const quick: boolean = !["", "0"].includes(environment("LOWRANK_QUICK") ?? "");

let ready = false;

/**
 * Starts the engine, shows progress under cells and adapters as what they are, tells of errors that nobody awaited, and
 * makes Stop end a training rather than the kernel. Outside a notebook it starts the engine only.
 */
export async function setup(choice: Parameters<typeof engine.use>[0] = "auto"): Promise<void> {
  await engine.use(choice);
  if (ready || !kernel()) return;
  ready = true;
  inNotebook();
  presenting(presented);
  catchStop();
  const tell = (event: Event, error: unknown) => {
    event.preventDefault();
    console.error("Unawaited error:", error);
  };
  addEventListener("error", (event) => tell(event, event.error));
  addEventListener("unhandledrejection", (event) => tell(event, event.reason));
}
