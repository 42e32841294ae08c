/** The end of the heap in which the `wasm` and `onednn` engines keep tensors. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as engine from "../../lib/engines/engine.ts";
import { guard } from "../../lib/engines/wasm/heap.ts";

const heap = suite("guard()");

heap("refuses a tensor for which there is no room, and names its size", () => {
  const wasm = {
    HEAPU8: new Uint8Array(2 ** 20),
    _malloc: (bytes: number) => bytes > 1000 ? 0 : 8,
  };
  const backend = { wasm } as unknown as Parameters<typeof guard>[0];
  guard(backend);
  assert.is(backend.wasm._malloc(1000), 8);
  assert.throws(() => backend.wasm._malloc(2 ** 32), RangeError);
  assert.throws(() => backend.wasm._malloc(3 * 2 ** 20), /3 MiB.*4096 MiB.*1 MiB/);
});

heap("guards the backend that computes", async () => {
  await engine.use("wasm");
  const tensors = tf.memory().numTensors;
  assert.throws(() => tf.fill([2 ** 15, 2 ** 15], 1), RangeError);
  assert.is(tf.memory().numTensors, tensors);
});
heap.run();
