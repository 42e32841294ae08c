/**
 * `deno task lab`: JupyterLab with the notebooks and a Deno kernel, set up once inside this checkout.
 *
 * Everything lies in `.venv`, and nothing of the user's own Jupyter is read or written.
 */
import { join, resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { prepare } from "./kernel/environment.ts";
import { install, register, root, userKernels } from "./kernel/kernel.ts";
import { run } from "./kernel/run.ts";

const HELP = `Opens the notebooks in JupyterLab; the first time it sets everything up, in .venv.

  deno task lab [FOLDER] [--kernel-only] [--no-browser] [--port N]

  FOLDER         what is opened; default: notebooks
  --kernel-only  adds the kernel to the Jupyter or VS Code that this user already has, and opens nothing
  --no-browser   starts the server and prints its address
  --port N       where the server listens; default 8888, or the next that is free

Example: deno task lab --no-browser --port 8890`;

const say = (line: string) => console.error(`· ${line}`);

async function main(): Promise<void> {
  const { values, positionals: [folder = join(root, "notebooks"), ...others] } = parseArgs({
    allowPositionals: true,
    options: {
      "kernel-only": { type: "boolean", default: false },
      "no-browser": { type: "boolean", default: false },
      port: { type: "string", default: "8888" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(HELP);
  if (!/^\d{1,5}$/.test(values.port) || Number(values.port) > 65535) {
    throw new RangeError(
      `Cannot open JupyterLab as --port must be a number up to 65535: current value is ${values.port}`,
    );
  }
  if (others.length > 0) {
    throw new RangeError(
      `Cannot open JupyterLab as it opens one folder: current others are ${others.join(", ")}`,
    );
  }
  if (values["kernel-only"]) {
    const names = { name: "lowrank", title: "Deno (lowrank)" };
    const folder = await register(await install(say), userKernels(), names);
    return console.log(
      `Choose the kernel "${names.title}" in Jupyter or VS Code. To take it away, remove ${folder}.`,
    );
  }
  const { program, env } = await prepare(say);
  say("JupyterLab starts; Ctrl+C ends it");
  await run(
    [
      program("jupyter-lab"),
      "--ServerApp.ip=127.0.0.1",
      `--ServerApp.port=${values.port}`,
      `--ServerApp.root_dir=${resolve(folder)}`,
      "--ServerApp.answer_yes=True",
      "--log-level=WARN",
      "--LabApp.log_level=WARN",
      ...(process.getuid?.() === 0 ? ["--allow-root"] : []),
      ...(values["no-browser"] ? ["--no-browser"] : []),
    ],
    { env },
    "Cannot go on with JupyterLab as it must not fail",
  );
}

try {
  await main();
} catch (error) {
  const { code, message } = error as Error & { code?: string };
  console.error(message);
  process.exit(code?.startsWith("ERR_PARSE_ARGS") || error instanceof RangeError ? 2 : 1);
}
