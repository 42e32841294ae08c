/**
 * The notebooks' kernel: Deno's own, on a Deno of its own, in one folder of the checkout.
 *
 * Deno 2.9 loses and misplaces outputs of its kernel, so it runs on the version of `package.json` beside this
 * file, whatever version runs this.
 */
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { found, run } from "./run.ts";

const here = fileURLToPath(new URL(".", import.meta.url));

/** The checkout. */
export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** All that is set up lies in here: remove it, and nothing of it is left. */
export const home: string = join(root, ".venv");

/** The Deno of the kernel, installed if it is not there yet. */
export async function install(say: (line: string) => void): Promise<string> {
  const folder = join(home, "kernel"), source = join(here, "package.json");
  const { dependencies } = JSON.parse(await readFile(source, "utf8"));
  const present = await binary(folder, dependencies.deno);
  if (present) return present;
  say(`Deno ${dependencies.deno}, which the notebooks run on`);
  await mkdir(folder, { recursive: true });
  await copyFile(source, join(folder, "package.json"));
  const npm = await found(process.platform === "win32" ? "npm.cmd" : "npm");
  await run(
    npm
      ? [npm, "install", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"]
      : [process.execPath, "install", "--node-modules-dir=manual"],
    { cwd: folder },
    "Cannot install the kernel's Deno as npm's registry must be reachable",
  );
  const installed = await binary(folder, dependencies.deno);
  if (installed) return installed;
  throw new Error(
    `Cannot find the kernel's Deno as npm's package "deno" must have one for this machine: ` +
      `current platform is ${process.platform} ${process.arch}`,
  );
}

/** The Deno of that version in an installed folder, if it is there. */
async function binary(folder: string, version: string): Promise<string | undefined> {
  const scope = join(folder, "node_modules", "@deno");
  for (const platform of await readdir(scope).catch(() => [])) {
    const { version: current } = JSON.parse(
      await readFile(join(scope, platform, "package.json"), "utf8"),
    );
    if (current === version) {
      return join(scope, platform, process.platform === "win32" ? "deno.exe" : "deno");
    }
  }
}

/** Writes what tells Jupyter of the kernel, in a folder of kernels. */
export async function register(
  deno: string,
  kernels: string,
  { name, title }: { name: string; title: string },
): Promise<string> {
  const folder = join(kernels, name);
  await mkdir(folder, { recursive: true });
  const spec = {
    argv: [deno, "jupyter", "--kernel", "--conn", "{connection_file}"],
    display_name: title,
    language: "typescript",
    env: { NO_COLOR: "1", DENO_DIR: join(home, "deno") },
  };
  await writeFile(join(folder, "kernel.json"), JSON.stringify(spec, null, 2) + "\n");
  return folder;
}

/** The folder of kernels of this user's own Jupyter and VS Code. */
export function userKernels(): string {
  const { JUPYTER_DATA_DIR, XDG_DATA_HOME, APPDATA } = process.env;
  const data = JUPYTER_DATA_DIR ??
    (process.platform === "win32"
      ? join(APPDATA ?? homedir(), "jupyter")
      : process.platform === "darwin"
      ? join(homedir(), "Library", "Jupyter")
      : join(XDG_DATA_HOME ?? join(homedir(), ".local", "share"), "jupyter"));
  return join(data, "kernels");
}
