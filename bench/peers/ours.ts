/** This library's side of `bench/peers`: takes one task a line from stdin, answers a line each; see `task.ts`. */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import * as tf from "@tensorflow/tfjs";
import * as engine from "../../lib/engines/engine.ts";
import { modelStep } from "../support/model_step.ts";
import { least } from "../support/measure.ts";
import { type Step, step } from "../support/step.ts";
import type { Answer, Task } from "./task.ts";

/** Steps whose memory is told: the second meets what the first has left. */
const STEPS = 3;

const made = (task: Task): Step => task.place ? step(task.place, task.way, task) : modelStep(task);

/** Kibibytes of a line of Linux's account of this process. */
function kibibytes(line: "VmRSS" | "VmHWM"): number {
  return Number(readFileSync("/proc/self/status", "utf8").match(`${line}:\\s+(\\d+)`)![1]);
}

/** MiB that steps take at most above what the process had, with the engine started. */
function peak(task: Task): Answer {
  if (process.platform !== "linux") return {};
  tf.tidy(() => tf.matMul(tf.ones([64, 64]), tf.ones([64, 64])).dataSync());
  const before = kibibytes("VmRSS"), { run } = made(task);
  (globalThis as { gc?: () => void }).gc?.(); // the numbers of its data were drawn in JavaScript
  writeFileSync("/proc/self/clear_refs", "5"); // the high-water mark falls to what is resident
  for (let i = 0; i < STEPS; i++) run();
  return { mib: (kibibytes("VmHWM") - before) / 1024, resident: before / 1024 };
}

await engine.use((process.argv[2] ?? "auto") as Parameters<typeof engine.use>[0]);
console.log(JSON.stringify({ ready: `engine ${engine.name}` }));
let kept: { name: string; step: Step } | undefined;
for await (const line of createInterface({ input: process.stdin })) {
  const task: Task = JSON.parse(line);
  if (task.memory) {
    console.log(JSON.stringify(peak(task)));
    continue;
  }
  const name = JSON.stringify({ ...task, budget: 0 });
  if (kept?.name !== name) {
    kept?.step.dispose();
    kept = { name, step: made(task) };
  }
  const answer: Answer = { ms: await least(kept.step.run, task.budget) };
  console.log(JSON.stringify(answer));
}
process.exit(0);
