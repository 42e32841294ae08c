/** `deno task bench`: runs the benches that are over soon, and lists the others. */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const QUICK = [
  ["startup.ts"],
  ["engines.ts", "--quick"],
  ["routes.ts", "--quick"],
  ["algorithms.ts", "--quick"],
  ["safetensors.ts"],
];
const OTHERS = `The rest, and all of the above:
  deno run -A bench/engines.ts       GFLOP/s of every engine
  deno run -A bench/routes.ts        bypass, rebuild, hybrid of every algorithm and shape
  deno run -A bench/algorithms.ts    what every algorithm adds to its layer
  deno run -A bench/where.ts WORDS   where a training step's time goes, kernel by kernel
  deno run -A bench/loha_memory.ts   what LoHa's own gradient saves
  deno run -A bench/merge_memory.ts  peak memory and time of merging into a 2 GB checkpoint
  deno run -A --v8-flags=--expose-gc bench/soak.ts   whether 10,000 steps leave memory as it was
  deno task bench:setup              LyCORIS and torch in a Python environment
  deno task bench:peers              this library beside them: training
  deno task bench:files              extracting, merging and resizing`;

for (const [file, ...words] of QUICK) {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const { status } = spawnSync(process.execPath, ["run", "-A", path, ...words], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(1);
  console.log();
}
console.log(OTHERS);
