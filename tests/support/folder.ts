/** A folder that lives as long as a suite. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "uvu";

/** A new folder's path-maker; the folder is removed when the suite is over. */
export function folderOf(tests: Test): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
  tests.after(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}
