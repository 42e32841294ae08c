import { suite } from "uvu";
import * as assert from "uvu/assert";
import { hashes } from "../../lib/files/hashes.ts";
import type { Dtype, TensorEntry } from "../../lib/files/safetensors.ts";

const named = suite("hashes()");

const entry = (name: string, dtype: Dtype, shape: number[], bytes: Uint8Array): TensorEntry => ({
  name,
  dtype,
  shape,
  bytes: () => bytes,
});
const ramp = (n: number) => Uint8Array.from({ length: n }, (_, i) => i * 31 % 251);
const counted = new Uint8Array(Float32Array.from({ length: 1000 }, (_, i) => i).buffer);

const SMALL = [
  entry("b.weight", "U8", [3, 4], ramp(12)),
  entry("a.alpha", "F32", [], new Uint8Array(Float32Array.of(2).buffer)),
];
const LARGE = [
  entry("b.weight", "U8", [1100000], ramp(1100000)),
  entry("a.weight", "U8", [70000], ramp(70000)),
  entry("c.weight", "F32", [1000], counted),
];

// what kohya's precalculate_safetensors_hashes gives for these tensors, in Python with safetensors 0.8.0
const KOHYA = [
  {
    name: "a file of a few bytes, which the legacy hash does not reach",
    tensors: SMALL,
    model: "82ad5ce004f39e9d37b83d53bb7cd1dd6c86165e80b89e9b3fea5892e11f34b4",
    legacy: ["e3b0c442", "e3b0c442"],
  },
  {
    name: "a file of more than a MiB, whose legacy hash depends on ss_ metadata",
    tensors: LARGE,
    model: "8212ee48635468e07c13acf60734333f15b4d0d8be8e2ac4933b92db031c483b",
    legacy: ["7c209200", "bd43d1c1"],
  },
];

for (const { name, tensors, model, legacy } of KOHYA) {
  named(`are kohya's for ${name}`, async () => {
    const [bare, told] = [
      await hashes(tensors, { note: "y" }),
      await hashes(tensors, { ss_network_dim: "4", note: "x", sshs_model_hash: "old" }),
    ];
    assert.is(bare.sshs_model_hash, model);
    assert.is(told.sshs_model_hash, model);
    assert.is(told["modelspec.hash_sha256"], `0x${model}`);
    assert.equal([bare.sshs_legacy_hash, told.sshs_legacy_hash], legacy);
  });
}

named.run();
