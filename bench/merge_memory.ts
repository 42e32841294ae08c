/**
 * How much memory does a merge take, and how long? Peak resident memory (`VmHWM`) and time of `lowrank merge` and
 * `unmerge` on a checkpoint with layers as SDXL's, into which a LoRA goes, one with DoRA, and a whole difference as
 * large as itself.
 *
 * `bench/merge_memory.ts [--gigabytes 2] [--dtype F16] [--style lora|dora|full]`; Linux only; the files, three times as
 * large, lie in a temporary folder, which is removed.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { table } from "../lib/display/table.ts";
import { fromFloat32 } from "../lib/files/floats.ts";
import { type Dtype, type TensorEntry, write } from "../lib/files/safetensors.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    gigabytes: { type: "string", default: "2" },
    dtype: { type: "string", default: "F16" },
    style: { type: "string", default: "" },
  },
});
const dtype = values.dtype as Dtype;

/** Layers of SDXL's UNet, in PyTorch's layout, again and again until the file is full. */
const SHAPES = [[1280, 1280, 3, 3], [10240, 1280], [1280, 5120], [1280, 1280], [1280, 2048], [
  640,
  640,
  3,
  3,
]];
const RANK = 16;

/** Numbers that differ from tensor to tensor, without 2 GB of random ones. */
function entry(name: string, shape: number[], size: number): TensorEntry {
  const count = shape.reduce((a, b) => a * b, 1);
  const bytes = () => {
    const numbers = Float32Array.from(
      { length: 4096 },
      (_, i) => size * Math.sin(i * (1 + name.length)),
    );
    const piece = fromFloat32(dtype, numbers), all = new Uint8Array(count * piece.length / 4096);
    for (let at = 0; at < all.length; at += piece.length) {
      all.set(piece.subarray(0, Math.min(piece.length, all.length - at)), at);
    }
    return all;
  };
  return { name, dtype, shape, bytes };
}

const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
const path = (name: string) => join(folder, `${name}.safetensors`);
const script = fileURLToPath(new URL("../lib/tools/lowrank.ts", import.meta.url));

/** Runs the command in a process of its own. */
async function measure(...words: string[]): Promise<{ seconds: number; peak: number }> {
  const start = performance.now(), own = process.versions.bun ? [script] : ["run", "-A", script];
  const child = spawn(process.execPath, [...own, ...words, "--quiet"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  let over = false, peak = 0;
  const exit = once(child, "exit").then(([code]) => {
    over = true;
    if (code !== 0) throw new Error(`lowrank ${words.join(" ")} ended with ${code}`);
  });
  while (!over) {
    const status = await readFile(`/proc/${child.pid}/status`, "utf8").catch(() => "");
    peak = Math.max(peak, Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1] ?? 0) * 1024);
    await setTimeout(20);
  }
  await exit;
  return { seconds: (performance.now() - start) / 1000, peak };
}

try {
  const layers: [name: string, shape: number[]][] = [];
  for (
    let left = Number(values.gigabytes) * 1e9 / (dtype === "F32" ? 4 : 2), i = 0;
    left > 0;
    i++
  ) {
    const shape = SHAPES[i % SHAPES.length];
    layers.push([`layer${i}`, shape]);
    left -= shape.reduce((a, b) => a * b, 1);
  }
  await write(path("base"), layers.map(([name, shape]) => entry(`${name}.weight`, shape, 0.1)));
  await write(
    path("full"),
    layers.map(([name, shape]) => entry(`lycoris_${name}.diff`, shape, 0.01)),
  );
  for (const style of ["lora", "dora"]) {
    const tensors = layers.flatMap(([name, [O, I, ...k]]) => {
      const ones = k.map(() => 1);
      return [
        entry(`lycoris_${name}.lora_down.weight`, [RANK, I, ...k], 0.1),
        entry(`lycoris_${name}.lora_up.weight`, [O, RANK, ...ones], 0.1),
        entry(`lycoris_${name}.alpha`, [], 1),
        ...(style === "dora" ? [entry(`lycoris_${name}.dora_scale`, [O, 1, ...ones], 1)] : []),
      ];
    });
    await write(path(style), tensors);
  }
  const size = async (name: string) => `${((await stat(path(name))).size / 1e9).toFixed(2)} GB`;
  const rows = [];
  for (
    const [what, style, words] of [
      ["nothing but copied", "lora", ["merge", path("base"), `${path("lora")}:0`]],
      ["merge", "lora", ["merge", path("base"), path("lora")]],
      ["merge", "dora", ["merge", path("base"), path("dora")]],
      ["merge", "full", ["merge", path("base"), path("full")]],
      ["unmerge", "full", ["unmerge", path("out"), path("full")]],
    ] as const
  ) {
    if (!style.includes(values.style)) continue;
    const into = what === "unmerge" ? "back" : "out";
    const { seconds, peak } = await measure(...words, "-o", path(into), "--force");
    rows.push({
      what,
      checkpoint: `${await size("base")} ${dtype}`,
      adapter: `${style}, ${await size(style)}`,
      "time, s": seconds.toFixed(1),
      "peak, MiB": (peak / 2 ** 20).toFixed(0),
    });
    if (into === "back") await rm(path(into));
  }
  console.log(table(rows));
} finally {
  await rm(folder, { recursive: true });
}
