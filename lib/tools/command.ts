/** What all commands have in common: their options, how they answer, and what they leave alone. */
import { access } from "node:fs/promises";
import process from "node:process";
import { Command, CommanderError, Option } from "commander";

/** The options of every command. */
export interface Common {
  /** the answer as JSON */
  json?: boolean;
  /** nothing but the answer and errors */
  quiet?: boolean;
}

/**
 * A command with the options that all have.
 *
 * @param example how it is called, without the program's name
 */
export function command(name: string, description: string, example: string): Command {
  return new Command(name)
    .description(description)
    .option("--json", "the answer as JSON")
    .option("--quiet", "nothing but the answer and errors")
    .addHelpText("after", `\nExample: lowrank ${example}`)
    .exitOverride();
}

/** The answer on standard output: its text, or as JSON where that was asked for. */
export function answer({ json }: Common, value: unknown, text: string): void {
  process.stdout.write((json ? JSON.stringify(value, null, 2) : text) + "\n");
}

/** A sentence for whoever watches, on standard error. */
export function say({ quiet }: Common, text: string): void {
  if (!quiet) process.stderr.write(text + "\n");
}

/** Where a result goes. */
export interface Target {
  /** the file to write */
  output: string;
  /** replace what is there */
  force?: boolean;
  /** only say what would be written */
  dryRun?: boolean;
}

/** Adds the options of {@link Target}. */
export function writing(command: Command): Command {
  const output = new Option("-o, --output <file>", "the file to write");
  const named = command.registeredArguments.some((argument) => argument.name() === "output");
  return command
    .addOption(output.makeOptionMandatory(!named))
    .option("--force", "replace a file that is there")
    .option("--dry-run", "say what would be written, and write nothing");
}

/**
 * Nothing, where the target may be written.
 *
 * @throws {Error} for a file that is there and was not given up by `force`
 */
export async function mayWrite({ output, force }: Target): Promise<void> {
  const there = await access(output).then(() => true, () => false);
  if (!there || force) return;
  throw new Error(
    `Cannot write "${output}" as what is there is kept: current file exists; ` +
      "give another name, or --force to replace it",
  );
}

/** Bad use that the parser cannot see: the program says the sentence and ends with 2. */
export function misuse(sentence: string): never {
  throw new CommanderError(2, MISUSE, sentence);
}

const MISUSE = "lowrank.misuse";

/** What the system says of files, by its code. */
const RULES: Record<string, string> = {
  ENOENT: "it must exist",
  EACCES: "it must be allowed to",
  EPERM: "it must be allowed to",
  EISDIR: "it must be a file",
  ENOTDIR: "its folder must be one",
  ENOSPC: "there must be room on the disk",
};

/** An error as one sentence; none where the parser has said it already. */
export function sentence(error: unknown): string | undefined {
  if (error instanceof CommanderError) return error.code === MISUSE ? error.message : undefined;
  if (!(error instanceof Error)) return String(error);
  const { code = "", path } = error as Error & { code?: string; path?: string };
  if (!Object.hasOwn(RULES, code)) return error.message;
  return `Cannot open ${path ? `"${path}"` : "a file"} as ${
    RULES[code]
  }: current answer is ${code}`;
}

/** What the program ends with: 0 for help, 2 for words it does not understand, 1 for what it could not do. */
export function exitCode(error: unknown): 0 | 1 | 2 {
  if (!(error instanceof CommanderError)) return 1;
  return error.exitCode === 0 ? 0 : 2;
}
