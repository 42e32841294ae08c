/** Stop of a notebook, which ends what listens to it and leaves the kernel alive. */
import process from "node:process";

let controller = new AbortController();

/** Aborted by the next Stop. */
export function stopSignal(): AbortSignal {
  return controller.signal;
}

/** From now on an interrupt aborts {@link stopSignal} and ends nothing else. */
export function catchStop(): void {
  process.on("SIGINT", () => {
    controller.abort(new Error("Stopped"));
    controller = new AbortController();
  });
}
