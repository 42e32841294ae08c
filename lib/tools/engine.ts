/** `deno task engine`: what this machine has to compute with, how fast that is, and installing the rest. */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { progress } from "../display/progress.ts";
import { table } from "../display/table.ts";
import * as engine from "../engines/engine.ts";
import { install, INSTALLABLE, type Tell, uninstall } from "../engines/install.ts";
import { measure, type Speed } from "../engines/measure.ts";

/** What is to be done for the engine whose library comes with the system. */
const WEBGPU = `webgpu takes no more than the driver of a card;
without a card, for tests: apt-get install mesa-vulkan-drivers libvulkan1, and LOWRANK_WEBGPU_SOFTWARE=1`;

const HELP = `What computes under TensorFlow.js on this machine.

  deno task engine [--json]              every engine: whether it starts, and its speed
  deno task engine measure NAME          one engine's speed, as JSON
  deno task engine install NAME [--cuda] installs its library into the user's cache folder: ${
  INSTALLABLE.join(", ")
}
  deno task engine uninstall NAME        removes it from there

  --cuda         tensorflow for NVIDIA's cards, 5 GB on the disk
pip downloads the library: Python must be installed. ${WEBGPU}
Example: deno task engine install onednn`;

/** What `measure` prints. */
interface Measured extends Speed {
  /** what the engine computes on, where it tells */
  device?: string;
}

/** What `--json` writes of each engine. */
interface Row {
  name: string;
  /** true, or why it cannot start */
  available: true | string;
  /** 10⁹ multiplications and additions a second; null where it does not start */
  speed: Measured | null;
  /** the command that installs it, where it cannot start and there is one */
  install?: string;
}

/** How the sentence begins of an engine that cannot start. */
const REFUSAL = /^Cannot use engine "\w+" as it must start: /;

/** Measures in a process of its own, where nothing is warm and a library that crashes takes nothing along. */
function measureApart(name: string): Promise<Measured | string> {
  const flags = "Deno" in globalThis ? ["run", "-A"] : [];
  const parameters = [...flags, fileURLToPath(import.meta.url), "measure", name];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, parameters, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "", complaints = "";
    child.stdout.on("data", (text) => output += text);
    child.stderr.on("data", (text) => complaints += text);
    child.on("error", ({ message }) => resolve(message));
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(JSON.parse(output));
      const sentence = signal ? "" : complaints.trim().split("\n").at(-1)!;
      resolve(sentence.replace(REFUSAL, "") || `it ended with ${signal ?? code}`);
    });
  });
}

async function rows(): Promise<Row[]> {
  const names = await engine.names(), line = progress("measuring", names.length);
  const found: Row[] = [];
  for (const name of names) {
    line.step(0, name);
    const speed = await measureApart(name);
    const works = typeof speed !== "string";
    const command = !works && INSTALLABLE.includes(name) && `deno task engine install ${name}`;
    found.push({
      name,
      available: works ? true : speed,
      speed: works ? speed : null,
      ...(command ? { install: command } : {}),
    });
    line.step(1, "");
  }
  line.done();
  return found;
}

/** Three digits, whatever the size. */
const digits = (speed: number | undefined) =>
  speed === undefined ? "" : speed >= 100 ? speed.toFixed(0) : speed.toPrecision(2);

function shown({ name, available, speed, install }: Row) {
  const reason = available === true ? "" : available;
  return {
    engine: name,
    "conv 3×3, GFLOP/s": digits(speed?.convolution),
    "matmul, GFLOP/s": digits(speed?.product),
    "": [reason || speed?.device, install].filter(Boolean).join("; to install it: "),
  };
}

async function installShown(name: string, cuda: boolean): Promise<string> {
  let line: ReturnType<typeof progress> | undefined, current = "", megabytes = 0;
  const tell: Tell = (what, done, total) => {
    if (what !== current) {
      line?.done();
      line = undefined;
      if (process.stderr.isTTY) process.stderr.write(`${what}\n`);
      [current, megabytes] = [what, 0];
    }
    if (total <= 1) return;
    line ??= progress("MB", Math.ceil(total / 1e6));
    const now = Math.ceil(done / 1e6);
    line.step(now - megabytes);
    megabytes = now;
  };
  const { folder, changed } = await install(name, { cuda, tell });
  line?.done();
  return changed ? `${name} is installed in ${folder}` : `${name} was installed already: ${folder}`;
}

async function main(): Promise<void> {
  const { values, positionals: [command, name, ...more] } = parseArgs({
    allowPositionals: true,
    options: {
      cuda: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(HELP);
  if (command !== undefined && (name === undefined || more.length > 0)) {
    throw new RangeError(
      `Cannot run engine as a command takes one engine's name: current words are ` +
        [command, name, ...more].filter(Boolean).join(" "),
    );
  }
  switch (command) {
    case undefined: {
      const found = await rows();
      return console.log(values.json ? JSON.stringify(found, null, 2) : table(found.map(shown)));
    }
    case "measure":
      await engine.use(name as engine.EngineName);
      return console.log(JSON.stringify({ ...await measure(), device: engine.device() }));
    case "install":
      if (name === "webgpu") return console.log(WEBGPU);
      return console.log(await installShown(name, values.cuda));
    case "uninstall": {
      const { folder, changed } = await uninstall(name);
      return console.log(changed ? `removed ${folder}` : `${name} was not installed in ${folder}`);
    }
    default:
      throw new RangeError(
        `Cannot run engine as its command must be one of measure, install, uninstall: ` +
          `current word is ${command}`,
      );
  }
}

try {
  await main();
} catch (error) {
  const { code, message } = error as Error & { code?: string };
  console.error(message);
  process.exit(code?.startsWith("ERR_PARSE_ARGS") || error instanceof RangeError ? 2 : 1);
}
