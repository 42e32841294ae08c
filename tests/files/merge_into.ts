import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Adapter } from "../../lib/adapter/adapter.ts";
import { merge, mergeBias } from "../../lib/adapter/merge.ts";
import { encode, save, type SaveOptions } from "../../lib/files/adapters.ts";
import { openCheckpoint, readBias, readKernel } from "../../lib/files/checkpoint.ts";
import { fromFloat32, toFloat32 } from "../../lib/files/floats.ts";
import { hashes } from "../../lib/files/hashes.ts";
import { writeHeader } from "../../lib/files/header.ts";
import { MERGED, mergeInto, notesOf, unmergeFrom } from "../../lib/files/merge_into.ts";
import { type Dtype, open, parse } from "../../lib/files/safetensors.ts";
import { close, distance, leakless } from "../support/close.ts";
import { trained } from "../support/few.ts";
import { folderOf } from "../support/folder.ts";
import { values } from "../support/geometries.ts";

type Row = [name: string, dtype: Dtype, shape: number[], numbers?: ArrayLike<number>];

/** A file with these tensors in this order. */
function checkpoint(rows: Row[], metadata: Record<string, string> = {}): Uint8Array {
  const tensors = rows.map(([name, dtype, shape]) => ({ name, dtype, shape }));
  const { bytes: header } = writeHeader(tensors, metadata, "given");
  const prefix = new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);
  const data = rows.map(([name, dtype, shape, numbers]) => {
    const own = Float32Array.from(numbers ?? values(shape, name.length), (x) => Math.fround(x));
    return fromFloat32(dtype, own);
  });
  return new Uint8Array(Buffer.concat([prefix, header, ...data]));
}

/** ΔW = 1/4 [1, 2, 3]ᵀ [1, −1], exact in every dtype; PyTorch's layout is [2, 3]. */
const exact = (): Adapter => ({
  ...trained("lora", [3, 2], 1, { alpha: 0.25 }),
  factors: { down: tf.tensor([[1], [2], [3]]), up: tf.tensor([[1, -1]]) },
});
const DELTA = [0.25, 0.5, 0.75, -0.25, -0.5, -0.75];

/** A file of adapters. */
async function saved(path: string, all: Record<string, Adapter>, options: SaveOptions = {}) {
  await save(path, new Map(Object.entries(all)), options);
  return path;
}

const into = suite("mergeInto()");
leakless(into);
const at = folderOf(into);

for (const dtype of ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"] as const) {
  into(`rounds W + s · scale · ΔW once to ${dtype}`, async () => {
    const W = [1, 0.001, -3, 100, 1e-7, 33.3],
      base = at(`${dtype}.safetensors`),
      out = `${base}.out`;
    await writeFile(base, checkpoint([["a.weight", dtype, [2, 3], W]]));
    const style = await saved(at("exact.safetensors"), { a: exact() });
    await mergeInto(base, [{ place: style, strength: -0.5 }], out);
    const stored = toFloat32(dtype, fromFloat32(dtype, Float32Array.from(W)));
    const wanted = stored.map((w, i) => w - 0.5 * DELTA[i]);
    const { tensors } = parse(await readFile(out));
    assert.equal(tensors.get("a.weight"), {
      dtype,
      shape: [2, 3],
      bytes: fromFloat32(dtype, wanted),
    });
  });
}

const MIXED: Row[] = [
  ["z.bias", "F16", [2]],
  ["other.running", "I32", [3], [1, 2, 3]],
  ["z.weight", "F16", [2, 3]],
  ["a.weight", "BF16", [2, 3]],
  ["norm.weight", "F32", [2]],
  ["half", "F8_E4M3", [8]],
];

into("keeps the file's order, its metadata and every byte that no adapter changes", async () => {
  const base = at("mixed.safetensors"), out = at("mixed.out.safetensors");
  const metadata = { format: "pt", sshs_model_hash: "old", sshs_legacy_hash: "x" };
  await writeFile(base, checkpoint(MIXED, metadata));
  const style = await saved(at("z.safetensors"), { z: exact() });
  const { changed, tensors } = await mergeInto(base, [{ place: style }], out);
  assert.equal([changed, tensors], [["z.weight"], 6]);
  await using before = await open(base);
  await using after = await open(out);
  assert.equal([...after.tensors.keys()], MIXED.map(([name]) => name));
  for (const [name, dtype] of MIXED) {
    const [a, b] = [await before.read(name), await after.read(name)];
    assert.is(b.dtype, dtype);
    assert.is(`${a.bytes}` === `${b.bytes}`, name !== "z.weight", name);
  }
  assert.is(after.metadata.format, "pt");
  assert.equal(JSON.parse(after.metadata[MERGED]), [{ file: "z.safetensors", strength: 1 }]);
  const file = await readFile(out), header = Number(file.readBigUInt64LE());
  const body = createHash("sha256").update(file.subarray(8 + header)).digest("hex");
  assert.is(after.metadata.sshs_model_hash, body);
});

into("writes the hashes that the file then has", async () => {
  const base = at("big.safetensors"), out = at("big.out.safetensors");
  const old = { sshs_model_hash: "", sshs_legacy_hash: "", "modelspec.hash_sha256": "0x1" };
  const rows: Row[] = [["a.weight", "F32", [512, 1024]], ["b.weight", "F32", [2, 3]]];
  await writeFile(base, checkpoint(rows, { ss_seed: "1", ...old }));
  const style = await saved(at("b.safetensors"), { b: exact() });
  await mergeInto(base, [{ place: style }], out);
  await using after = await open(out);
  const { [MERGED]: _, ss_seed, ...told } = after.metadata;
  const made = await hashes([...after.tensors.keys()].map(after.entry), { ss_seed });
  assert.equal(told, { ...made });
});

into("merges several in their order, with DoRA, biases and normalizations", async () => {
  const base = at("net.safetensors"), out = at("net.out.safetensors");
  const rows: Row[] = [
    ["c.weight", "F32", [8, 4, 3, 3]],
    ["c.bias", "F32", [8]],
    ["n.weight", "F32", [8]],
    ["n.bias", "F32", [8]],
  ];
  await writeFile(base, checkpoint(rows));
  const first = {
    c: trained("full", [3, 3, 4, 8], 0, { bias: true }),
    n: trained("norm", [8], 0, { bias: true }),
  };
  const second = { c: trained("lora", [3, 3, 4, 8], 2, { dora: "output" }) };
  const third = { c: trained("oft", [3, 3, 4, 8], 4, {}) };
  const parts = [];
  for (const [i, all] of [first, second, third].entries()) {
    const place = await saved(at(`part${i}.safetensors`), all as Record<string, Adapter>);
    parts.push({ place, strength: [0.5, -0.7, 0.9][i] });
  }
  await mergeInto(base, parts, out);
  await using before = await openCheckpoint(base);
  await using after = await openCheckpoint(out);
  const read = async (from: typeof before, name: string) => {
    const module = from.modules.get(name)!;
    return [await readKernel(from, module), (await readBias(from, module))!];
  };
  const [W, b] = await read(before, "c"), [merged, bias] = await read(after, "c");
  let wanted = W;
  for (const [i, { c }] of [first, second, third].entries()) {
    wanted = merge(wanted, c, { strength: parts[i].strength });
  }
  close(merged, wanted);
  close(bias, mergeBias(b, first.c, { strength: 0.5 })!);
  const [gamma, beta] = await read(before, "n"), [gamma2, beta2] = await read(after, "n");
  close(gamma2, merge(gamma, first.n, { strength: 0.5 }));
  close(beta2, mergeBias(beta, first.n, { strength: 0.5 })!);
});

into("multiplies the bias by PEFT's (IA)^3, not by LyCORIS's", async () => {
  const base = at("ia3.safetensors");
  await writeFile(base, checkpoint([["a.weight", "F32", [2, 3]], ["a.bias", "F32", [2], [1, 2]]]));
  for (const [dialect, wanted] of [["peft", [1.25, 1]], ["kohya", [1, 2]]] as const) {
    const adapter = {
      ...trained("ia3", [3, 2], 0, {}),
      factors: { vector: tf.tensor([[0.5, -1]]) },
    };
    const style = await saved(at(`ia3_${dialect}`), { a: adapter }, { dialect });
    await mergeInto(base, [{ place: style, strength: 0.5 }], `${base}.out`);
    const { tensors } = parse(await readFile(`${base}.out`));
    assert.equal([...toFloat32("F32", tensors.get("a.bias")!.bytes)], wanted, dialect);
  }
});

into("has a strength for text encoders, and one for each block", async () => {
  const base = at("sd.safetensors"), out = `${base}.out`;
  const paths = [
    "unet.down_blocks.0.resnets.0.conv1",
    "unet.mid_block.resnets.0.conv1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
  ];
  await writeFile(
    base,
    checkpoint(paths.map((path): Row => [`${path}.weight`, "F32", [2, 3], Array(6).fill(0)])),
  );
  const style = await saved(
    at("sd_style.safetensors"),
    Object.fromEntries(paths.map((path) => [path, exact()])),
  );
  await mergeInto(base, [{ place: style, strength: 2, textEncoder: 0, blocks: "MID=0.5" }], out);
  const { tensors } = parse(await readFile(out));
  const first = paths.map((path) => toFloat32("F32", tensors.get(`${path}.weight`)!.bytes)[0] * 4);
  assert.equal(first, [2, 1, 0]);
});

const refused = async (work: Promise<unknown>, message: RegExp) => {
  try {
    await work;
  } catch (error) {
    return assert.match((error as Error).message, message);
  }
  assert.unreachable(`nothing was refused: ${message}`);
};

into("refuses what it cannot do, and leaves what is there", async () => {
  const base = at("plain.safetensors"), out = at("kept.safetensors");
  const rows: Row[] = [
    ["a.weight", "F32", [2, 3]],
    ["i8.weight", "I8", [2, 3], Array(6).fill(1)],
    ["scaled.weight", "F8_E4M3", [2, 3]],
    ["scaled.scale_weight", "F32", []],
    ["f16.weight", "F16", [2, 3]],
    ["f8.weight", "F8_E4M3", [2, 3], Array(6).fill(448)],
  ];
  await writeFile(base, checkpoint(rows));
  await writeFile(out, "old");
  const wide = { a: trained("lora", [4, 2], 1, {}) };
  const full = { a: { ...trained("full", [3, 2], 0, { bias: true }) } };
  const huge = { ...exact(), factors: { down: tf.fill([3, 1], 1e6), up: tf.fill([1, 2], 1) } };
  const none = { ...exact(), factors: { down: tf.fill([3, 1], NaN), up: tf.fill([1, 2], 1) } };
  const cases: [Record<string, Adapter>, RegExp][] = [
    [{ a: exact(), b: exact() }, /^Cannot merge as every adapter .* are b of "case\.safetensors"/],
    [wide, /^Cannot merge "a" as "a\.weight" has a kernel 3×2: current lora is for 4×2/],
    [full, /^Cannot merge "a" as "a\.weight" must have a bias beside it/],
    [
      { i8: exact() },
      /weights are rounded to F32, .* F8_E5M2: current dtype of "i8\.weight" is I8/,
    ],
    [{ scaled: exact() }, /"scaled\.weight" must be its weights: current "scaled\.scale_weight" /],
    [{ f8: huge }, /^Cannot write "f8\.weight" as its numbers must be finite in F8_E4M3/],
    [{ f16: huge }, /^Cannot write "f16\.weight" as its numbers must be finite in F16/],
    [
      { a: none },
      /^Cannot write "a\.weight" as its numbers must be finite in F32: current largest is NaN/,
    ],
  ];
  const place = at("case.safetensors");
  for (const [adapters, message] of cases) {
    await saved(place, adapters);
    await refused(mergeInto(base, [{ place }], out), message);
  }
  const half = parse(await encode(new Map([["a", exact()]]))).tensors;
  const down: Row = [
    "lycoris_a.lora_down.weight",
    "F32",
    half.get("lycoris_a.lora_down.weight")!.shape as number[],
  ];
  await writeFile(place, checkpoint([down]));
  await refused(
    mergeInto(base, [{ place }], out),
    /as it must hold adapters: current tensors are lycoris_a/,
  );
  await refused(mergeInto(base, [{ place: base }], out), /as it must hold adapters/);
  await refused(
    mergeInto(base, [{ place }], out, { backup: out }),
    /the backup is a file of its own/,
  );
  assert.is(await readFile(out, "utf8"), "old");
  assert.equal((await readdir(at("."))).filter((name) => name.endsWith(".partial")), []);
});

into("goes on without what has no place, if told to, and says so", async () => {
  const base = at("plain.safetensors"), place = at("more.safetensors");
  await writeFile(base, checkpoint([["a.weight", "F32", [2, 3]]]));
  await saved(place, { a: exact(), b: exact() });
  const { parts } = await mergeInto(base, [{ place }], at("x"), { skipMissing: true });
  assert.equal(parts.map(({ modules, missing }) => [modules, missing]), [[1, ["b"]]]);
});

into("stops where the watcher throws, and leaves nothing", async () => {
  const base = at("plain.safetensors"), place = await saved(at("one.safetensors"), { a: exact() });
  await writeFile(base, checkpoint([["a.weight", "F32", [2, 3]], ["b.weight", "F32", [2, 3]]]));
  const onTensor = () => {
    throw new Error("stopped");
  };
  await refused(mergeInto(base, [{ place }], at("stopped"), { onTensor }), /stopped/);
  assert.equal((await readdir(at("."))).filter((name) => /partial|stopped/.test(name)), []);
});

/** A folder of two shards, their index and a file beside them. */
async function shards(folder: string): Promise<string> {
  await mkdir(folder);
  const map = { "a.weight": "1.safetensors", "b.weight": "2.safetensors" };
  await writeFile(join(folder, "1.safetensors"), checkpoint([["a.weight", "F16", [2, 3]]]));
  await writeFile(
    join(folder, "2.safetensors"),
    checkpoint([["b.weight", "F16", [2, 3]]], { x: "y" }),
  );
  await writeFile(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ weight_map: map }),
  );
  await writeFile(join(folder, "config.json"), "{}");
  return folder;
}

const contents = async (folder: string) => {
  const names = (await readdir(folder)).sort();
  return await Promise.all(
    names.map(async (name) => [name, `${await readFile(join(folder, name))}`]),
  );
};

into("writes shards as shards, and gives them back", async () => {
  const base = await shards(at("shards")), out = at("merged"), backup = at("backup.safetensors");
  const place = await saved(at("one.safetensors"), { b: exact() });
  await mergeInto(join(base, "model.safetensors.index.json"), [{ place }], out, { backup });
  const [before, after] = [await contents(base), await contents(out)];
  assert.equal(after.map(([name]) => name), before.map(([name]) => name));
  assert.equal(after.map(([, text], i) => text === before[i][1]), [true, false, true, true]);
  await unmergeFrom(out, [], at("again"), { backup });
  assert.equal(await contents(at("again")), before);
  await refused(mergeInto(base, [{ place }], join(base, "inside")), /must lie outside of the one/);
  await refused(mergeInto(base, [{ place }], at("x.safetensors")), /as it becomes a folder/);
});

into.run();

const from = suite("unmergeFrom()");
leakless(from);
const beside = folderOf(from);

for (const dtype of ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"] as const) {
  from(`subtracts from ${dtype}, off by no more than it says`, async () => {
    const base = beside(`${dtype}.safetensors`), merged = `${base}.merged`, out = `${base}.out`;
    const rows: Row[] = [["c.weight", dtype, [8, 4, 3, 3]], ["d.weight", dtype, [6, 5]], [
      "d.bias",
      dtype,
      [6],
    ]];
    await writeFile(base, checkpoint(rows));
    const parts = [
      {
        place: await saved(beside("1.safetensors"), {
          c: trained("lora", [3, 3, 4, 8], 2, {}),
          d: trained("full", [5, 6], 0, { bias: true }),
        }),
        strength: 0.7,
      },
      {
        place: await saved(beside("2.safetensors"), {
          c: trained("loha", [3, 3, 4, 8], 2, {}),
          d: trained("oft", [5, 6], 3, {}),
        }),
        strength: -0.4,
      },
    ];
    await mergeInto(base, parts, merged);
    const { error, exact } = await unmergeFrom(merged, parts, out);
    assert.is(exact, false);
    const [a, b] = [parse(await readFile(base)), parse(await readFile(out))];
    assert.equal(b.metadata, a.metadata);
    for (const [name, { bytes }] of a.tensors) {
      const off = distance(toFloat32(dtype, b.tensors.get(name)!.bytes), toFloat32(dtype, bytes));
      assert.ok(off <= error!.share, `${name} is off by ${off}, told ${error!.share}`);
    }
    const most = { F32: 1e-6, F16: 4e-3, BF16: 4e-2, F8_E4M3: 0.5, F8_E5M2: 1 };
    assert.ok(error!.share < most[dtype]);
  });
}

from("gives every byte of F8 back with a backup", async () => {
  const base = beside("f8.safetensors"), out = `${base}.out`, backup = `${base}.backup`;
  await writeFile(base, checkpoint([["a.weight", "F8_E5M2", [2, 3]], ["b", "F8_E4M3", [5]]]));
  const place = await saved(beside("one.safetensors"), { a: exact() });
  await mergeInto(base, [{ place }], out, { backup });
  assert.not.equal(await readFile(out), await readFile(base));
  await unmergeFrom(out, [], out, { backup });
  assert.equal(await readFile(out), await readFile(base));
});

from("gives every byte back with a backup, of any algorithm", async () => {
  const base = beside("any.safetensors"), merged = `${base}.merged`, out = `${base}.out`;
  await writeFile(base, checkpoint(MIXED, { sshs_model_hash: "wrong before" }));
  const dora = { z: trained("lora", [3, 2], 1, { dora: "output" }) };
  const place = await saved(beside("dora.safetensors"), dora), backup = beside("backup");
  await mergeInto(base, [{ place }], merged, { backup });
  await refused(unmergeFrom(merged, [{ place }], out), /Cannot unmerge an adapter with dora/);
  const { exact, changed } = await unmergeFrom(merged, [], out, { backup });
  assert.equal([exact, changed], [true, ["z.weight"]]);
  assert.equal(await readFile(out), await readFile(base));
  assert.equal(
    [...parse(await readFile(backup)).tensors.keys()],
    ["z.weight"],
    "a backup has what changes, and no more",
  );
});

from("takes out only what was merged last, and keeps the note of the rest", async () => {
  const base = beside("two.safetensors"), out = `${base}.out`;
  await writeFile(base, checkpoint([["a.weight", "F32", [2, 3]]]));
  const place = await saved(beside("one.safetensors"), { a: exact() }), backup = beside("first");
  await mergeInto(base, [{ place, strength: 0.5 }], out, { backup });
  await mergeInto(out, [{ place, strength: 0.25 }], out);
  await refused(
    unmergeFrom(out, [{ place, strength: 0.5 }], out),
    /last that were merged go first/,
  );
  await refused(
    unmergeFrom(out, [], out, { backup }),
    /must be the backup of this checkpoint's last/,
  );
  await refused(unmergeFrom(out, [], out, { backup: base }), /current file is no backup/);
  await unmergeFrom(out, [{ place, strength: 0.25 }], out);
  await using now = await openCheckpoint(out);
  assert.equal(notesOf(now), [{ file: "one.safetensors", strength: 0.5 }]);
});

from.run();
