import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { delta, files, merge, tlora, unmerge } from "../../mod.ts";
import { mapFactors } from "../../lib/adapter/adapter.ts";
import { forward } from "../../lib/adapter/forward.ts";
import { view } from "../../lib/adapter/view.ts";
import * as lora from "../../lib/algorithms/lora.ts";
import { matrix } from "../../lib/tensor/matrix.ts";
import { convolve } from "../../lib/tensor/convolve.ts";
import { svd } from "../../lib/tensor/svd.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const shape = [3, 3, 4, 10];
const moved = (adapter: ReturnType<typeof tlora.create>) =>
  mapFactors(adapter, (factor, name) => tf.add(factor, tensor(factor.shape, name.length)));

const triplets = suite("tlora");
leakless(triplets);

triplets("is born as the first, the last or the middle singular triplets of the base", () => {
  const base = tensor(shape, 1), { s } = svd(matrix(36, 10, base.dataSync()));
  for (const [which, from] of [["principal", 0], ["middle", 3], ["last", 7]] as const) {
    const { factors } = tlora.create(shape, 3, { base, triplets: which });
    close(factors.lambda, tf.tensor([...s.subarray(from, from + 3)]), "value", which);
    const flat = tf.reshape(factors.down, [36, 3]);
    close(tf.matMul(flat, flat, true), tf.eye(3), "value", "QᵀQ");
    close(tf.matMul(factors.up, factors.up, false, true), tf.eye(3), "value", "P Pᵀ");
  }
});
triplets("of the whole rank is the base itself, on a kernel too", () => {
  const base = tensor(shape, 1), { down, lambda, up } = tlora.create(shape, 10, { base }).factors;
  close(lora.delta({ down, up: tf.mul(up, tf.expandDims(lambda, 1)) }), base);
});
triplets("changes nothing at birth, to the last bit, whatever the mask", () => {
  const base = tensor(shape, 1), adapter = tlora.create(shape, 3, { base });
  assert.equal([...merge(base, adapter).dataSync()], [...base.dataSync()]);
  const x = tensor([1, 5, 5, 4], 2), layer = { kernel: base, geometry: {} };
  for (const active of [0, 2, 3]) {
    const y = forward(x, layer, [{ view: view(adapter, { active })!, strength: 1 }], "bypass");
    assert.equal([...y.dataSync()], [...convolve(x, base).dataSync()]);
  }
});
triplets("masks the same ranks of what is trained and of what it started from", () => {
  const base = tensor(shape, 1), born = tlora.create(shape, 3, { base }), adapter = moved(born);
  const part = ({ down, lambda, up }: Record<string, tf.Tensor>) =>
    lora.delta({
      down: tf.slice(down, [0, 0, 0, 0], [3, 3, 4, 2]),
      up: tf.mul(tf.slice(up, 0, 2), tf.reshape(tf.slice(lambda, 0, 2), [2, 1])),
    });
  const expected = tf.sub(
    part(adapter.factors as Record<string, tf.Tensor>),
    part(born.factors as Record<string, tf.Tensor>),
  );
  const { factors } = view(adapter, { active: 2 })!;
  close(tlora.delta(factors as typeof born.factors, base), expected);
  assert.throws(() => view(adapter, { active: 4 }), /whole number from 0 to 3/);
});
triplets("reads the sign and the turn of a stored triplet as they are", () => {
  const base = tensor(shape, 1), adapter = tlora.create(shape, 2, { base });
  const flipped = mapFactors(
    adapter,
    (factor, name) => name === "lambda" ? factor : tf.neg(factor),
  );
  assert.equal([...merge(base, flipped).dataSync()], [...base.dataSync()]);
});
triplets("is of one base: another one starts it elsewhere, and W′ does not tell W", () => {
  const base = tensor(shape, 1), adapter = tlora.create(shape, 2, { base });
  assert.throws(() => delta(adapter), /depends on the base kernel/);
  assert.throws(() => unmerge(base, adapter), /keep the base/);
  assert.throws(() => close(merge(tensor(shape, 2), adapter), tensor(shape, 2)));
});
triplets("refuses a base of another shape, none, and more ranks than there are triplets", () => {
  const base = tensor(shape, 1);
  assert.throws(
    () => tlora.create(shape, 2),
    /born from a kernel 3×3×4×10: current base is undefined/,
  );
  assert.throws(() => tlora.create([3, 3, 10, 4], 2, { base }), /current base is 3×3×4×10/);
  assert.throws(() => tlora.create(shape, 11, { base }), /has 10 singular triplets/);
});
triplets("notes the triplets that its file cannot tell", async () => {
  const base = tensor(shape, 1);
  for (const which of ["principal", "last"] as const) {
    const adapter = moved(tlora.create(shape, 2, { base, triplets: which }));
    const bytes = await files.encode(new Map([["layer", adapter]]));
    const { adapters } = await files.open(bytes);
    const back = adapters.get("layer")!;
    close(merge(base, back), merge(base, adapter), "value", which);
    tf.dispose(Object.values(back.factors) as tf.Tensor[]);
  }
});
triplets.run();

const ranks = suite("tlora.ranksAt()");
ranks("falls from all ranks without noise to the least with all of it", () => {
  const at = [0, 1, 250, 500, 999, 1000].map((t) => tlora.ranksAt(t, 1000, 8));
  assert.equal(at, [8, 7, 6, 4, 1, 1]);
  assert.is(tlora.ranksAt(500, 1000, 8, { least: 2 }), 5);
  assert.is(tlora.ranksAt(500, 1000, 8, { sharpness: 2 }), 2);
});
ranks.run();
