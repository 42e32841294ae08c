import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, dispose, dylora, files, ia3, loha, lokr, lora, merge } from "../../mod.ts";
import { type Dtype, parse, serialize, type TensorView } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { values } from "../support/geometries.ts";

const tensor = (shape: readonly number[], seed: number) =>
  tf.tensor(values(shape, seed), [...shape]);
const f32 = (shape: number[], seed: number): TensorView => ({
  dtype: "F32",
  shape,
  bytes: new Uint8Array(values(shape, seed).buffer),
});
const free = (adapters: Iterable<Adapter>) => [...adapters].forEach((adapter) => dispose(adapter));

const adapters = suite("files.open()");
leakless(adapters);

const shapes: Record<string, number[]> = {
  dense: [6, 8],
  point: [1, 1, 6, 8],
  conv: [3, 3, 6, 8],
  line: [3, 6, 8],
};
const ALL: Record<string, (shape: number[]) => Adapter> = {
  lora: (shape) => lora.create(shape, 2, { alpha: 3, rankScale: "alpha/sqrt(r)" }),
  "lora with core": (shape) => lora.create(shape, 2, { tucker: true }),
  loha: (shape) => loha.create(shape, 2, { alpha: 1 }),
  lokr: (shape) => lokr.create(shape, 1, { alpha: 0.5 }),
  "lokr whole": (shape) => lokr.create(shape, 16, { full: true }),
  ia3: (shape) => ia3.create(shape),
  "ia3 on input": (shape) => ia3.create(shape, { onInput: true }),
  dylora: (shape) => dylora.create(shape, 4, { block: 2, alpha: 3 }),
};
for (const [name, make] of Object.entries(ALL)) {
  adapters(`${name}: open(save(x)) is x, on every kind of kernel`, async () => {
    const given = new Map(Object.entries(shapes).map(([layer, shape]) => [layer, make(shape)]));
    const file = await files.open(await files.encode(given));
    for (const [layer, { factors: _, ...told }] of given) {
      const { factors: _, ...read } = file.adapters.get(layer)!;
      assert.equal(read, told, layer);
    }
    assert.is(file.leftovers.size, 0);
    free(file.adapters.values());
  });
}

for (
  const [dtype, stored, tolerance] of [
    ["f16", "F16", "half"],
    ["bf16", "BF16", "bfloat"],
  ] as [files.SaveOptions["dtype"], Dtype, "half" | "bfloat"][]
) {
  adapters(`${dtype} is stored as ${stored} and read back within its rounding`, async () => {
    const adapter = lora.create([3, 3, 6, 8], 2, { alpha: 3 });
    const bytes = await files.encode(new Map([["conv", adapter]]), { dtype });
    for (const { dtype } of parse(bytes).tensors.values()) assert.is(dtype, stored);
    const file = await files.open(bytes), back = file.adapters.get("conv")!;
    close(back.factors.down!, adapter.factors.down!, tolerance);
    free([back]);
  });
}

adapters("names: lycoris_ is put before and taken off, kohya's stay, dots come back", async () => {
  const names = ["block.0.conv", "lora_unet_mid_block_conv", "lora_te1_fc", "lycoris_odd", "plain"];
  const given = new Map(names.map((name) => [name, lora.create([4, 4], 1)]));
  const bytes = await files.encode(given), { tensors } = parse(bytes);
  assert.ok(tensors.has("lycoris_block_0_conv.lora_down.weight"));
  assert.ok(tensors.has("lora_unet_mid_block_conv.lora_down.weight"));
  const file = await files.open(bytes);
  assert.equal([...file.adapters.keys()].sort(), [...names].sort());
  free(file.adapters.values());
});

adapters("what is no whole adapter is left over by its keys, and hurts no other", async () => {
  const bytes = serialize([
    ["lycoris_a.lora_down.weight", f32([2, 6], 1)],
    ["lycoris_a.lora_up.weight", f32([8, 2], 2)],
    ["lycoris_b.lora_down.weight", f32([2, 6], 3)],
    ["lycoris_c.hada_w1_a", f32([8, 2], 4)],
    ["lycoris_d.lora_down.weight", f32([2, 6], 5)],
    ["lycoris_d.lora_up.weight", f32([8, 2], 6)],
    ["lycoris_d.lokr_w1", f32([2, 2], 7)],
    ["model.weight", f32([2], 8)],
    ["something.else", f32([2], 9)],
  ]);
  const file = await files.open(bytes);
  assert.equal([...file.adapters.keys()], ["a"]);
  assert.is(file.adapters.get("a")!.alpha, 2, "alpha is the rank where it is missing");
  assert.equal([...file.leftovers.keys()].sort(), [
    "lycoris_b.lora_down.weight",
    "lycoris_c.hada_w1_a",
    "lycoris_d.lokr_w1",
    "lycoris_d.lora_down.weight",
    "lycoris_d.lora_up.weight",
    "model.weight",
    "something.else",
  ]);
  free(file.adapters.values());
});

adapters("factors that do not fit each other are refused by name", async () => {
  for (const [up, alpha] of [[[8, 3], []], [[8, 2], [5]]]) {
    const bytes = serialize([
      ["lycoris_a.lora_down.weight", f32([2, 6], 1)],
      ["lycoris_a.lora_up.weight", f32(up, 2)],
      ["lycoris_a.alpha", f32(alpha, 3)],
    ]);
    try {
      await files.open(bytes);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, SyntaxError);
      assert.match((error as Error).message, /"lycoris_a"/);
    }
  }
});

adapters("a note that does not fit its tensors is passed over", async () => {
  const adapter = loha.create([3, 3, 6, 8], 2);
  const { tensors } = parse(await files.encode(new Map([["conv", adapter]])));
  for (
    const lowrank of [
      "{",
      "[]",
      '{"conv":7}',
      '{"conv":{"shape":[5,5,6,8],"block":3,"alpha":9}}',
    ]
  ) {
    const file = await files.open(serialize(tensors, { lowrank }));
    const back = file.adapters.get("conv")!;
    assert.equal([...back.shape], [54, 8]);
    const base = tensor([3, 3, 6, 8], 1);
    close(merge(base, back), merge(base, adapter));
    free([back]);
  }
});

adapters("save() writes beside the target, and leaves nothing when it fails", async () => {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-")), path = join(folder, "a.safetensors");
  try {
    const adapter = lora.create([4, 4], 1), given = new Map([["a", adapter]]);
    await files.save(path, given, { metadata: { note: "first" } });
    const before = await readFile(path);
    await files.save(path, given, { metadata: { note: 7 as unknown as string } })
      .then(() => assert.unreachable(), (error) => assert.instance(error, TypeError));
    await files.save(path, given, { dtype: "f8" as "f16" })
      .then(() => assert.unreachable(), (error) => assert.instance(error, RangeError));
    assert.equal(await readFile(path), before);
    assert.equal(await readdir(folder), ["a.safetensors"]);
    const { metadata, adapters } = await files.open(path);
    assert.equal(metadata, { note: "first" });
    free(adapters.values());
  } finally {
    await rm(folder, { recursive: true });
  }
});

adapters(
  "alpha 0 is the rank, as LyCORIS and kohya read it; none that is not finite is read",
  async () => {
    const pair: [string, TensorView][] = [
      ["a.lora_down.weight", f32([2, 6], 1)],
      ["a.lora_up.weight", f32([8, 2], 2)],
    ];
    const withAlpha = (alpha: number) => {
      const bytes = new Uint8Array(Float32Array.of(alpha).buffer);
      return serialize([...pair, ["a.alpha", { dtype: "F32", shape: [], bytes }]]);
    };
    const { adapters } = await files.open(withAlpha(0));
    assert.is(adapters.get("a")!.alpha, 2);
    free(adapters.values());
    for (const alpha of [NaN, Infinity]) {
      const refused = await files.open(withAlpha(alpha)).catch((error) => error);
      assert.instance(refused, SyntaxError);
      assert.is(
        refused.message,
        `Cannot read the adapter "a" as its factors must fit each other: current alpha is ${alpha}`,
      );
    }
  },
);

const REFUSED: Record<
  string,
  [tensors: Record<string, number[]>, config: object | undefined, RegExp]
> = {
  "a factor without numbers": [
    { "a.lora_down.weight": [0, 6], "a.lora_up.weight": [8, 0] },
    undefined,
    /current down is 6×0/,
  ],
  "a difference that is one number": [{ "a.diff": [] }, undefined, /current tensors are diff \[\]/],
  "cores of two sizes": [
    {
      ...{ "a.hada_w1_a": [2, 8], "a.hada_w1_b": [2, 6], "a.hada_t1": [2, 2, 3, 3] },
      ...{ "a.hada_w2_a": [2, 8], "a.hada_w2_b": [2, 6], "a.hada_t2": [2, 2, 3, 1] },
    },
    undefined,
    /current cores are 3×3×2×2, 3×1×2×2|current cores are 3×3×2×2, 1×3×2×2/,
  ],
  "another algorithm than PEFT's configuration tells": [
    { "base_model.model.a.lokr_w1": [2, 2], "base_model.model.a.lokr_w2": [4, 3] },
    { peft_type: "LORA", r: 2, lora_alpha: 2 },
    /current keys are lokr_w1,lokr_w2 where adapter_config.json has LORA/,
  ],
  "a pattern that is no expression": [
    { "base_model.model.a.ia3_l": [8, 1] },
    { peft_type: "IA3", feedforward_modules: "(" },
    /as it is a regular expression: current value is "\("/,
  ],
};
for (const [what, [tensors, config, message]] of Object.entries(REFUSED)) {
  adapters(`refuses ${what}`, async () => {
    const views = Object.entries(tensors).map(([name, shape]) => [name, f32(shape, 1)] as const);
    const refused = await files.open(serialize(views), { config }).catch((error) => error);
    assert.instance(refused, SyntaxError);
    assert.match(refused.message, message);
  });
}

adapters("takes no name of an object's own for a kind of PEFT's", async () => {
  const bytes = serialize([["base_model.model.a.lora_A.weight", f32([2, 6], 1)]]);
  for (const peft_type of ["__proto__", "constructor", "toString"]) {
    const { adapters, leftovers } = await files.open(bytes, { config: { peft_type } });
    assert.equal([adapters.size, leftovers.size], [0, 1]);
  }
});

adapters("leftovers under which the file would be read as another are not written", async () => {
  const mine = new Map([["a", lora.create([6, 8], 2)]]), view = f32([2, 6], 1);
  for (
    const key of ["base_model.model.b.lora_A.weight", "unet:0:up", "a.diff", "b.diff"]
  ) {
    const refused = await files.encode(mine, { leftovers: new Map([[key, view]]) })
      .then(() => undefined, (error) => error);
    assert.instance(refused, TypeError, key);
    assert.match(refused.message, `current leftovers are ${key}, keep the file's own dialect`);
  }
  await files.encode(mine, { leftovers: new Map([["b.alpha", view], ["bundle_emb.x", view]]) });
  free(mine.values());
});

adapters.run();
