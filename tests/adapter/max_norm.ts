import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cap, capped } from "../../lib/adapter/max_norm.ts";
import { type AdapterOptions, create, mapFactors, tensors } from "../../lib/adapter/adapter.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { type AlgorithmName, ALGORITHMS } from "../../lib/algorithms/table.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const length = (x: tf.Tensor) => tf.norm(x).dataSync()[0];

/** Settings under which every factor that may take the ratio is there. */
const SETTINGS: Record<AlgorithmName, AdapterOptions[]> = {
  lora: [{ alpha: 3 }, { tucker: true }, { scalar: true }],
  loha: [{ alpha: 1 }, { scalar: true }],
  lokr: [{ factor: 2, decomposeBoth: true, tucker: true }, { full: true }, { scalar: true }],
  ia3: [{}],
  dylora: [{ block: 1, alpha: 2 }],
  full: [{ bias: true }],
  norm: [{}],
  oft: [{}],
  boft: [{}],
  glora: [{ alpha: 3 }, { scalar: true }],
  tlora: [{ alpha: 3 }],
};

const norms = suite("capped()");
leakless(norms);

for (const algorithm of Object.keys(ALGORITHMS) as AlgorithmName[]) {
  for (const options of SETTINGS[algorithm]) {
    const rotates = algorithm.endsWith("oft"), shape = algorithm === "norm" ? [12] : [3, 3, 8, 12];
    const trained = (base: tf.Tensor) => {
      const own = algorithm === "tlora" ? { ...options, base } : options;
      const adapter = create(algorithm, shape, algorithm === "boft" ? 6 : 2, own);
      return mapFactors(adapter, (factor, name) => tensor(factor.shape, name.length));
    };
    norms(`shortens ${algorithm} ${JSON.stringify(options)} to the norm asked for`, () => {
      const base = tensor(shape, 1), adapter = trained(base);
      const long = rotates ? adapter.factors.blocks! : delta(adapter, base);
      const max = length(long) / 3, { norm, ratio } = cap(adapter, max, base);
      assert.ok(Math.abs(ratio - 1 / 3) < 1e-5 && Math.abs(norm - max) < 1e-5 * max);
      const short = capped(adapter, max, base);
      const now = rotates ? short.factors.blocks! : delta(short, base);
      close(now, tf.div(long, 3), "value", "a third of ΔW");
    });
    norms(`leaves ${algorithm} ${JSON.stringify(options)} as it is where it is short`, () => {
      const base = tensor(shape, 1), adapter = trained(base);
      const short = capped(adapter, 1e9, base);
      assert.is(short.alpha, adapter.alpha);
      for (const [name, factor] of tensors(adapter)) close(short.factors[name]!, factor);
    });
  }
}
norms("shares LoKr's ratio out over all its factors, as LyCORIS does", () => {
  const adapter = mapFactors(
    create("lokr", [6, 8], 1, { factor: 2 }),
    ({ shape }) => tf.ones(shape),
  );
  assert.equal(Object.keys(cap(adapter, 1e-3).factors), ["w1", "down2", "up2"]);
  const { ratio, factors } = cap(adapter, 1e-3);
  for (const share of Object.values(factors)) assert.is(share, ratio ** (1 / 3));
});
norms("refuses a norm that is not above 0", () => {
  assert.throws(() => cap(create("lora", [6, 8], 1), 0), /must be above 0: current norm is 0/);
});
norms.run();
