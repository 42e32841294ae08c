/** The heap in which the `wasm` backend keeps its tensors, and its end. */
import type { Backend } from "./compose.ts";

const MEBI = 2 ** 20, END = 2 ** 32;

const guarded = new WeakSet<Backend>();

/**
 * Makes the backend refuse a tensor that the heap has no room for. As shipped it takes what the full heap
 * answers, address 0, for one, and writes over whatever lies there.
 */
export function guard(backend: Backend): void {
  if (guarded.has(backend)) return;
  guarded.add(backend);
  const { wasm } = backend;
  wasm._malloc(0); // its first call puts another function in its own place
  const allocate = wasm._malloc;
  wasm._malloc = (bytes) => {
    const address = bytes < END ? allocate(bytes) : 0; // it would take the rest of a division by 2^32
    if (address !== 0 || bytes === 0) return address;
    const megabytes = Math.ceil(bytes / MEBI), heap = Math.round(wasm.HEAPU8.length / MEBI);
    throw new RangeError(
      `Cannot allocate a tensor of ${megabytes} MiB as the wasm heap ends at 4096 MiB: current heap is ` +
        `${heap} MiB. Dispose of tensors or make batches smaller; engine "cpu" has no such end`,
    );
  };
}
