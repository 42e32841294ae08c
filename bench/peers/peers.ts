/**
 * How fast is a training step beside LyCORIS's on torch? The same steps on the same threads, one side after the other
 * again and again; the least of all rounds counts. See `README.md` one folder up for what the columns are.
 */
import { writeFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { progress } from "../../lib/display/progress.ts";
import { table } from "../../lib/display/table.ts";
import { fits, PLACES, RANKS, type Way, WAYS } from "../support/cases.ts";
import { type Child, child } from "./child.ts";
import { checkEnvironment, python } from "./environment.ts";
import { markdown } from "./markdown.ts";
import { comparedWithBase, type Row, targets } from "./targets.ts";
import type { Task } from "./task.ts";

const HELP = `Times this library's training steps beside LyCORIS's on torch.

  deno task bench:peers [--json FILE] [--markdown FILE] [--quick] [--case WORDS] [--engine NAME] [--threads N]
                        [--rounds N] [--budget MS] [--no-memory]

  --json FILE      writes the rows as JSON
  --markdown FILE  writes the table and what it says of the targets as Markdown
  --quick          rank 8, the two smallest layers and the whole step, short turns: shows that it works
  --case WORDS     only cases whose name has every one of these words, as in "1×1 lora"
  --engine NAME    this library's engine; default the fastest that this machine has
  --threads N      of both sides; default the cores
  --rounds N       turns of each side in each case; default 3
  --budget MS      milliseconds of a turn, in which there are two steps at least; default 120
  --no-memory      leaves the peaks of memory out

Example: deno task bench:peers --json out.json --case "linear lokr"`;

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    json: { type: "string" },
    markdown: { type: "string" },
    quick: { type: "boolean", default: false },
    case: { type: "string", default: "" },
    engine: { type: "string", default: "auto" },
    threads: { type: "string", default: String(availableParallelism()) },
    rounds: { type: "string", default: "3" },
    budget: { type: "string", default: "120" },
    "no-memory": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

type Case = Pick<Task, "place" | "way" | "rank"> & { name: string };

/** Every place with every way at every rank, then the demo's network. */
function cases(): Case[] {
  const ranks = values.quick ? RANKS.slice(0, 1) : RANKS;
  const ranksOf = ({ ranked }: Way) => ranked ? ranks : [0];
  const layers = (values.quick ? [PLACES[0], PLACES[4]] : PLACES).flatMap((place) =>
    WAYS.filter((way) => fits(way, place)).flatMap((way) =>
      ranksOf(way).map((rank) => ({ name: place.name, place, way, rank }))
    )
  );
  // no rank above 8: the network's last layer has ten outputs
  const steps = WAYS.map((way) => ({
    name: "demo's net, Adam",
    way,
    rank: way.ranked ? RANKS[0] : 0,
  }));
  const words = values.case.split(/\s+/);
  return [...layers, ...steps].filter(({ name, way, rank }) =>
    words.every((word) => `${name} ${way.name} r${rank}`.includes(word))
  );
}

/**
 * LyCORIS's modes: as its users run it first. Bypass ignores DoRA, and of DyLoRA views whatever ranks it drew as
 * all of them, which fails or is another network: there it is no mode.
 */
function modes({ place, way }: Case): Pick<Task, "bypass" | "channelsLast">[] {
  const bypasses = way.algorithm && way.algorithm !== "dylora" && !way.options?.dora;
  const formats = place?.kernel.length === 2 ? [false] : [false, true];
  return formats.flatMap((channelsLast) =>
    (bypasses ? [false, true] : [false]).map((bypass) => ({ channelsLast, bypass }))
  );
}

/** The sides, each with a second program for memory, which needs a process that has computed nothing. */
interface Sides {
  ours: Child;
  theirs: Child;
  fresh: () => Promise<Child>;
  forks: Child;
}

async function rowOf(one: Case, { ours, theirs, fresh, forks }: Sides): Promise<Row> {
  const { name, place, way, rank } = one, task = { place, way, rank };
  const rounds = Number(values.rounds), budget = values.quick ? 60 : Number(values.budget);
  const all = modes(one), best = all.map(() => Infinity);
  const beside = comparedWithBase(one) ? { ...task, way: WAYS[0], rank: 0 } : undefined;
  let own = Infinity, base = Infinity;
  const number = (value: number | undefined, error: string | undefined) => {
    if (value !== undefined) return value;
    throw new Error(`Cannot time ${name}, ${way.name} as it must run: ${error}`);
  };
  for (let round = 0; round < rounds; round++) {
    const { ms, error } = await ours.ask({ ...task, budget });
    own = Math.min(own, number(ms, error));
    if (beside) {
      const { ms, error } = await ours.ask({ ...beside, budget });
      base = Math.min(base, number(ms, error));
    }
    for (const [i, mode] of all.entries()) {
      const { ms, error } = await theirs.ask({ ...task, ...mode, budget });
      best[i] = Math.min(best[i], number(ms, error));
    }
  }
  const row: Row = {
    case: name,
    algorithm: way.name,
    rank,
    ours_ms: own,
    default_ms: best[0],
    best_ms: Math.min(...best),
    ...(beside && { base_ms: base }),
  };
  if (values["no-memory"]) return row;
  const still = { budget: 0, memory: true }, once = await fresh();
  const peak = await once.ask({ ...task, ...still });
  once.end();
  const peaks = [];
  for (const mode of all) peaks.push((await forks.ask({ ...task, ...mode, ...still })).mib);
  const known = peaks.filter((mib) => mib !== undefined);
  if (peak.mib === undefined || known.length < all.length) return row;
  return { ...row, ours_mib: peak.mib, default_mib: known[0], best_mib: Math.min(...known) };
}

function show(row: Row): Record<string, string | number> {
  const { case: name, algorithm, rank, ours_ms, default_ms, best_ms } = row;
  const mib = (value: number | undefined) => value === undefined ? "" : value.toFixed(0);
  return {
    case: name,
    algorithm,
    rank: rank || "",
    "ours, ms": ours_ms.toFixed(2),
    "default, ms": default_ms.toFixed(2),
    "best, ms": best_ms.toFixed(2),
    "default/ours": (default_ms / ours_ms).toFixed(2),
    "best/ours": (best_ms / ours_ms).toFixed(2),
    "ours, MiB": mib(row.ours_mib),
    "default, MiB": mib(row.default_mib),
    "best, MiB": mib(row.best_mib),
  };
}

async function main(): Promise<void> {
  if (values.help) return console.log(HELP);
  const chosen = cases();
  if (chosen.length === 0) {
    throw new RangeError(
      `Cannot measure as --case must name one: current value is ${values.case}`,
    );
  }
  checkEnvironment();
  const path = (file: string) => fileURLToPath(new URL(file, import.meta.url));
  const { threads, engine } = values;
  const env = { LOWRANK_THREADS: threads, OMP_NUM_THREADS: threads };
  const open = () =>
    child(["deno", "run", "-A", "--v8-flags=--expose-gc", path("ours.ts"), engine], env);
  const other = () => child([python, path("theirs.py"), threads], env);
  const started: Child[] = [];
  const keep = async (starting: Promise<Child>) => {
    const one = await starting;
    started.push(one);
    return one;
  };
  const bar = progress("cases", chosen.length), rows: Row[] = [];
  try {
    const ours = await keep(open()), theirs = await keep(other());
    const sides: Sides = { ours, theirs, fresh: () => keep(open()), forks: await keep(other()) };
    const load = () => loadavg()[0].toFixed(1), before = load();
    for (const one of chosen) {
      rows.push(await rowOf(one, sides));
      // at once: an interrupted run keeps what it has measured
      if (values.json) await writeFile(values.json, JSON.stringify(rows, null, 2) + "\n");
      bar.step(1, `${one.name} ${one.way.name}`);
    }
    bar.done();
    const about = [
      `${ours.ready}; ${theirs.ready}; ${threads} threads; ${cpus()[0].model}`,
      `Load ${before} before, ${load()} after (this bench itself makes up to ${threads}).`,
    ];
    console.log(`${about.join("\n")}\n${table(rows.map(show))}\n\n${targets(rows)}`);
    if (values.markdown) {
      const date = new Date().toISOString().slice(0, 10);
      await writeFile(values.markdown, markdown([date, ...about], rows.map(show), targets(rows)));
    }
  } finally {
    for (const one of started) one.end();
  }
}

try {
  await main();
} catch (error) {
  console.error((error as Error).message);
  process.exit(error instanceof RangeError ? 2 : 1);
}
