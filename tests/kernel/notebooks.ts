/**
 * Chapters of one cell or two in the notebooks' kernel: what makes `deno task notebooks` fail, and what a cell shows.
 *
 * Skipped on Bun, which has no kernel, and where it is not set up, by `deno task lab` or `deno task notebooks`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { home } from "../../tools/kernel/kernel.ts";

type Bundle = Record<string, string | string[]>;
type Output = { output_type: string; text?: string | string[]; data?: Bundle };

const runner = fileURLToPath(new URL("../notebooks.ts", import.meta.url));

/** The cells of small chapters by the chapters' names. */
type Chapters = Record<string, string[]>;

/** Runs chapters, and gives what is said of them and what their cells have shown. */
function run(chapters: Chapters) {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
  const pathOf = (name: string) => join(folder, `${name}.ipynb`);
  try {
    for (const [name, sources] of Object.entries(chapters)) {
      writeFileSync(pathOf(name), JSON.stringify(notebook(sources)));
    }
    const words = ["run", "-A", runner, "--write", "--folder", folder];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
    const outputs = (name: string): Output[][] =>
      JSON.parse(readFileSync(pathOf(name), "utf8")).cells
        .map((cell: { outputs: Output[] }) => cell.outputs);
    return {
      code: status,
      said: stdout + stderr,
      outputs: Object.fromEntries(Object.keys(chapters).map((name) => [name, outputs(name)])),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function notebook(sources: string[]) {
  const cells = sources.map((source, i) => {
    const cell = { cell_type: "code", id: `cell-${i}`, metadata: {}, source };
    return { ...cell, execution_count: null, outputs: [] };
  });
  const kernelspec = { name: "deno", display_name: "Deno", language: "typescript" };
  return { cells, metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 };
}

const first = `import { lora, tf } from "lowrank";
import { setup } from "lowrank/display";
import * as assert from "uvu/assert";
await setup("cpu");`;
const chapters: Chapters = {
  "01_right": [first, "assert.is(8 * (9 * 64 + 128), 5632);"],
  "02_altered": [first, "assert.is(8 * (9 * 64 + 128), 5633);"],
  "03_mistyped": [first, 'const rank: number = "8";'],
  "04_unawaited": [
    first,
    'void Promise.reject(new Error("lost"));\nawait new Promise((go) => setTimeout(go, 50));',
  ],
  "05_values": [
    first,
    `const model = tf.sequential({ layers: [tf.layers.dense({ inputShape: [4], units: 3, name: "head" })] });
const adapter = lora.create([4, 3], 2);
adapter;`,
    "const attached = lora.linear(model.layers[0], 2);\nattached;",
    "attached.detach();\nconst all = lora.model(model, 2);\nall;",
    "all.detach({ keep: true });",
    "tf.tensor([[1, 2]]);",
    '({ algorithm: "lora" });',
  ],
  "06_stopped": [
    first,
    `import process from "node:process";
import { livePlot } from "lowrank/display";
import { fit } from "../lib/training/fit.ts";
const slope = tf.variable(tf.scalar(0));
function* endless() { for (;;) yield {}; }
const error = () => tf.squaredDifference(slope, 2) as tf.Scalar;`,
    `const onStep = (step: number) => { if (step === 300) process.kill(process.pid, "SIGINT"); };
await livePlot("slope < 2", (live) => fit([slope], endless(), error, {
  ...live, rate: 0.1, onStep: (step, loss) => { live.onStep(step, loss); onStep(step); },
}));`,
    "assert.ok(slope.dataSync()[0] > 1.9);",
    `const stopped = await fit([slope], endless(), error, { onStep }).catch(({ message }: Error) => message);
stopped;`,
  ],
};
const text = (output: Output, type = "text/plain") => [output.data?.[type] ?? ""].flat().join("");

const kernel = suite("deno task notebooks");

if (existsSync(join(home, "ready")) && !process.versions.bun) {
  let ran: ReturnType<typeof run>;
  kernel.before(() => void (ran = run(chapters)));

  kernel("passes what is so", () => assert.match(ran.said, /ok +01_right/));

  kernel("fails for one altered number, and names chapter, cell and what stands there", () => {
    assert.is(ran.code, 1);
    assert.match(ran.said, /FAIL 02_altered, cell 1: Assertion.*\n +assert\.is.*5633/);
    assert.match(ran.said, "3 passed, 3 failed");
  });

  kernel("fails for a type that is wrong, and names chapter and cell", () => {
    assert.match(ran.said, /FAIL 03_mistyped does not type-check\s+cell 1: TS2322/);
  });

  kernel("fails for an error that no cell awaits", () => {
    assert.match(ran.said, /FAIL 04_unawaited, cell 1: Unawaited error: Error: lost/);
  });

  kernel("shows adapters, wherever they are, and tensors as what they are", () => {
    const [, bare, one, model, kept, tensor, plain] = ran.outputs["05_values"].map((outputs) =>
      outputs.find(({ output_type }) => output_type === "execute_result")!
    );
    for (const [output, what] of [[bare, "lora "], [one, "lora on head"]] as const) {
      for (const part of [what, "4×3", "14", "116.7 %", "down 4×2, up 2×3"]) {
        assert.match(text(output), part); // 2 · (4 + 3) of 12
      }
    }
    for (const output of [model, kept]) {
      assert.match(text(output), /head +lora +4×3.*\n.*together +14 +116\.7 %/);
    }
    assert.match(text(model, "text/html"), "<table>");
    assert.match(text(tensor), /^Tensor 1×2 float32\s+\[\[1, 2\],\]$/);
    assert.is(text(plain), '{ algorithm: "lora" }');
  });

  kernel("goes on after Stop, with what was trained, drawn", () => {
    const [, , [figure], , last] = ran.outputs["06_stopped"];
    assert.match(text(figure), "Figure: slope < 2");
    assert.match(text(figure, "image/png"), /^iVBOR/);
    assert.match(
      text(last.find(({ output_type }) => output_type === "execute_result")!),
      "Stopped",
    );
  });
} else {
  kernel.skip("needs Deno and the notebooks' kernel, set up by deno task lab");
}

kernel.run();
