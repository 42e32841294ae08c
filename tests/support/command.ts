/** The command line, called in this process, and what it said. */
import process from "node:process";
import { run } from "../../lib/tools/lowrank.ts";

/** What a command line ended with and wrote. */
export interface Said {
  code: number;
  out: string;
  err: string;
}

/** Runs `lowrank` with these words. */
export async function lowrank(...words: string[]): Promise<Said> {
  const { stdout, stderr } = process, said = { out: "", err: "" };
  const writes = [stdout.write, stderr.write];
  stdout.write = (text: unknown) => ((said.out += text), true);
  stderr.write = (text: unknown) => ((said.err += text), true);
  try {
    const code = await run(words);
    return { code, ...said };
  } finally {
    [stdout.write, stderr.write] = writes;
  }
}
