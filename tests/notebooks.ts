/**
 * Runs the chapters of notebooks/: a type check of their joined cells, then every cell in a fresh kernel.
 *
 * `tests/notebooks.ts [--write] [--folder FOLDER] [WORD ...]` keeps the chapters whose name contains one of the words,
 * of another folder if one is told. They run in a copy; with `--write` their outputs are written back. With
 * LOWRANK_QUICK=1 chapters train less. The last line is `N passed, N failed`.
 */
import { spawn } from "node:child_process";
import { copyFile, cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { prepare } from "../tools/kernel/environment.ts";

type Cell = { cell_type: "code" | "markdown"; source: string | string[] };
type Result = {
  chapter: string;
  seconds: number;
  /** what failed, in which cell, and what stands there */
  error?: string;
  cell?: number;
  source?: string;
};

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: { write, folder: notebooks }, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    write: { type: "boolean", default: false },
    folder: { type: "string", default: join(root, "notebooks") },
  },
});

/** The code cells of a chapter as one module, and for each of its lines the cell that it is from. */
async function joined(path: string): Promise<{ text: string; cellOf: number[] }> {
  const { cells }: { cells: Cell[] } = JSON.parse(await readFile(path, "utf8"));
  const lines: string[] = [], cellOf: number[] = [];
  cells.forEach(({ cell_type, source }, cell) => {
    if (cell_type !== "code") return;
    for (const line of [source].flat().join("").split("\n")) {
      lines.push(line);
      cellOf.push(cell);
    }
  });
  return { text: [...lines, "export {};", ""].join("\n"), cellOf };
}

/** Runs a program and gives what it wrote. */
function output([program, ...args]: string[]): Promise<{ code: number; text: string }> {
  const child = spawn(program, args, { cwd: root, env: { ...process.env, NO_COLOR: "1" } });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => text += part);
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("close", (code) => resolve({ code: code ?? 1, text }));
  });
}

/** Types of all chapters at once; what is wrong with each that fails. */
async function check(folder: string, chapters: string[]): Promise<Map<string, string>> {
  const modules = new Map<string, number[]>();
  for (const chapter of chapters) {
    const { text, cellOf } = await joined(join(folder, `${chapter}.ipynb`));
    await writeFile(join(folder, `${chapter}.ts`), text);
    modules.set(chapter, cellOf);
  }
  const files = chapters.map((chapter) => join(folder, `${chapter}.ts`));
  const { code, text } = await output([process.execPath, "check", ...files]);
  const failures = new Map<string, string>();
  if (code === 0) return failures;
  for (const part of text.split(/\n(?=TS\d+|error)/)) {
    const place = part.match(/at file:\/\/(\S+)\.ts:(\d+):\d+/);
    const chapter = place && basename(place[1]), cellOf = chapter && modules.get(chapter);
    if (!cellOf) continue;
    const told = failures.get(chapter) ?? "";
    failures.set(chapter, `${told}\n  cell ${cellOf[Number(place[2]) - 1]}: ${part.trim()}`);
  }
  if (failures.size === 0) throw new Error(text);
  return failures;
}

/** Executes chapters one after another, and tells of each as it ends. */
async function execute(folder: string, chapters: string[], tell: (result: Result) => void) {
  const { program, env } = await prepare((line) => console.error(`· ${line}`));
  const script = join(root, "tools", "kernel", "execute.py");
  const child = spawn(program("python"), [script, folder, ...chapters], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const end = new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  for await (const line of createInterface(child.stdout)) tell(JSON.parse(line));
  const code = await end;
  if (code !== 0) throw new Error(`Cannot execute notebooks: current code of python is ${code}`);
}

const chapters = (await readdir(notebooks))
  .filter((file) => /^\d\d_.*\.ipynb$/.test(file))
  .map((file) => file.replace(".ipynb", ""))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
let passed = 0, failed = chapters.length === 0 ? 1 : 0;
const folder = join(root, `notebooks-${process.pid}.tmp`); // beside notebooks, so that its imports lead where theirs do
try {
  await cp(notebooks, folder, { recursive: true });
  const mistyped = await check(folder, chapters);
  for (const [chapter, text] of mistyped) console.log(`FAIL ${chapter} does not type-check${text}`);
  failed += mistyped.size;
  const typed = chapters.filter((chapter) => !mistyped.has(chapter));
  let untold = typed.length;
  await execute(folder, typed, ({ chapter, seconds, error, cell, source }) => {
    untold--;
    if (error === undefined) passed++;
    else failed++;
    console.log(
      error === undefined
        ? `ok   ${chapter}, ${seconds} s`
        : `FAIL ${chapter}, cell ${cell}: ${error}\n${source?.replace(/^/gm, "  ")}`,
    );
  });
  failed += untold;
  if (write) {
    for (const chapter of typed) {
      await copyFile(join(folder, `${chapter}.ipynb`), join(notebooks, `${chapter}.ipynb`));
    }
  }
} catch (error) {
  failed++;
  console.error((error as Error).message);
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
