/** `lowrank doctor`: what other programs make of a file, and a file that they read right. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { diagnosisRows, readingRows } from "../../display/inspection.ts";
import { progress } from "../../display/progress.ts";
import { table } from "../../display/table.ts";
import { cure, type CuredLayer } from "../../files/cure.ts";
import { diagnose, type Diagnosis } from "../../files/doctor.ts";
import { INSIDE } from "../../files/folder.ts";
import { HOST_NAMES, type HostName } from "../../files/hosts/hosts.ts";
import { CONFIG } from "../../files/peft.ts";
import { parse, write } from "../../files/safetensors.ts";
import { carried, free, opened } from "../adapters.ts";
import { baseOf } from "../base.ts";
import { answer, command, type Common, mayWrite, misuse } from "../command.ts";
import { bytes as sized } from "../words.ts";

interface Options extends Common {
  host?: HostName[];
  base?: string;
  anyName?: boolean;
  layers?: boolean;
  fix?: HostName;
  output?: string;
  force?: boolean;
  dtype: "f32" | "f16" | "bf16";
  leftovers?: "keep" | "drop";
}

/** What is found, for people. */
function text(file: string, found: Diagnosis, layers = false): string {
  const standIns = found.layers.filter(({ base }) => base === "stand-in").length;
  const reasons = Object.entries(found.hosts).flatMap(([name, { reasons }]) =>
    reasons.map((reason) => `  ${name}: ${reason}`)
  );
  return [
    `${file}: ${found.dialect}, ${found.layers.length} modules; beside the trainer's own forward`,
    "",
    table(diagnosisRows(found)),
    ...(reasons.length > 0 ? ["", "not read, as", ...reasons] : []),
    ...(layers ? ["", table(readingRows(found))] : []),
    ...(standIns > 0
      ? [
        "",
        `${standIns} layers depend on their base, for which a random one stands in: --base FILE`,
      ]
      : []),
    ...(found.leftovers.length > 0
      ? ["", `${found.leftovers.length} tensors belong to no adapter`]
      : []),
  ].join("\n");
}

async function examine(file: string, options: Options): Promise<void> {
  await using base = await baseOf(options.base);
  let line: ReturnType<typeof progress> | undefined;
  const found = await diagnose(file, {
    hosts: options.host,
    names: !options.anyName,
    base: base.kernel,
    onModule: (_, all) => {
      if (!options.quiet) (line ??= progress("examining", all)).step();
    },
  });
  line?.done();
  if (found.layers.length === 0) {
    throw new TypeError(
      `Cannot examine "${file}" as it must hold adapters: current tensors are ` +
        (found.leftovers.slice(0, 4).join(", ") || "none"),
    );
  }
  answer(options, found, text(file, found, options.layers));
  for (const host of options.host ?? []) {
    const { right, wrong, refused } = found.hosts[host]!;
    if (right === found.layers.length) continue;
    throw new Error(
      `Cannot use "${file}" in ${host} as it was trained as all layers must be read right: current ` +
        `layers are ${right} right, ${wrong} wrong, ${refused} not read; ` +
        `lowrank doctor --fix ${host} -o FILE may rewrite it`,
    );
  }
}

/** Ways and how many layers went each. */
function counted(layers: readonly CuredLayer[], of: (layer: CuredLayer) => string | undefined) {
  const counts = new Map<string, number>();
  for (const layer of layers) {
    const told = of(layer);
    if (told !== undefined) counts.set(told, (counts.get(told) ?? 0) + 1);
  }
  return [...counts].map(([told, count]) => `${count} ${told}`);
}

/** Writes a file; PEFT's as a folder, unless a file is asked for. */
async function put(output: string, bytes: Uint8Array): Promise<void> {
  const { tensors, metadata } = parse(bytes), { [CONFIG]: config, ...rest } = metadata;
  const entries = [...tensors].map(([name, view]) => ({ ...view, name, bytes: () => view.bytes }));
  if (config === undefined || output.endsWith(".safetensors")) {
    return await write(output, entries, metadata);
  }
  await mkdir(output, { recursive: true });
  await write(join(output, INSIDE[0]), entries, rest);
  await writeFile(join(output, CONFIG), config);
}

async function fix(file: string, host: HostName, options: Options): Promise<void> {
  const { output, force, dtype } = options;
  if (output === undefined) {
    misuse(
      "Cannot fix a file as the result must go somewhere: current output is none; give -o FILE",
    );
  }
  await mayWrite({ output, force });
  await using base = await baseOf(options.base);
  const [found] = await opened([file]);
  try {
    const { layers, bytes } = await cure(found, host, {
      ...{ dtype, base: base.kernel, biased: base.biased, model: base.model },
      names: !options.anyName,
      leftovers: new Map(carried(found, file, options.leftovers)),
    });
    if (!bytes) {
      const reasons = counted(layers, ({ reason }) => reason && `as ${reason}`);
      const needs = layers.some(({ reason }) => reason?.includes("not given"));
      throw new Error(
        `Cannot rewrite "${file}" for ${host} as every layer must have a form that it reads right: ` +
          `current layers without are ${reasons.join("; ")}` +
          (needs ? "; give the checkpoint it was trained on, --base FILE" : ""),
      );
    }
    await put(output, bytes);
    const error = Math.max(...layers.map(({ error = 0 }) => error));
    const ways = counted(layers, ({ by }) => by).join(", ");
    answer(
      options,
      { output, host, bytes: bytes.length, error, layers },
      `${output}: ${ways}; ${sized(bytes.length)}; ${host} reads it with an error of at most ${
        error.toExponential(1)
      }`,
    );
  } finally {
    free(found.adapters);
  }
}

async function run(file: string, options: Options): Promise<void> {
  if (options.fix) return await fix(file, options.fix, options);
  if (options.output !== undefined) {
    misuse("Cannot write a file as a host must be named: current host is none; give --fix HOST");
  }
  await examine(file, options);
}

export const doctor = (): Command =>
  command(
    "doctor",
    "tell what LyCORIS, kohya, AUTOMATIC1111, ComfyUI, PEFT and diffusers make of a file, or fix it for one",
    "doctor style.safetensors --fix comfyui -o style-comfy.safetensors",
  )
    .argument("<file>", "adapters of any dialect: a file, a folder of PEFT, a URL")
    .addOption(
      new Option("--host <name...>", "these only; ends with 1 unless they read every layer right")
        .choices(HOST_NAMES),
    )
    .option("--base <checkpoint>", "what it was trained on, where ΔW depends on that")
    .option("--any-name", "whatever the modules are called: judge the numbers alone")
    .option("--layers", "list every layer")
    .addOption(
      new Option("--fix <host>", "rewrite the file so that the host reads it right, to -o")
        .choices(HOST_NAMES),
    )
    .option("-o, --output <file>", "the file to write")
    .option("--force", "replace a file that is there")
    .addOption(
      new Option("--dtype <name>", "how the file written stores numbers")
        .choices(["f32", "f16", "bf16"]).default("f32"),
    )
    .addOption(
      new Option("--leftovers <what>", "tensors that are no adapter's").choices(["keep", "drop"]),
    )
    .action(run);
