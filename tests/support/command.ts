/** The command line, called in this process, and what it said. */
import process from "node:process";
import * as tf from "@tensorflow/tfjs";
import { use } from "../../lib/engines/engine.ts";
import { run } from "../../lib/tools/lowrank.ts";

await use("auto");

/** What a command line ended with and wrote. */
export interface Said {
  code: number;
  out: string;
  err: string;
}

/** Runs `lowrank` with these words; what it did leaves no tensor over. */
export async function lowrank(...words: string[]): Promise<Said> {
  const { stdout, stderr } = process, said = { out: "", err: "" };
  const before = tf.memory().numTensors;
  const writes = [stdout.write, stderr.write];
  stdout.write = (text: unknown) => ((said.out += text), true);
  stderr.write = (text: unknown) => ((said.err += text), true);
  try {
    const code = await run(words);
    const left = tf.memory().numTensors - before;
    if (code === 0 && left !== 0) {
      throw new Error(`${left} tensors are left over: ${words.join(" ")}`);
    }
    return { code, ...said };
  } finally {
    [stdout.write, stderr.write] = writes;
  }
}
