/** LyCORIS and torch in a Python environment of their own, `.venv-peers`. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** Where the environment lies. */
export const home: string = join(root, ".venv-peers");

/** What is installed there, pinned. */
export const requirements: string = fileURLToPath(new URL("requirements.txt", import.meta.url));

/** The environment's Python. */
export const python: string = process.platform === "win32"
  ? join(home, "Scripts", "python.exe")
  : join(home, "bin", "python");

/** Throws unless the environment has been made. */
export function checkEnvironment(): void {
  if (existsSync(join(home, "ready"))) return;
  throw new Error(
    `Cannot measure LyCORIS as its environment must be set up: current "${home}" is not ready, ` +
      "run deno task bench:setup",
  );
}
