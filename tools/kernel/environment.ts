/** Jupyter for the notebooks, in the same folder as their kernel: set up once, found again later. */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { home, install, register } from "./kernel.ts";
import { output, run } from "./run.ts";

const REQUIREMENTS = fileURLToPath(new URL("requirements.txt", import.meta.url));
const OLDEST = [3, 10] as const;

/** Programs of the environment, and what keeps Jupyter inside it. */
export interface Environment {
  /** the path of one of its programs */
  program(name: string): string;
  env: Record<string, string>;
}

const scripts = process.platform === "win32" ? "Scripts" : "bin";
const environment: Environment = {
  program: (name) => join(home, scripts, process.platform === "win32" ? `${name}.exe` : name),
  env: {
    JUPYTER_CONFIG_DIR: join(home, "jupyter", "config"),
    JUPYTER_DATA_DIR: join(home, "jupyter", "data"),
    JUPYTER_RUNTIME_DIR: join(home, "jupyter", "runtime"),
    IPYTHONDIR: join(home, "jupyter", "ipython"),
  },
};

/** JupyterLab's own settings where a reader has none: it does not ask whether it may fetch its news. */
const OVERRIDES = {
  "@jupyterlab/apputils-extension:notification": { fetchNews: "false", checkForUpdates: false },
};

/**
 * The environment, made where it is missing or older than what it is made from.
 *
 * @throws {Error} without Python 3.10 or later, its venv module, or the network
 */
export async function prepare(say: (line: string) => void): Promise<Environment> {
  const stamp = join(home, "ready"), requirements = await readFile(REQUIREMENTS);
  const wanted = createHash("sha256").update(requirements).update(home).digest("hex");
  if (await readFile(stamp, "utf8").catch(() => "") !== wanted) {
    const python = await findPython();
    say(`a Python environment in ${home}`);
    await run(
      [python, "-m", "venv", home],
      {},
      "Cannot make the environment as Python must be able to (python -m venv)",
    );
    say("JupyterLab and Plotly's offline figures, about 300 MB; this takes a minute or two");
    await run(
      [
        environment.program("python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--progress-bar=on",
        "--disable-pip-version-check",
        "-r",
        REQUIREMENTS,
      ],
      { env: { PIP_NO_WARN_SCRIPT_LOCATION: "1" } },
      "Cannot install JupyterLab as the Python Package Index must be reachable",
    );
    await writeFile(stamp, wanted);
  }
  // JupyterLab's own programs of Node are CommonJS, whatever the checkout's package.json says
  await writeFile(join(home, "package.json"), '{ "type": "commonjs" }\n');
  const settings = join(home, "share", "jupyter", "lab", "settings");
  await mkdir(settings, { recursive: true });
  await writeFile(join(settings, "overrides.json"), JSON.stringify(OVERRIDES));
  const deno = await install(say);
  const kernels = join(environment.env.JUPYTER_DATA_DIR, "kernels");
  await register(deno, kernels, { name: "deno", title: "Deno" });
  return environment;
}

/**
 * The name of a Python that is new enough and has what an environment needs.
 *
 * @throws {Error} where there is none
 */
export async function findPython(): Promise<string> {
  const versions: string[] = [];
  for (const name of ["python3", "python"]) {
    const version = await output([
      name,
      "-c",
      "import sys; print('%d.%d' % sys.version_info[:2])",
    ]);
    if (version === undefined) continue;
    const [major, minor] = version.split(".").map(Number);
    if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
      versions.push(`${name} ${version}`);
      continue;
    }
    if (await output([name, "-c", "import venv, ensurepip"]) === undefined) {
      throw new Error(
        `Cannot make the environment as Python must have its venv module: current ${name} ${version} ` +
          "lacks it; on Debian and Ubuntu run apt-get install python3-venv",
      );
    }
    return name;
  }
  throw new Error(
    `Cannot set up JupyterLab as it needs Python ${OLDEST.join(".")} or later: ` +
      `current Python is ${versions.join(", ") || "missing"}; install it from python.org`,
  );
}
