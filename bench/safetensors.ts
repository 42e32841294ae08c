/**
 * How fast are adapter files? MB/s of opening and saving one of LoRA for a network of 64 layers, for each type of number,
 * beside reading and writing as many bytes with nothing done to them.
 */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { table } from "../lib/display/table.ts";
import { dispose, files, lora } from "../mod.ts";
import { interleaved } from "./support/measure.ts";

const LAYERS = 64;
const folder = await mkdtemp(join(tmpdir(), "lowrank-bench-"));
try {
  const adapters = new Map(Array.from({ length: LAYERS }, (_, seed) => [
    `lora_unet_layer_${seed}`,
    lora.create([3, 3, 320, 320], 32, { seed }),
  ]));
  const rows = [];
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const path = join(folder, `${dtype}.safetensors`), copy = join(folder, "copy");
    await files.save(path, adapters, { dtype });
    const bytes = await readFile(path), { size } = await stat(path);
    const open = async () => {
      for (const adapter of (await files.open(path)).adapters.values()) dispose(adapter);
    };
    const times = await interleaved([
      open,
      () => readFile(path),
      () => files.save(path, adapters, { dtype }),
      () => writeFile(copy, bytes),
    ], { rounds: 3, budget: 100 });
    const [opened, read, saved, written] = times.map((ms) => `${Math.round(size / ms / 1e3)} MB/s`);
    rows.push({
      type: dtype,
      MB: (size / 1e6).toFixed(1),
      "open": opened,
      "read alone": read,
      "save": saved,
      "write alone": written,
    });
  }
  for (const adapter of adapters.values()) dispose(adapter);
  console.log(`Files of ${LAYERS} adapters:\n${table(rows)}`);
} finally {
  await rm(folder, { recursive: true });
}
