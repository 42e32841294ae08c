import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { AdapterOptions } from "../../lib/adapter/adapter.ts";
import { delta } from "../../lib/adapter/merge.ts";
import type { AlgorithmName } from "../../lib/algorithms/table.ts";
import {
  type DialectName,
  encode,
  open,
  save,
  type SaveOptions,
} from "../../lib/files/adapters.ts";
import { parse, serialize, type TensorView } from "../../lib/files/safetensors.ts";
import type { Shape } from "../../lib/tensor/shape.ts";
import { distance, leakless, TOLERANCE } from "../support/close.ts";
import { f32, free, kernel, refusal, trained } from "../support/few.ts";

const SHAPES: Record<string, Shape> = {
  "block.dense": [6, 8],
  "block.point": [1, 1, 6, 8],
  "block.conv": [3, 3, 6, 8],
  "block.line": [3, 6, 8],
};

interface Kind {
  name: string;
  algorithm: AlgorithmName;
  rank?: number;
  options?: AdapterOptions;
  /** the dialects besides kohya's that hold it, and the kernels that they do not */
  held?: Partial<Record<DialectName, readonly string[]>>;
}

const LINE = ["block.line"];
const PLAIN = { peft: [], diffusers: [], cloneofsimo: [] };
const KINDS: Kind[] = [
  { name: "lora", algorithm: "lora", options: { alpha: 3 }, held: PLAIN },
  { name: "lora of negative alpha", algorithm: "lora", options: { alpha: -1 }, held: PLAIN },
  {
    name: "rslora",
    algorithm: "lora",
    options: { alpha: 3, rankScale: "alpha/sqrt(r)" },
    held: PLAIN,
  },
  { name: "lora with scalar", algorithm: "lora", options: { scalar: true }, held: PLAIN },
  { name: "dylora", algorithm: "dylora", rank: 4, options: { block: 2, alpha: 3 }, held: PLAIN },
  {
    name: "dora",
    algorithm: "lora",
    options: { alpha: 3, dora: "output" },
    held: { peft: [], diffusers: [] },
  },
  { name: "dora by input", algorithm: "lora", options: { dora: "input" } },
  { name: "loha", algorithm: "loha", options: { alpha: 1 }, held: { peft: [] } },
  { name: "loha with cores", algorithm: "loha", options: { tucker: true }, held: { peft: LINE } },
  { name: "lokr", algorithm: "lokr", rank: 1, options: { alpha: 0.5 }, held: { peft: LINE } },
  {
    name: "lokr whole",
    algorithm: "lokr",
    rank: 1,
    options: { full: true, alpha: 3 },
    held: { peft: LINE },
  },
  {
    name: "lokr of two low ranks",
    algorithm: "lokr",
    rank: 1,
    options: { decomposeBoth: true, factor: 3, alpha: 2 },
    held: { peft: LINE },
  },
  {
    name: "lokr with a core",
    algorithm: "lokr",
    rank: 1,
    options: { tucker: true },
    held: { peft: LINE },
  },
  { name: "ia3", algorithm: "ia3", held: { peft: LINE } },
  { name: "ia3 on input", algorithm: "ia3", options: { onInput: true }, held: { peft: LINE } },
];

const DTYPES: [SaveOptions["dtype"], number][] = [
  ["f32", TOLERANCE.value],
  ["f16", 8 * TOLERANCE.half],
  ["bf16", 8 * TOLERANCE.bfloat],
];

/** Names that every dialect takes. */
const layers = (dialect: DialectName, names: readonly string[]) =>
  new Map(names.map((name, i) => [name, dialect === "cloneofsimo" ? `unet:${i}` : name]));

const trips = suite("open(encode())");
leakless(trips);

for (const { name, algorithm, rank = 2, options = {}, held = {} } of KINDS) {
  const holds: Partial<Record<DialectName, readonly string[]>> = { kohya: [], ...held };
  for (const dialect of ["kohya", "peft", "diffusers", "cloneofsimo"] as const) {
    const except = holds[dialect];
    const fitting = Object.entries(SHAPES).filter(([layer]) => !except?.includes(layer));
    if (except) {
      trips(`${dialect} holds ${name}: the same ΔW in every dtype`, async () => {
        const called = layers(dialect, fitting.map(([layer]) => layer));
        const given = new Map(
          fitting.map(([layer, shape]) =>
            [called.get(layer)!, trained(algorithm, shape, rank, options)] as const
          ),
        );
        for (const [dtype, limit] of DTYPES) {
          const back = await open(await encode(given, { dialect, dtype }));
          assert.is(back.dialect, dialect);
          assert.equal([...back.adapters.keys()].sort(), [...given.keys()].sort());
          assert.is(back.leftovers.size, 0);
          for (const [layer, shape] of fitting) {
            const key = called.get(layer)!, base = kernel(shape);
            const [found, wanted] = [back.adapters, given].map((map) => delta(map.get(key)!, base));
            const error = distance(found.dataSync(), wanted.dataSync());
            assert.ok(error <= limit, `${layer} in ${dtype} is off by ${error}`);
          }
          free(back.adapters.values());
        }
      });
    }
    const others = Object.entries(SHAPES).filter(([layer]) => !except || except.includes(layer));
    if (others.length === 0) continue;
    const kernels = except ? ` on ${others.map(([layer]) => layer.split(".")[1])}` : "";
    trips(
      `${dialect} refuses ${name}${kernels} by name, with a dialect that holds it`,
      async () => {
        for (const [layer, shape] of others) {
          const given = new Map([[layer, trained(algorithm, shape, rank, options)]]);
          const error = await refusal(encode(given, { dialect }));
          assert.instance(error, TypeError);
          assert.match(
            error.message,
            new RegExp(`^Cannot save "${layer}" as ${dialect} as .*save it as kohya`),
          );
        }
      },
    );
  }
}

trips.run();

const others = suite("leftovers");
leakless(others);

others("of every dialect are named, unread, and written again as they are", async () => {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  try {
    const path = join(folder, "a.safetensors"),
      foreign = new Map([
        ["bundle_emb.style.string_to_param.*", f32([2, 4], 5)],
        ["lora_unet_x.lora_down.weight", f32([2, 6], 6)],
        ["odd", { dtype: "F8_E8M0", shape: [2], bytes: Uint8Array.of(1, 2) } as TensorView],
      ]);
    const given = new Map([["oft_unet_a", trained("lora", [6, 8], 2, {})]]);
    await save(path, given, { leftovers: foreign });
    const file = await open(path);
    assert.equal([...file.adapters.keys()], ["oft_unet_a"]);
    assert.equal([...file.leftovers.keys()].sort(), [...foreign.keys()].sort());
    await save(path, file.adapters, { leftovers: file.leftovers, metadata: file.metadata });
    const { tensors } = parse(new Uint8Array(await readFile(path)));
    for (const [key, tensor] of foreign) assert.equal(tensors.get(key), tensor, key);
    assert.ok(tensors.has("oft_unet_a.lora_up.weight"));
    free(file.adapters.values());
  } finally {
    await rm(folder, { recursive: true });
  }
});

others("are what would get an adapter's name a second time", async () => {
  const twice = ["lycoris_a", "a"].flatMap((module): [string, TensorView][] => [
    [`${module}.lora_down.weight`, f32([2, 6], 1)],
    [`${module}.lora_up.weight`, f32([8, 2], 2)],
  ]);
  const { adapters, leftovers } = await open(serialize(twice));
  assert.equal([...adapters.keys()], ["a"]);
  assert.is(leftovers.size, 2);
  free(adapters.values());
});

others("of a checkpoint, which is all that is in it, cost no memory", async () => {
  const { adapters, leftovers } = await open(serialize([
    ["model.diffusion_model.out.2.weight", f32([4, 4], 1)],
    ["model.diffusion_model.out.2.bias", f32([4], 2)],
  ]));
  assert.is(adapters.size, 0);
  assert.is(leftovers.size, 2);
});

others.run();

const told = suite("hashes");
leakless(told);

told("that the metadata has are made right, others only when asked", async () => {
  const given = new Map([["a", trained("lora", [6, 8], 2, {})]]);
  const hash = async (options: SaveOptions) =>
    (await open(await encode(given, options)).then((file) => {
      free(file.adapters.values());
      return file;
    })).metadata;
  assert.equal(await hash({ metadata: { ss_x: "1" } }), { ss_x: "1" });
  const added = await hash({ metadata: { ss_x: "1" }, hashes: true });
  assert.equal(Object.keys(added), ["ss_x", "sshs_model_hash", "sshs_legacy_hash"]);
  const stale = { sshs_model_hash: "0", "modelspec.hash_sha256": "0x0" };
  assert.equal(await hash({ metadata: stale }), {
    sshs_model_hash: added.sshs_model_hash,
    "modelspec.hash_sha256": `0x${added.sshs_model_hash}`,
  });
});

told.run();
