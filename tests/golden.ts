/**
 * Compares the library with fixtures that LyCORIS made: `tests/golden.ts [FOLDER] [--engine NAME]`.
 *
 * Every single-layer case (output at strength 1 and another, ΔW, the gradients of x and of every factor, by every
 * route that is defined) and every adapter file applied to the networks it was made for. Prints a line for each
 * failure and ends with `N passed, N failed, N skipped`; a case is skipped only because its algorithm is not here.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as engine from "../lib/engines/engine.ts";
import { cases } from "./support/cases.ts";
import { wholeFiles } from "./support/whole_files.ts";

const { values, positionals: [given] } = parseArgs({
  args: process.argv.slice(2),
  options: { engine: { type: "string", default: "auto" } },
  allowPositionals: true,
});
const folder = given ?? fileURLToPath(new URL("../../shared/golden", import.meta.url));
if (!existsSync(folder)) {
  console.error(`Cannot compare with "${folder}" as it must be a folder of fixtures`);
  process.exit(2);
}
try {
  await engine.use(values.engine as Parameters<typeof engine.use>[0]);
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}

const count = { passed: 0, failed: 0, skipped: 0 };
for (const check of [cases, wholeFiles]) {
  for await (const { name, failures } of check(folder)) {
    if (!failures) count.skipped++;
    else if (failures.length === 0) count.passed++;
    else {
      count.failed++;
      for (const failure of failures) console.log(`${name}: ${failure}`);
    }
  }
}
const { passed, failed, skipped } = count;
if (passed + failed === 0) console.error(`No fixture of an algorithm that exists in "${folder}"`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
