/** A long-lived process that answers a line of JSON with a line of JSON. */
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Answer, Task } from "./task.ts";

/** A process of one side, which has said that it is ready. */
export interface Child<Asked = Task, Told = Answer> {
  /** what it says it is */
  ready: string;
  ask(task: Asked): Promise<Told>;
  end(): void;
}

/**
 * Starts a program and waits until it is ready.
 *
 * @throws {Error} when it ends before its answer; what it writes to stderr is seen on the terminal
 */
export async function child<Asked = Task, Told = Answer>(
  [program, ...words]: string[],
  env: Record<string, string> = {},
): Promise<Child<Asked, Told>> {
  const running = spawn(program, words, {
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const failure = new Promise<never>((_, reject) => {
    const say = (reason: unknown) =>
      reject(new Error(`Cannot go on with ${program} as it must answer: current end is ${reason}`));
    running.on("error", say).on("exit", (code, signal) => say(signal ?? code));
  });
  failure.catch(() => {}); // it may end while nobody asks
  const lines = createInterface({ input: running.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await Promise.race([lines.next(), failure]);
    return done ? await failure : JSON.parse(value);
  };
  const { ready } = await next();
  return {
    ready,
    ask(task) {
      running.stdin.write(JSON.stringify(task) + "\n");
      return next();
    },
    end: () => void running.kill(),
  };
}
