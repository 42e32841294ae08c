/** Where the fixtures lie that are too large to be kept with the tests. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The folder of what LyCORIS computed: LOWRANK_GOLDEN, or ../shared/golden beside this project. */
const GOLDEN = process.env.LOWRANK_GOLDEN ??
  fileURLToPath(new URL("../../../shared/golden", import.meta.url));

/** Whether that folder is here; a suite that needs it is skipped where it is not. */
export const hasGolden = existsSync(GOLDEN);

/** The path of a file in that folder. */
export function golden(path: string): string {
  return join(GOLDEN, path);
}
