import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Checkpoint,
  openCheckpoint,
  readBias,
  readKernel,
} from "../../lib/files/checkpoint.ts";
import { modelIn, modulesOf } from "../../lib/files/checkpoint_modules.ts";
import { lookup, namesOf } from "../../lib/files/names.ts";
import { serialize, type TensorView } from "../../lib/files/safetensors.ts";
import { leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";

const checkpoints = suite("openCheckpoint()");
leakless(checkpoints);
const check = hasGolden ? checkpoints : checkpoints.skip;
let folder = "";

checkpoints.before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lowrank-"));
});
checkpoints.after(() => rm(folder, { recursive: true }));

/** A tensor of ones. */
const ones = (...shape: number[]): TensorView => ({
  dtype: "F32",
  shape,
  bytes: new Uint8Array(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1).buffer),
});

async function compare(one: Checkpoint, two: Checkpoint, network: string) {
  const names = (of: Checkpoint) =>
    [...of.modules.keys()].filter((name) => name.startsWith(`${network}.`)).sort();
  assert.equal(names(one), names(two));
  assert.ok(names(one).length > 10);
  for (const name of names(one)) {
    const [a, b] = [one, two].map((from) => [from, from.modules.get(name)!] as const);
    assert.equal(a[1].shape, b[1].shape, name);
    assert.is(a[1].kind, b[1].kind, name);
    const kernels = [await readKernel(...a), await readKernel(...b)];
    assert.equal(kernels[0].shape, a[1].shape, name);
    assert.equal(kernels[0].dataSync(), kernels[1].dataSync(), name);
    const biases = [await readBias(...a), await readBias(...b)];
    assert.equal(biases[0]?.dataSync(), biases[1]?.dataSync(), name);
    tf.dispose([...kernels, ...biases.filter((bias) => bias !== undefined)]);
  }
}

for (const name of ["tiny", "tiny_xl"]) {
  check(
    `${name} is the same in one CompVis file, in a pipeline and as a network alone`,
    async () => {
      await using single = await openCheckpoint(golden(`sd/${name}/single_file.safetensors`));
      await using pipeline = await openCheckpoint(golden(`sd/${name}`));
      const networks = ["unet", "text_encoder", ...(name === "tiny" ? [] : ["text_encoder_2"])];
      for (const network of networks) {
        await compare(single, pipeline, network);
        await using alone = await openCheckpoint(golden(`sd/${name}/${network}`));
        await compare(alone, pipeline, network);
      }
    },
  );

  check(`${name}'s own keys are those that its names tell`, async () => {
    await using single = await openCheckpoint(golden(`sd/${name}/single_file.safetensors`));
    for (const { diffusers, ldm } of namesOf(single.model)) {
      const module = single.modules.get(diffusers)!;
      assert.is(module.weight, ldm!.weight);
      assert.is(module.third, ldm!.third);
      assert.is(module.transposed, ldm!.transposed);
    }
  });
}

for (const model of ["sd15", "sd21", "sdxl"] as const) {
  checkpoints(
    `${model}'s keys lead back to every module and all its names, as CompVis or diffusers`,
    () => {
      const all = namesOf(model), square = ones(3, 3);
      const keys = {
        ldm: all.flatMap(({ ldm }) => [ldm!.weight, ...(ldm!.bias ? [ldm!.bias] : [])]),
        diffusers: all.flatMap(({ diffusers }) => [`${diffusers}.weight`, `${diffusers}.bias`]),
      };
      for (const [layout, own] of Object.entries(keys)) {
        const modules = modulesOf(new Map(own.map((key) => [key, square])));
        assert.equal(
          [...modules.keys()].sort(),
          all.map(({ diffusers }) => diffusers).sort(),
          layout,
        );
        const names = lookup(modelIn(modules));
        for (const { diffusers, kohya, flat, sgm = flat, ldm } of all) {
          for (const name of [kohya, flat, sgm, diffusers]) {
            assert.is(names.get(name)?.diffusers, diffusers, `${layout} ${name}`);
          }
          if (layout === "ldm") assert.is(modules.get(diffusers)!.third, ldm!.third);
        }
      }
    },
  );
}

check("other networks have their own names, and kohya's for them", async () => {
  await using mini = await openCheckpoint(golden("wholefile_dev/base.safetensors"));
  const names = lookup(mini.model);
  for (const name of ["lora_unet_conv_in", "conv_in", "unet.conv_in", "unet_conv_in"]) {
    assert.is(names.get(name)?.diffusers, "unet.conv_in", name);
  }
  for (
    const name of ["lora_te_text_model_final_layer_norm", "lora_te1_text_model_final_layer_norm"]
  ) {
    assert.is(names.get(name)?.diffusers, "text_encoder.text_model.final_layer_norm", name);
  }
  assert.is(mini.modules.get("unet.conv_in")?.weight, "unet.conv_in.weight");
});

checkpoints("any network's modules are found by their own names", async () => {
  const file = serialize([
    ["model.layers.0.q_proj.weight", ones(4, 3)],
    ["model.embed_tokens.weight", ones(5, 3)],
    ["stem.conv.weight", ones(4, 2, 3, 1)],
    ["stem.conv.bias", ones(4)],
    ["stem.norm.weight", ones(4)],
    ["buffer", ones(2)],
  ]);
  await using opened = await openCheckpoint(file);
  const rows = [...opened.modules.values()].map(({ name, kind, shape, bias }) =>
    [name, kind, shape, bias] as const
  );
  assert.equal(rows, [
    ["model.embed_tokens", "embedding", [5, 3], undefined],
    ["model.layers.0.q_proj", "linear", [3, 4], undefined],
    ["stem.conv", "conv", [3, 1, 2, 4], "stem.conv.bias"],
    ["stem.norm", "norm", [4], undefined],
  ]);
  const names = lookup(opened.model);
  for (const name of ["layers.0.q_proj", "lora_unet_layers_0_q_proj", "model_layers_0_q_proj"]) {
    assert.is(names.get(name)?.diffusers, "model.layers.0.q_proj", name);
  }
});

/** A checkpoint in two shards, whose index says what it is told. */
async function sharded(name: string, map: unknown): Promise<string> {
  await writeFile(join(folder, "a.safetensors"), serialize([["a.weight", ones(2, 3)]]));
  await writeFile(join(folder, "b.safetensors"), serialize([["b.weight", ones(3, 2)]]));
  const index = join(folder, `${name}.safetensors.index.json`);
  await writeFile(index, typeof map === "string" ? map : JSON.stringify({ weight_map: map }));
  return index;
}

checkpoints("shards are one checkpoint, by their index or their folder", async () => {
  const map = { "b.weight": "b.safetensors", "a.weight": "a.safetensors" };
  for (const place of [await sharded("model", map), folder]) {
    await using opened = await openCheckpoint(place);
    assert.equal([...opened.modules.keys()].sort(), ["a", "b"]);
    const kernel = await readKernel(opened, opened.modules.get("b")!);
    assert.equal(kernel.shape, [2, 3]);
    kernel.dispose();
  }
});

const refused = async (place: string, message: RegExp, Kind: typeof SyntaxError) => {
  try {
    await openCheckpoint(place);
  } catch (error) {
    assert.instance(error, Kind);
    return assert.match((error as Error).message, message);
  }
  assert.unreachable();
};

for (const name of ["../a.safetensors", "/a.safetensors", "x\\a.safetensors", "a.bin", 3, null]) {
  checkpoints(`an index that names ${JSON.stringify(name)} is refused`, async () => {
    const index = await sharded("wrong", { "a.weight": name });
    await refused(index, /as a shard is a \.safetensors file of its own folder/, SyntaxError);
  });
}

checkpoints("an index that is none is refused", async () => {
  await refused(
    await sharded("wrong", "<html>"),
    /as it is JSON: current text is not/,
    SyntaxError,
  );
  await refused(await sharded("wrong", "null"), /weight_map is undefined/, SyntaxError);
  await refused(await mkdtemp(join(folder, "empty-")), /a folder must have/, RangeError);
});

checkpoints.run();
