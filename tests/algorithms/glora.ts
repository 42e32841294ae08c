import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispose, files, glora, merge } from "../../mod.ts";
import { mapFactors } from "../../lib/adapter/adapter.ts";
import * as kohya from "../../lib/files/kohya.ts";
import { convolve } from "../../lib/tensor/convolve.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const trained = (shape: number[], rank: number) =>
  mapFactors(
    glora.create(shape, rank, { alpha: 3 }),
    (factor, name) => tensor(factor.shape, name.charCodeAt(name.length - 1) + name.length),
  );

const general = suite("glora");
leakless(general);

general("computes op(x + s·A(x); W) + s·B(x)", () => {
  const shape = [3, 3, 4, 6], adapter = trained(shape, 2), W = tensor(shape, 1);
  const { downA, upA, downB, upB } = adapter.factors as Record<string, tf.Tensor>;
  const x = tensor([2, 5, 5, 4], 2), s = 3 / 2 * 0.7;
  const points = (W: tf.Tensor) => tf.reshape(W, [1, 1, ...W.shape]);
  const A = convolve(convolve(x, points(downA)), points(upA));
  const B = convolve(convolve(x, downB), points(upB));
  const expected = tf.add(convolve(tf.add(x, tf.mul(A, s)), W), tf.mul(B, s));
  close(convolve(x, merge(W, adapter, { strength: 0.7 })), expected);
});
for (const [I, O, rank] of [[5, 7, 2], [7, 5, 3], [6, 6, 2], [4, 8, 4]]) {
  general(`reads both layouts of a file, of [${I}, ${O}] at rank ${rank}`, async () => {
    const adapter = trained([I, O], rank), W = tensor([I, O], 1), expected = merge(W, adapter);
    const { alpha, ...now } = kohya.write(adapter);
    assert.equal(now["a1.weight"].shape, [I, rank]);
    // before LyCORIS 3.0 the down side was called 1
    const before = {
      alpha,
      "a1.weight": now["a2.weight"],
      "a2.weight": now["a1.weight"],
      "b1.weight": now["b2.weight"],
      "b2.weight": now["b1.weight"],
    };
    for (const torch of [{ alpha, ...now }, before]) close(merge(W, kohya.read(torch)!), expected);
    const { adapters } = await files.open(await files.encode(new Map([["layer", adapter]])));
    close(merge(W, adapters.get("layer")!), expected);
    dispose(adapters.get("layer")!);
  });
}
general("refuses factors that fit each other in neither layout", () => {
  const { "a1.weight": _, ...rest } = kohya.write(trained([5, 7], 2));
  assert.throws(
    () => kohya.read({ ...rest, "a1.weight": tf.zeros([5, 3]) }),
    /current factors are downA 5×2, upA 3×5/,
  );
});
general.run();
