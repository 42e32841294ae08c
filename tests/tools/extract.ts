import { readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { delta } from "../../lib/adapter/merge.ts";
import { open } from "../../lib/files/adapters.ts";
import { open as openTensors, type TensorEntry, write } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { lowrank } from "../support/command.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { folderOf } from "../support/folder.ts";

const extract = suite("lowrank extract");
leakless(extract);
const at = folderOf(extract), base = at("base.safetensors"), tuned = at("tuned.safetensors");

/** The fixture's pairs as two checkpoints of a UNet. */
async function writePair(): Promise<void> {
  await using pairs = await openTensors(golden("extract_dev.safetensors"));
  const side = (which: string) =>
    [...pairs.tensors.keys()].flatMap((key): TensorEntry[] => {
      const [layer, name] = key.split("/");
      if (name !== which && name !== `${which}_bias`) return [];
      const end = name === which ? "weight" : "bias";
      return [{ ...pairs.entry(key), name: `unet.${layer}.${end}` }];
    });
  await write(base, side("base"));
  await write(tuned, side("tuned"));
}

if (hasGolden) {
  extract.before(writePair);
  const { files } = JSON.parse(readFileSync(golden("extract_dev.json"), "utf8"));
  type Settings = Record<string, string | number | boolean>;
  for (const [name, settings] of Object.entries<Settings>(files)) {
    const { mode, linear_param, conv_param, small_conv, use_bias, sparsity } = settings;
    const number = mode === "fixed" ? "dim" : mode;
    const options = [
      ...["--mode", `${mode}`, "--lycoris", "--dtype", "f16"],
      ...(mode === "full" ? [] : [`--linear_${number}=${linear_param}`]),
      ...(mode === "full" ? [] : [`--conv_${number}=${conv_param}`]),
      ...(small_conv === false || mode === "full" ? [] : ["--tucker"]),
      ...(use_bias ? ["--use_sparse_bias", "--sparsity", `${sparsity}`] : []),
    ];
    extract(`${options.join(" ")} is LyCORIS's file, key for key and ΔW for ΔW`, async () => {
      const output = at(`${name}.safetensors`),
        lycoris = golden(`extract_dev_files/${name}.safetensors`);
      const { code, err } = await lowrank("extract", base, tuned, output, ...options);
      assert.is(code, 0, err);
      await using ours = await openTensors(output);
      await using theirs = await openTensors(lycoris);
      const known = (key: string) => !key.startsWith("lora_unet_ln."); // no pair of it is in the fixture
      assert.equal(
        [...ours.tensors.keys()].sort(),
        [...theirs.tensors.keys()].filter(known).sort(),
      );
      const [found, expected] = [await open(output), await open(lycoris)];
      for (const [module, adapter] of found.adapters) {
        const other = expected.adapters.get(module)!;
        assert.is(adapter.rank, other.rank);
        close(delta(adapter), delta(other), "bfloat", module);
      }
    });
  }

  extract(
    "tells each layer's error and energy, of the whole too, as numbers and drawn",
    async () => {
      const report = at("report.json"), figure = at("figure.svg");
      const { code } = await lowrank(
        ...["extract", base, tuned, "-o", at("a.safetensors"), "--linear-dim", "4", "--json"],
        ...["--report", report, "--figure", figure],
      );
      assert.is(code, 0);
      const { layers, norm, error } = JSON.parse(await readFile(report, "utf8"));
      const all = Object.values(layers) as { norm: number; error: number; energy: number }[];
      for (const { error, energy } of all) assert.ok(Math.abs(error ** 2 + energy - 1) < 1e-9);
      const missed = all.reduce((sum, layer) => sum + (layer.norm * layer.error) ** 2, 0);
      assert.ok(Math.abs(Math.sqrt(missed) - norm * error) < 1e-9);
      assert.match(await readFile(figure, "utf8"), "misses");
    },
  );

  extract("by the best for the bytes stays below them, and misses less with more", async () => {
    const errors: number[] = [];
    for (const budget of ["6KiB", "12KiB", "24KiB"]) {
      const output = at(`${budget}.safetensors`), report = at(`${budget}.json`);
      const { code, err } = await lowrank(
        ...["extract", base, tuned, "-o", output, "--algorithm", "auto", "--budget", budget],
        ...["--report", report, "--dtype", "f16"],
      );
      assert.is(code, 0, err);
      assert.ok((await stat(output)).size <= parseInt(budget) * 1024);
      errors.push(JSON.parse(await readFile(report, "utf8")).error);
    }
    assert.ok(errors[0] > errors[1] && errors[1] > errors[2], String(errors));
  });

  extract("refuses what is no pair, says what an option lacks, and writes nothing", async () => {
    const output = at("none.safetensors"), words = ["-o", output];
    const same = await lowrank("extract", base, base, ...words);
    assert.is(same.code, 1);
    assert.match(same.err, "must differ");
    for (const options of [["--mode", "ratio"], ["--mode", "best"], ["--algorithm", "auto"]]) {
      assert.is((await lowrank("extract", base, tuned, ...words, ...options)).code, 2);
    }
    assert.is((await lowrank("extract", base, tuned)).code, 2);
    assert.is(await stat(output).catch(() => undefined), undefined);
  });
}

extract.run();
