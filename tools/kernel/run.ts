/** Running other programs. */
import { spawn } from "node:child_process";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import process from "node:process";

/** The path of a program, if there is one of that name. */
export async function found(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, name);
    if (await access(path).then(() => true, () => false)) return path;
  }
}

/** Where and how a program runs. */
export interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
}

/**
 * Runs a program, which writes to this terminal. A signal to end, of which Ctrl+C is one, is the program's: this waits
 * until it has ended.
 *
 * @throws {Error} the sentence given, when the program fails
 */
export async function run(
  [program, ...words]: string[],
  { cwd, env }: RunOptions,
  failure: string,
): Promise<void> {
  const child = spawn(program, words, { cwd, env: { ...process.env, ...env }, stdio: "inherit" });
  let interrupted = false;
  const wait = () => void (interrupted = true); // a terminal gives Ctrl+C to both of them
  const passOn = (signal: NodeJS.Signals) => void child.kill(signal);
  process.on("SIGINT", wait).on("SIGTERM", passOn);
  const code = await new Promise((resolve) => child.on("close", resolve).on("error", resolve));
  process.off("SIGINT", wait).off("SIGTERM", passOn);
  if (interrupted && code !== 0) process.exit(130);
  if (code !== 0) throw new Error(`${failure}: current result of ${program} is ${code}`);
}

/** What a program writes to its output; undefined when it fails. */
export function output([program, ...words]: string[]): Promise<string | undefined> {
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "ignore"] });
  let text = "";
  child.stdout.on("data", (part) => text += part);
  return new Promise((resolve) => {
    child.on("error", () => resolve(undefined));
    child.on("close", (code) => resolve(code === 0 ? text.trim() : undefined));
  });
}
