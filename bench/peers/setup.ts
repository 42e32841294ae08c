/** `deno task bench:setup`: makes the environment in which `deno task bench:peers` runs LyCORIS; again does nothing. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { output, run } from "../../tools/kernel/run.ts";
import { home, python, requirements } from "./environment.ts";

const say = (line: string) => console.error(`· ${line}`);

/** Python of 3.10 or later, which torch asks for. */
async function findPython(): Promise<string> {
  for (const name of ["python3", "python"]) {
    const recent = "import sys; print(sys.version_info >= (3, 10))";
    if (await output([name, "-c", recent]) === "True") return name;
  }
  throw new Error(
    "Cannot set the peers up as Python 3.10 or later must be on the PATH: current PATH has none",
  );
}

async function main(): Promise<void> {
  const stamp = join(home, "ready"), wanted = await readFile(requirements, "utf8");
  if (await readFile(stamp, "utf8").catch(() => "") === wanted) {
    return say(`ready: ${wanted.trim().replaceAll("\n", ", ")} in ${home}`);
  }
  const first = await findPython();
  say(`a Python environment in ${home}`);
  await run(
    [first, "-m", "venv", home],
    {},
    "Cannot make the environment as Python must be able to (python -m venv)",
  );
  say("torch and LyCORIS, some 200 MB where the package index has torch for the CPU alone");
  await run(
    [python, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements],
    {},
    "Cannot install torch and LyCORIS as the package index must be reachable and have them",
  );
  say("their first import");
  await run(
    [python, "-c", "import torch, lycoris"],
    {},
    "Cannot use torch and LyCORIS as they must be importable",
  );
  await writeFile(stamp, wanted);
  say("ready: deno task bench:peers");
}

try {
  await main();
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
