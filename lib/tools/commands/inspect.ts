/** `lowrank inspect`: what a file of adapters is and holds. */
import { type Command, InvalidArgumentError } from "commander";
import { inspectionFigure, inspectionRows, spectraFigure } from "../../display/inspection.ts";
import { progress } from "../../display/progress.ts";
import { table } from "../../display/table.ts";
import { inspect as inspected, type Inspection } from "../../files/inspect.ts";
import { answer, command, type Common } from "../command.ts";
import { bytes } from "../words.ts";

interface Options extends Common {
  all?: boolean;
  /** how many singular values of every layer; none at all; or what is soon found */
  spectra?: number | false;
  figure?: string;
  spectraFigure?: string;
}

/** Layers that are listed unless all are asked for. */
const LISTED = 20;
/** Tags that are told. */
const TAGS = 12;

const most = (values: readonly number[]) => {
  const [least, largest] = [Math.min(...values), Math.max(...values)].map((value) =>
    Number(value.toPrecision(4))
  );
  return least === largest ? String(least) : `${least} to ${largest}`;
};

/** Whether the hashes that a file tells are those of its tensors. */
function hashesIn({ hashes: { stored, computed } }: Inspection): string {
  const names = Object.keys(computed) as (keyof typeof computed)[];
  return names.map((name) => {
    const told = stored[name];
    if (told === undefined) return `${name} not told, would be ${computed[name].slice(0, 14)}`;
    return told === computed[name]
      ? `${name} right`
      : `${name} is another file's (${told.slice(0, 14)} where ${computed[name].slice(0, 14)})`;
  }).join("; ");
}

/** How many singular values. */
function count(text: string): number {
  const value = text === "all" ? Infinity : Number(text);
  if (value >= 1 && (value === Infinity || Number.isInteger(value))) return value;
  throw new InvalidArgumentError('It must be a whole number from 1 on, or "all".');
}

/** What is found, for people. */
function text(file: string, found: Inspection, { all, spectra }: Options): string {
  const { dialect, algorithms, layers, parameters, base, tags, leftovers, metadata } = found;
  const kinds = Object.entries(algorithms).map(([name, count]) => `${count} ${name}`);
  const dtypes = [...new Set(layers.flatMap(({ dtypes }) => dtypes))].join(" ");
  const ranked = layers.filter(({ rank }) => rank > 0);
  const listed = all
    ? layers
    : layers.toSorted((a, b) => (b.norm ?? 0) - (a.norm ?? 0)).slice(0, LISTED);
  const numbers = new Intl.NumberFormat("en").format(parameters);
  const lines = [
    `${file}: ${dialect}, ${layers.length} modules (${kinds.join(", ") || "none"})`,
    ...(ranked.length > 0
      ? [
        `rank ${most(ranked.map(({ rank }) => rank))}, scale ${
          most(ranked.map(({ scale }) => scale))
        }, norm of all ΔW together ${found.norm.toPrecision(3)}`,
      ]
      : []),
    `${numbers} parameters, ${bytes(found.bytes)} as ${dtypes}`,
    base ? `trained on ${base.model}, by ${base.by}` : "trained on a model that it does not tell",
    hashesIn(found),
    `${Object.keys(metadata).length} keys of metadata`,
    ...(tags.length > 0
      ? [
        `tags: ${tags.slice(0, TAGS).map(([tag, count]) => `${tag} ${count}`).join(", ")}` +
        (tags.length > TAGS ? ` and ${tags.length - TAGS} more` : ""),
      ]
      : []),
    leftovers.length > 0
      ? `${leftovers.length} tensors belong to no adapter: ${leftovers.slice(0, 6).join(", ")}` +
        (leftovers.length > 6 ? " …" : "")
      : "every tensor belongs to an adapter",
  ];
  if (layers.length === 0) return lines.join("\n");
  const cut = listed.length < layers.length
    ? [`the ${listed.length} of ${layers.length} layers that add most; --all lists all`]
    : [];
  const slow = spectra === undefined
    ? layers.filter(({ shape, norm, spectrum }) => shape.length > 1 && norm && !spectrum).length
    : 0;
  const open = slow > 0
    ? [`without singular values, as those take long: ${slow}; --spectra all finds them`]
    : [];
  return [...lines, "", table(inspectionRows(listed)), ...cut, ...open].join("\n");
}

async function run(file: string, options: Options): Promise<void> {
  let line: ReturnType<typeof progress> | undefined;
  const { spectra } = options;
  const found = await inspected(file, {
    ...(typeof spectra === "number" ? { spectra: "all", values: spectra } : { spectra }),
    onModule: (_, all) => {
      if (!options.quiet) (line ??= progress("inspecting", all)).step();
    },
  });
  line?.done();
  if (options.figure) await inspectionFigure(found).save(options.figure);
  if (options.spectraFigure) await spectraFigure(found).save(options.spectraFigure);
  answer(options, found, text(file, found, options));
}

export const inspect = (): Command =>
  command(
    "inspect",
    "show what a file of adapters is and holds: dialect, base, ranks, norms, spectra, tags, hashes",
    "inspect style.safetensors --spectra all --json",
  )
    .argument("<file>", "adapters of any dialect: a file, a folder of PEFT, a URL")
    .option("--all", "list every layer")
    .option(
      "--spectra <count>",
      'so many of the largest singular values of every layer, or "all"; else 16 of those that are soon found',
      count,
    )
    .option("--no-spectra", "leave out the singular values, which take longest")
    .option("--figure <file>", "draw the norms of all layers, as .png or .svg")
    .option("--spectra-figure <file>", "draw the largest singular values of some, as .png or .svg")
    .action(run);
