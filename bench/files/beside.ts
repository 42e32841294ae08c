/** A question about files asked of this library and of a peer, a layer at a time, one side after the other. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { progress } from "../../lib/display/progress.ts";
import { table } from "../../lib/display/table.ts";
import { type Child, child } from "../peers/child.ts";
import { checkEnvironment, python } from "../peers/environment.ts";
import { type Layer, LAYERS } from "../support/unet.ts";
import type { Answer, Task } from "./task.ts";

/** A row of the table. */
export interface Row {
  layer: Layer;
  /** what is done, in words */
  way: string;
  ours: Answer;
  theirs: Answer;
}

/** What is done with each layer. */
export type Way = Omit<Task, "folder" | "kernel" | "budget" | "cpu" | "memory"> & { name: string };

/** How many times their time is ours, all layers together as often as the network has them. */
export function times(rows: readonly Row[]): string {
  const sum = (side: "ours" | "theirs") =>
    rows.reduce((sum, row) => sum + row.layer.count * (row[side].ms ?? NaN), 0);
  return (sum("theirs") / sum("ours")).toFixed(1);
}

function shown({ layer, way, ours, theirs }: Row): Record<string, string | number> {
  const fixed = (digits: number, value?: number) =>
    value === undefined ? "" : value.toFixed(digits);
  const ratio = (a?: number, b?: number) => a && b ? a / b : undefined;
  return {
    layer: layer.name,
    way,
    "ours, ms": fixed(1, ours.ms),
    "theirs, ms": fixed(1, theirs.ms),
    "theirs/ours": fixed(1, ratio(theirs.ms, ours.ms)),
    rank: ours.rank === theirs.rank ? ours.rank ?? "" : `${ours.rank}, ${theirs.rank}`,
    "error, ours/theirs": fixed(4, ratio(ours.missed, theirs.missed)),
    "ours, MiB": fixed(0, ours.mib),
    "theirs, MiB": fixed(0, theirs.mib),
  };
}

/**
 * Runs a bench: every layer in every way, and a table of it.
 *
 * @param help what `--help` prints
 * @param waysOf of a layer, whose difference has this largest singular value
 */
export async function beside(
  help: string,
  waysOf: (largest: number) => readonly Way[],
): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      json: { type: "string" },
      layer: { type: "string", default: "" },
      engine: { type: "string", default: "auto" },
      threads: { type: "string", default: String(availableParallelism()) },
      rounds: { type: "string", default: "3" },
      cpu: { type: "boolean", default: false },
      "no-memory": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(help);
  checkEnvironment();
  const path = (file: string) => fileURLToPath(new URL(file, import.meta.url));
  const env = { LOWRANK_THREADS: values.threads, OMP_NUM_THREADS: values.threads };
  const open = () =>
    child<Task, Answer>(["deno", "run", "-A", path("ours.ts"), values.engine], env);
  const other = () => child<Task, Answer>([python, path("theirs.py"), values.threads], env);
  const started: Child<Task, Answer>[] = [], rows: Row[] = [];
  const keep = async (starting: Promise<Child<Task, Answer>>) => {
    const one = await starting;
    started.push(one);
    return one;
  };
  const words = values.layer.split(",");
  const layers = LAYERS.filter(({ name }) => words.some((word) => name.includes(word)));
  const home = await mkdtemp(join(tmpdir(), "lowrank-bench-"));
  const bar = progress("layers", layers.length), load = () => loadavg()[0].toFixed(1);
  const before = load();
  try {
    const ours = await keep(open()), theirs = await keep(other()), forks = await keep(other());
    for (const layer of layers) {
      const folder = join(home, layer.name.replaceAll(/\W/g, "_"));
      const task = { folder, kernel: layer.kernel, budget: 100, cpu: values.cpu };
      const maker = await open(), made = await maker.ask({ ...task, what: "make" });
      maker.end();
      const ways = waysOf(made.largest!);
      if (rows.length === 0) {
        for (const { name: _, ...way } of ways) await ours.ask({ ...task, ...way, budget: WARM });
      }
      for (const { name, ...way } of ways) {
        const row: Row = { layer, way: name, ours: {}, theirs: {} };
        for (let round = 0; round < Number(values.rounds); round++) {
          for (const [key, side] of [["ours", ours], ["theirs", theirs]] as const) {
            if ((row[key].ms ?? 0) > SLOW) continue; // once is enough
            const answer = await side.ask({ ...task, ...way });
            if (answer.error) {
              throw new Error(`Cannot time ${layer.name}, ${name} as it must run: ${answer.error}`);
            }
            row[key] = { ...answer, ms: Math.min(row[key].ms ?? Infinity, answer.ms!) };
          }
        }
        const again = rows.some((row) => row.layer === layer) && row.theirs.ms! > SLOW;
        if (!values["no-memory"] && !again) {
          const once = await open();
          row.ours.mib = (await once.ask({ ...task, ...way, memory: true })).mib;
          once.end();
          row.theirs.mib = (await forks.ask({ ...task, ...way, memory: true })).mib;
        }
        rows.push(row);
        // at once: an interrupted run keeps what it has measured
        if (values.json) await writeFile(values.json, JSON.stringify(rows, null, 2) + "\n");
      }
      await rm(folder, { recursive: true });
      bar.step(1, layer.name);
    }
    bar.done();
    const clock = values.cpu ? "processor's time of all threads" : "wall's time";
    console.log(
      `${ours.ready}; ${theirs.ready}; ${values.threads} threads; ${clock}; ${cpus()[0].model}`,
    );
    console.log(
      `Load ${before} before, ${load()} after (this bench itself makes up to ${values.threads}).`,
    );
    console.log(table(rows.map(shown)));
    for (const way of new Set(rows.map(({ way }) => way))) {
      const own = rows.filter((row) => row.way === way);
      console.log(
        `${way}: all layers, as often as the network has them: theirs/ours ${times(own)}`,
      );
    }
  } finally {
    for (const one of started) one.end();
    await rm(home, { recursive: true });
  }
}

/** Milliseconds above which a way is timed once, and its memory measured for the layer's first way alone. */
const SLOW = 2000;

/** Milliseconds of each way before all others: a model has hundreds of layers, and few of them meet a cold program. */
const WARM = 1500;
