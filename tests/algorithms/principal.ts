/** LoRA born from its base: PiSSA and OLoRA. */
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  attach,
  convert,
  delta,
  dispose,
  files,
  join,
  lora,
  merge,
  resize,
  scale,
  sum,
} from "../../mod.ts";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { matrix } from "../../lib/tensor/matrix.ts";
import { outputs, type Shape, show, size } from "../../lib/tensor/shape.ts";
import { svd } from "../../lib/tensor/svd.ts";
import { close, leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

/** The singular values of a kernel as a matrix. */
function spectrum(kernel: tf.Tensor): Float64Array {
  const O = outputs(kernel.shape);
  return svd(matrix(size(kernel.shape) / O, O, kernel.dataSync())).s;
}

/** scale · down · up: what a birth stands for, which PEFT takes off the base. */
function birth(base: tf.Tensor, rank: number, options: Parameters<typeof lora.create>[2]) {
  const adapter = lora.create(base.shape, rank, { ...options, base });
  const { bornDown, bornUp } = adapter.factors;
  const part = tf.mul(lora.delta({ down: bornDown!, up: bornUp! }), scale(adapter));
  return { adapter, part };
}

const file = new URL("../fixtures/births.safetensors", import.meta.url);
const { tensors: peft } = parse(new Uint8Array(readFileSync(file)));

const births = suite("lora.create() from its base");
leakless(births);

for (const shape of [[12, 9], [3, 3, 4, 8], [90, 84]] as Shape[]) { // the last by a randomized search
  births(`pissa holds the largest singular triplets of ${show(shape)}, whatever the scale`, () => {
    const base = tensor(shape, 1), all = spectrum(base);
    for (const options of [{}, { alpha: 3 }, { alpha: 2, rankScale: "alpha/sqrt(r)" }] as const) {
      const { adapter, part } = birth(base, 2, { init: "pissa", ...options });
      const rest = spectrum(tf.sub(base, part));
      rest.subarray(0, 4).forEach((s, i) => assert.ok(Math.abs(s - all[i + 2]) < 1e-3 * all[0]));
      assert.equal([...delta(adapter).dataSync()].filter(Boolean), [], "ΔW is 0, bit for bit");
      const { down, up } = adapter.factors,
        squares = (x: tf.Tensor, axis: number) =>
          tf.sum(tf.square(tf.reshape(x, axis === 0 ? [-1, 2] : [2, -1])), axis);
      close(squares(down, 0), squares(up, 1), "gradient", "√S on either side");
    }
  });

  births(`olora holds the first vectors of the QR of ${show(shape)}`, () => {
    const base = tensor(shape, 1), O = outputs(shape);
    const { adapter: { factors: { up } }, part } = birth(base, 3, { init: "olora" });
    close(tf.matMul(up, up, false, true), tf.eye(3), "value", "orthonormal rows");
    // Wᵀ = QR is upper triangular in R: the first three rows of W are in the span of three vectors
    const rows = (x: tf.Tensor) => tf.slice(tf.reshape(x, [-1, O]), [0, 0], [3, O]);
    close(rows(part), rows(base), "value", "the first rows");
    const inside = tf.matMul(tf.matMul(tf.reshape(base, [-1, O]), up, false, true), up);
    close(tf.reshape(part, [-1, O]), inside, "value", "the base's part in their span");
  });
}

for (const init of ["pissa", "olora"] as const) {
  const row = { init, alpha: 3 };
  births(`${init} trains as PEFT does on the base without it: W₀ + scale · down · up`, () => {
    const base = tensor([3, 3, 4, 8], 1), { adapter, part } = birth(base, 2, row);
    const residual = tf.sub(base, part), { down, up, ...born } = adapter.factors;
    const ours = (down: tf.Tensor, up: tf.Tensor) =>
      merge(base, { ...adapter, factors: { down, up, ...born } });
    const theirs = (down: tf.Tensor, up: tf.Tensor) =>
      tf.add(residual, tf.mul(lora.delta({ down, up }), scale(adapter)));
    const moved = [down, up].map((factor, i) => tf.add(factor, tensor(factor.shape, i + 2)));
    const G = tensor(base.shape, 5);
    close(ours(moved[0], moved[1]), theirs(moved[0], moved[1]));
    const gradients = [ours, theirs].map((make) => tf.grads(make)(moved, G));
    gradients[0].forEach((own, i) => close(own, gradients[1][i], "gradient"));
  });

  births(`${init} is a LoRA of rank 2r in a file, against the base as it was`, async () => {
    const base = tensor([3, 3, 4, 8], 1), { adapter } = birth(base, 2, row);
    const trained = { ...adapter, factors: { ...adapter.factors, up: tensor([2, 8], 3) } };
    for (const dialect of ["kohya", "peft", "diffusers"] as const) {
      const bytes = await files.encode(new Map([["layer", trained]]), { dialect });
      const { adapters, metadata } = await files.open(bytes), read = adapters.get("layer")!;
      assert.equal([read.algorithm, read.rank, read.factors.bornUp], ["lora", 4, undefined]);
      if (dialect === "kohya") assert.is(metadata.ss_network_dim, "4");
      for (const strength of [1, 0.5]) {
        close(merge(base, read, { strength }), merge(base, trained, { strength }));
      }
      dispose(read);
    }
    const plain = convert(trained, "lora");
    close(delta(plain), delta(trained));
    dispose(plain);
  });

  births(`${init} is resized, joined and summed as its ΔW`, () => {
    const base = tensor([3, 3, 4, 8], 1), { adapter } = birth(base, 2, row);
    const trained = { ...adapter, factors: { ...adapter.factors, up: tensor([2, 8], 3) } };
    const all = delta(trained);
    const whole = resize(trained, { rank: 4 }).adapter, joined = join([trained, trained]);
    const added = sum([trained, trained]);
    close(delta(whole), all, "gradient", "of all its ranks");
    close(delta(joined), tf.mul(all, 2), "value", "joined");
    close(delta(added), tf.mul(all, 2), "value", "summed");
    for (const made of [whole, joined, added]) dispose(made);
  });

  births(`${init} on a layer: its birth is frozen, detach gives all back, keep keeps it`, () => {
    const conv = tf.layers.conv2d({ inputShape: [5, 5, 4], filters: 8, kernelSize: 3 });
    const model = tf.sequential({ layers: [conv] }), x = tensor([2, 5, 5, 4], 1);
    const run = () => model.predict(x) as tf.Tensor, before = run();
    const weights = conv.getWeights().map((weight) => [...weight.dataSync()]);
    const attached = lora.conv(conv, 2, row);
    close(run(), before);
    assert.is(attached.cost().parameters, 2 * (36 + 8));
    assert.is(model.trainableWeights.length, 2);
    (attached.adapter.factors.up as tf.Variable).assign(tensor([2, 8], 3));
    const adapted = run(), kept = attached.detach({ keep: true })!;
    assert.equal(conv.getWeights().map((weight) => [...weight.dataSync()]), weights);
    for (const route of ["bypass", "rebuild", "hybrid"] as const) {
      const again = attach(conv, kept, { route });
      close(run(), adapted);
      again.strength = 0;
      close(run(), before);
      again.detach();
    }
    dispose(kept);
    model.dispose();
  });
}

/** PEFT's tensors of a birth, `[in, out]`. */
function theirs(name: string): Record<string, tf.Tensor> {
  const own = [...peft].filter(([key]) => key.startsWith(`${name}/`));
  return Object.fromEntries(own.map(([key, { dtype, shape, bytes }]) => [
    key.slice(name.length + 1),
    tf.transpose(tf.tensor(toFloat32(dtype, bytes), [...shape])),
  ]));
}

for (
  const [name, options] of Object.entries(
    {
      pissa: { init: "pissa", alpha: 5 },
      pissa_rs: { init: "pissa", alpha: 5, rankScale: "alpha/sqrt(r)" },
      olora: { init: "olora", alpha: 5 },
    } as const,
  )
) {
  births(`${name} is PEFT's, and so is W′ after a step`, () => {
    const { base, residual, A, B, A1, B1, merged } = theirs(name);
    const { adapter, part } = birth(base, 3, options);
    close(part, tf.sub(base, residual), "gradient", "what is taken off the base");
    // vectors are known but for their signs
    const { down, up } = adapter.factors;
    close(tf.abs(down), tf.abs(A), "gradient", "down");
    close(tf.abs(up), tf.abs(B), "gradient", "up");
    const factors = { down: A1, up: B1, bornDown: A, bornUp: B };
    close(merge(base, { ...adapter, factors }), merged, "gradient", "W′");
  });
}

births("refuses what a birth cannot have", () => {
  const base = tf.ones([3, 3, 4, 8]),
    create = (options: Parameters<typeof lora.create>[2]) => () =>
      lora.create([3, 3, 4, 8], 2, { init: "pissa", base, ...options });
  assert.throws(
    create({ base: undefined }),
    /born from a kernel 3×3×4×8: current base is undefined/,
  );
  assert.throws(create({ base: tf.ones([8, 3]) }), /current base is 8×3/);
  assert.throws(create({ tucker: true }), /down · up alone: current options ask for a core/);
  assert.throws(create({ scalar: true }), /ask for a scalar/);
  assert.throws(create({ alpha: -1 }), /alpha must be above 0 with pissa: current value is -1/);
  assert.throws(create({ init: "svd" as "pissa" }), /init must be "pissa" or "olora"/);
  assert.throws(
    () => lora.create([8, 4], 5, { init: "olora", base: tf.ones([8, 4]) }),
    /rank is 5/,
  );
});

births.run();
