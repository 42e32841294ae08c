/**
 * How long until the first step is done? Milliseconds from the start of a process: runtime, import with an engine ready,
 * first step of the demo's network with LoRA; beside it, where it is set up, `import torch, lycoris`.
 *
 * `bench/startup.ts [--engine NAME]`
 */
import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { table } from "../lib/display/table.ts";
import { python } from "./peers/environment.ts";

const ROUNDS = 5;
const { values } = parseArgs({
  args: process.argv.slice(2),
  options: { engine: { type: "string", default: "auto" } },
});
const first = fileURLToPath(new URL("support/first_step.ts", import.meta.url));

/** The milliseconds that a program takes, and what it prints. */
function time([program, ...words]: string[]): { ms: number; text: string } {
  const start = performance.now();
  const env = { ...process.env, LOWRANK_ENGINE: values.engine === "auto" ? "" : values.engine };
  const { status, stdout } = spawnSync(program, words, { env, encoding: "utf8" });
  if (status !== 0) {
    throw new Error(`Cannot time ${program} as it must end well: it gave ${status}`);
  }
  return { ms: performance.now() - start, text: stdout };
}

/** Marks, in ms since the process began by its own clock, of the round that ended first. */
function quickest(command: string[]): { ms: number; marks: Record<string, number> } {
  const rounds = Array.from({ length: ROUNDS }, () => time(command)).sort((a, b) => a.ms - b.ms);
  return { ms: rounds[0].ms, marks: JSON.parse(rounds[0].text || "{}") };
}

const rows = [["deno", "run", "-A", first], ["bun", first]].flatMap((command) => {
  if (spawnSync(command[0], ["--version"]).status !== 0) return [];
  const { ms, marks: { imported, stepped } } = quickest(command);
  return [
    { program: `${command[0]}: lowrank imported, engine ready`, ms: Math.round(imported) },
    { program: `${command[0]}: first step done`, ms: Math.round(stepped) },
    { program: `${command[0]}: process ended`, ms: Math.round(ms) },
  ];
});
if (existsSync(python)) {
  const { ms } = quickest([python, "-c", "import torch, lycoris"]);
  rows.push({ program: "python: import torch, lycoris, process ended", ms: Math.round(ms) });
}
console.log(`Start, the least of ${ROUNDS}, ms since the process began:\n${table(rows)}`);
