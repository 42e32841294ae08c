/** The README's calculations (LoCon, "Some calculation"; the tutorial's 1000×2000), and counts against what runs. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { boft, dylora, full, glora, ia3, loha, lokr, lora, oft, tlora } from "../../mod.ts";
import { convolve } from "../../lib/tensor/convolve.ts";
import { leakless } from "../support/close.ts";

const costs = suite("cost()");
leakless(costs);

for (
  const [out_ch, in_ch, size, rank, out_h, out_w] of [
    [128, 64, 3, 8, 32, 32],
    [320, 320, 3, 4, 64, 64],
    [640, 320, 1, 16, 32, 24],
    [64, 3, 7, 2, 112, 112],
  ]
) {
  costs(`is the LoCon README's for ${out_ch}×${in_ch}×${size}×${size} at rank ${rank}`, () => {
    const { base, bypass, parameters } = lora.cost([size, size, in_ch, out_ch], rank, {
      output: [out_h, out_w],
    });
    assert.is(base.forward, out_ch * in_ch * size ** 2 * out_h * out_w, "FLOPs before");
    assert.is(
      bypass.forward,
      out_ch * rank * out_h * out_w + rank * in_ch * size ** 2 * out_h * out_w,
      "FLOPs after",
    );
    assert.is(bypass.forward, (out_ch * rank + rank * in_ch * size ** 2) * out_h * out_w);
    assert.is(base.parameters, out_ch * in_ch * size ** 2, "parameters before");
    assert.is(parameters, rank * in_ch * size ** 2 + rank * out_ch, "parameters after");
  });
}

costs("is the tutorial's: 2,000,000 numbers become 6,000, 333 times less", () => {
  const { base, parameters } = lora.cost([1000, 2000], 2);
  assert.is(base.parameters, 2_000_000);
  assert.is(parameters, 6_000);
  assert.is(Math.floor(base.parameters / parameters), 333);
});

/** The multiply-adds of every matrix product and convolution that a function runs. */
function counted(run: () => tf.Tensor): number {
  let sum = 0;
  const kernels = ["BatchMatMul", "Conv2D"], backend = tf.getBackend();
  const originals = kernels.map((name) => tf.getKernel(name, backend)!);
  originals.forEach((kernel) => {
    tf.unregisterKernel(kernel.kernelName, backend);
    tf.registerKernel({
      ...kernel,
      kernelFunc: (call) => {
        const result = kernel.kernelFunc(call), out = result as tf.TensorInfo;
        const { a, filter } = call.inputs as Record<string, tf.TensorInfo>;
        const { transposeA } = (call.attrs ?? {}) as { transposeA?: boolean };
        const inner = filter
          ? filter.shape.slice(0, 3).reduce((product, length) => product * length, 1)
          : a.shape[a.shape.length - (transposeA ? 2 : 1)];
        sum += inner * out.shape.reduce((product, length) => product * length, 1);
        return result;
      },
    });
  });
  try {
    tf.tidy(() => void run());
  } finally {
    for (const kernel of originals) {
      tf.unregisterKernel(kernel.kernelName, backend);
      tf.registerKernel(kernel);
    }
  }
  return sum;
}

const shape = [3, 3, 12, 18], output = [10, 8], batch = 2;
const x = () => tf.ones([batch, 10, 8, 12]);
costs("counts what lora's bypass runs, with a core and without", () => {
  for (const tucker of [false, true]) {
    const { factors } = lora.create(shape, 4, { tucker });
    const run = () => lora.bypass(factors, x(), { padding: "same" });
    assert.is(lora.cost(shape, 4, { tucker, output, batch }).bypass.forward, counted(run));
  }
});
costs("counts what lokr's bypass runs, whichever part comes first", () => {
  for (const options of [{ factor: 2 }, { factor: 3, unbalanced: true }, { full: true }]) {
    for (const kernel of [shape, [3, 3, 12, 50], [3, 3, 12, 4]]) {
      const { factors } = lokr.create(kernel, 1, options);
      const run = () => lokr.bypass(factors, x(), { padding: "same" });
      const { bypass } = lokr.cost(kernel, 1, { ...options, output, batch });
      assert.is(bypass.forward, counted(run), JSON.stringify({ options, kernel }));
    }
  }
});
costs("counts what loha's bypass runs while the rank-r² pair is the lesser work", () => {
  const { factors } = loha.create(shape, 2);
  const run = () => loha.bypass(factors, x(), { padding: "same" });
  assert.is(loha.cost(shape, 2, { output, batch }).bypass.forward, counted(run));
});
costs("counts what the bypasses of full, glora and tlora run", () => {
  const base = tf.ones(shape), geometry = { padding: "same" } as const;
  const places = { output, batch }, around = { base };
  const runs = {
    full: () => full.bypass(full.create(shape).factors, x(), geometry),
    glora: () => glora.bypass(glora.create(shape, 3).factors, x(), geometry, around),
    tlora: () => tlora.bypass(tlora.create(shape, 3, { base }).factors, x(), geometry, around),
  };
  assert.is(full.cost(shape, places).bypass.forward, counted(runs.full));
  assert.is(glora.cost(shape, 3, places).bypass.forward, counted(runs.glora));
  assert.is(tlora.cost(shape, 3, places).bypass.forward, counted(runs.tlora));
});
costs("counts what oft and boft run, and b³ a block for the rotations", () => {
  const base = tf.ones(shape), y = convolve(x(), base, { padding: "same" });
  const around = { base, output: y }, places = { output, batch };
  const one = oft.create(shape, 3), all = boft.create(shape, 18);
  const run = () => oft.bypass(one.factors, x(), { padding: "same" }, around);
  assert.is(oft.cost(shape, 3, places).bypass.forward, counted(run) + 6 * 3 ** 3);
  const runAll = () => boft.bypass(all.factors, x(), { padding: "same" }, around);
  assert.is(boft.cost(shape, 18, places).bypass.forward, counted(runAll) + 18 ** 3);
  assert.is(boft.cost(shape, 18).parameters, all.factors.blocks.size);
});
costs("of dylora is lora's, of ia3 one number a channel", () => {
  assert.is(dylora.cost(shape, 4).parameters, lora.cost(shape, 4).parameters);
  assert.is(ia3.cost(shape).parameters, 18);
  assert.is(ia3.cost(shape, { onInput: true }).parameters, 12);
});
costs.run();
