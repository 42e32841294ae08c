import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, dispose, files, lora, merge } from "../../mod.ts";
import { fromFloat32 } from "../../lib/files/floats.ts";
import { unflip } from "../../lib/files/layout.ts";
import { serialize, type TensorView } from "../../lib/files/safetensors.ts";
import { verify } from "../../lib/files/verify.ts";
import { leakless } from "../support/close.ts";
import { refusal } from "../support/few.ts";
import { type Row, tensor, told, trained } from "../support/trained.ts";

const verified = suite("verify()");
leakless(verified);

const SHAPES: Record<string, number[]> = { dense: [24, 32], conv: [3, 3, 8, 16] };

/** A checkpoint of kernels, in PyTorch's layout. */
function checkpoint(kernels: Record<string, tf.Tensor>, dtype: "F32" | "F16" = "F32"): Uint8Array {
  const views = Object.entries(kernels).map(([name, kernel]): [string, TensorView] => {
    const torch = unflip(kernel), values = Float32Array.from(torch.dataSync());
    return [`${name}.weight`, { dtype, shape: torch.shape, bytes: fromFloat32(dtype, values) }];
  });
  return serialize(views);
}

const entries = Object.entries(SHAPES);
const base = () =>
  Object.fromEntries(entries.map(([name, shape], i) => [name, tensor(shape, 100 + i)]));
const file = (row: Row, seed = 0) =>
  files.encode(new Map(entries.map(([name, shape]) => [name, trained(row, shape, seed)])));

/** The kernels with an adapter of a row in them. */
const merged = (row: Row, strength: number, kernels: Record<string, tf.Tensor>) =>
  Object.fromEntries(
    entries.map(([name, shape]) =>
      [name, merge(kernels[name], trained(row, shape), { strength })] as const
    ),
  );

const ROWS: Row[] = [
  ["lora", 2, { alpha: 1 }],
  ["loha", 2, { alpha: 1 }],
  ["lokr", 1, { factor: 2 }],
  ["ia3", 0, {}],
  ["oft", 4, {}],
  ["boft", 4, {}],
  ["glora", 2, {}],
];
for (const row of ROWS) {
  for (const strength of [1, 0.6, -0.5]) {
    verified(`finds ${told(row)} at strength ${strength}, and nothing else`, async () => {
      const kernels = base();
      const { verdict, strength: s, residual, layers, by } = await verify(
        checkpoint(merged(row, strength, kernels)),
        await file(row),
        { base: checkpoint(kernels) },
      );
      assert.equal([verdict, by, layers.length], ["yes", "difference", 2]);
      assert.ok(Math.abs(s - strength) < 1e-4, `${s}`);
      assert.ok(residual! < 1e-4, `${residual}`);
    });
  }
}

verified("finds DoRA", async () => {
  const row: Row = ["lora", 2, { dora: "output" }], kernels = base();
  const own = new Map(entries.map(([name, shape]) => {
    const adapter = trained(row, shape);
    return [name, adapter] as const;
  }));
  const model = Object.fromEntries(
    entries.map(([name]) => [name, merge(kernels[name], own.get(name)!)]),
  );
  const { verdict, strength } = await verify(checkpoint(model), await files.encode(own), {
    base: checkpoint(kernels),
  });
  assert.is(verdict, "yes");
  assert.ok(Math.abs(strength - 1) < 1e-4);
  for (const adapter of own.values()) dispose(adapter);
});

verified("what float16 leaves is no other change", async () => {
  const kernels = base();
  const { verdict, strength } = await verify(
    checkpoint(merged(ROWS[0], 0.7, kernels), "F16"),
    await file(ROWS[0]),
    { base: checkpoint(kernels, "F16") },
  );
  assert.is(verdict, "yes");
  assert.ok(Math.abs(strength - 0.7) < 1e-2, `${strength}`);
});

/** A LoRA of random factors. */
const random = (shape: number[], seed: number, size: number): Adapter => {
  const born = lora.create(shape, 4);
  const normal = (tensor: tf.Tensor, i: number) =>
    tf.randomNormal(tensor.shape, 0, size, "float32", seed + i);
  const [down, up] = [born.factors.down!, born.factors.up!].map(normal);
  return { ...born, factors: { down, up } };
};

verified("tells it from other changes, and says when there is nothing of it", async () => {
  const shape = [64, 96], W = tf.randomNormal(shape, 0, 0.1, "float32", 3);
  const adapter = random(shape, 10, 0.1), other = random(shape, 20, 0.2);
  const bytes = await files.encode(new Map([["a", adapter]]));
  const before = { base: checkpoint({ a: W }) };
  const model = merge(merge(W, adapter, { strength: 0.8 }), other);
  const both = await verify(checkpoint({ a: model }), bytes, before);
  assert.is(both.verdict, "among others");
  assert.ok(Math.abs(both.strength - 0.8) < 6 * both.deviation, `${both.strength}`);
  const foreign = await verify(checkpoint({ a: merge(W, other) }), bytes, before);
  assert.is(foreign.verdict, "no");
  const without = await verify(checkpoint({ a: W }), bytes, before);
  assert.equal([without.verdict, without.strength], ["no", 0]);
});

verified("without the base: likely or unknown, and never sure", async () => {
  const shape = [128, 128], W = tf.randomNormal(shape, 0, 0.05, "float32", 3);
  const adapter = random(shape, 10, 0.2);
  const bytes = await files.encode(new Map([["a", adapter]]));
  const found = await verify(checkpoint({ a: merge(W, adapter, { strength: 0.8 }) }), bytes);
  assert.equal([found.verdict, found.by], ["likely", "projection"]);
  assert.ok(Math.abs(found.strength - 0.8) < 5 * found.deviation, `${found.strength}`);
  assert.is((await verify(checkpoint({ a: W }), bytes)).verdict, "unknown");
});

verified("refuses what it cannot tell, by name", async () => {
  const kernels = base();
  const needed = await refusal(verify(checkpoint(kernels), await file(["ia3", 0, {}])));
  assert.match(needed.message, /depends on the base kernel/);
  const foreign = await files.encode(new Map([["elsewhere", trained(ROWS[0], [8, 8])]]));
  assert.match((await refusal(verify(checkpoint(kernels), foreign))).message, /elsewhere/);
});

verified.run();
