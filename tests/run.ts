/**
 * Runs every suite under tests/ on the runtime that runs this file (Deno or Bun).
 *
 * `tests/run.ts [WORD ...]` keeps the files whose path contains one of the words. uvu's own queue is
 * used, but not its `exec`: a file that queues nothing (a forgotten `.run()`) is an error here, and
 * the last line is `N passed, N failed`. Never run these files through `deno test` or `bun test`:
 * both exit 0 on a failing uvu suite.
 */
import { readdirSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

type Outcome = [errors: string | true, passed: number, skipped: number, total: number];
type Uvu = { UVU_DEFER: number; UVU_QUEUE: (() => Promise<Outcome>)[][]; UVU_INDEX: number };

const commands = ["run.ts", "golden.ts", "notebooks.ts", "browser.ts"];
const here = fileURLToPath(new URL(".", import.meta.url));
const words = process.argv.slice(2);
const files = readdirSync(here, { recursive: true, encoding: "utf8" })
  .map((file) => file.replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts") && !commands.includes(file))
  .filter((file) => !/^(support|fixtures)\//.test(file))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();

const uvu = globalThis as unknown as Uvu;
uvu.UVU_DEFER = 1;
uvu.UVU_QUEUE = [];
let passed = 0, failed = 0, skipped = 0;

for (const [index, file] of files.entries()) {
  uvu.UVU_INDEX = index;
  uvu.UVU_QUEUE[index] = [];
  console.log(`\n${file}`);
  const start = performance.now();
  try {
    await import(new URL(file, import.meta.url).href);
    if (uvu.UVU_QUEUE[index].length === 0) throw new Error(`${file} runs no suite: call .run()`);
    for (const suite of uvu.UVU_QUEUE[index]) {
      const [errors, ran, skips, total] = await suite();
      if (typeof errors === "string") console.log("\n" + errors);
      passed += ran;
      failed += total - ran;
      skipped += skips;
    }
  } catch (error) {
    failed++;
    console.error(error);
  }
  console.log(`${((performance.now() - start) / 1000).toFixed(1)} s`);
}

if (passed + failed === 0) {
  console.error(`No test matches ${words.join(" ")}`);
  failed = 1;
}
console.log(`\n${passed} passed, ${failed} failed` + (skipped > 0 ? `, ${skipped} skipped` : ""));
process.exit(failed > 0 ? 1 : 0);
