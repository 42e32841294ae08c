/**
 * Chapters as a reader has them: JupyterLab of `deno task lab` in Debian's chromium, every cell run from the menu.
 *
 * Runs on Deno, where playwright-core works as it is. The chapters are copies without outputs, so what is found was
 * drawn here; screenshots of every figure on light and dark ground stay in tests/artifacts. Waits are for what is on
 * the page, as long as a slow machine needs. The last line is `N passed, N failed`, or why all of it was skipped.
 */
import { spawn } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium, type Page } from "playwright-core";
import { prepare } from "../tools/kernel/environment.ts";
import { found } from "../tools/kernel/run.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const artifacts = join(root, "tests", "artifacts");
const folder = join(root, `browser-${process.pid}.tmp`); // beside notebooks, so that its imports lead where theirs do

/** The chapter whose slider is moved. */
const SLIDING = "11_join_and_merge";
/** Short ones, which between them show everything that lib/display has. */
const CHAPTERS = ["03_lora_and_locon", "07_lokr", SLIDING];
const words = process.argv.slice(2);
const chapters = CHAPTERS.filter((chapter) =>
  words.length === 0 || words.some((word) => chapter.includes(word))
);
const GROUNDS = ["light", "dark"] as const;
/** Milliseconds that a page may take to show something, and a chapter to end. */
const PAGE = 120_000, RUN = 300_000;

/** Outputs that should not be. */
const FAULTS =
  "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']";

type Output = { data?: Record<string, unknown> };
type Notebook = {
  cells: { cell_type: string; outputs: Output[]; execution_count: number | null }[];
};

/** How many code cells, Plotly figures and other pictures a committed chapter has. */
interface Contents {
  cells: number;
  figures: number;
  pictures: number;
}

/** Copies a chapter without its outputs, and tells what they were. */
async function emptied(chapter: string): Promise<Contents> {
  const notebook: Notebook = JSON.parse(
    await readFile(join(root, "notebooks", `${chapter}.ipynb`), "utf8"),
  );
  const cells = notebook.cells.filter(({ cell_type }) => cell_type === "code");
  const types = cells.flatMap(({ outputs }) => outputs.map(({ data = {} }) => Object.keys(data)));
  const isFigure = (all: string[]) => all.includes("application/vnd.plotly.v1+json");
  const figures = types.filter(isFigure).length;
  const pictures = types.filter((all) => all.includes("image/png") && !isFigure(all)).length;
  for (const cell of cells) Object.assign(cell, { outputs: [], execution_count: null });
  await writeFile(join(folder, `${chapter}.ipynb`), JSON.stringify(notebook));
  return { cells: cells.length, figures, pictures };
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `deno task lab` on a folder: its address, token and all, and what ends it. */
async function lab(folder: string): Promise<{ address: string; end(): Promise<unknown> }> {
  const program = join(root, "tools", "lab.ts");
  const words = ["run", "-A", program, folder, "--no-browser", "--port", `${await freePort()}`];
  const settings = { // a reader's own theme stays
    JUPYTERLAB_SETTINGS_DIR: join(folder, ".settings"),
    JUPYTERLAB_WORKSPACES_DIR: join(folder, ".workspaces"),
  };
  const child = spawn(process.execPath, words, {
    env: { ...process.env, ...settings },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const closed = new Promise((resolve) => child.on("close", resolve));
  const said: string[] = [];
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(child.stderr).on("line", (line) => {
      said.push(line);
      const [address] = line.match(/http:\/\/127\.0\.0\.1:\d+\/lab\?token=\w+/) ?? [];
      if (address) resolve(address);
    });
    void closed.then(() => reject(new Error(`JupyterLab did not start:\n${said.join("\n")}`)));
  });
  return {
    address,
    async end() {
      child.kill("SIGTERM");
      await closed;
    },
  };
}

/** Chooses from JupyterLab's menus. */
async function choose(page: Page, ...names: string[]): Promise<void> {
  await page.locator(".lm-MenuBar-item", { hasText: new RegExp(`^${names[0]}$`) }).click();
  for (const name of names.slice(1)) {
    await page.locator(".lm-Menu-item", { hasText: new RegExp(`^${name}$`) }).last().click();
  }
}

/** Returns when the kernel is there and has nothing to do. */
function idle(page: Page): Promise<void> {
  return page.locator("#jp-main-statusbar", { hasText: "Deno | Idle" }).waitFor();
}

/** Runs all cells of a chapter; throws for what one of them, or an error that nobody awaited, has written. */
async function runAll(page: Page, address: string, chapter: string, { cells }: Contents) {
  const url = new URL(address);
  url.pathname = `/lab/tree/${chapter}.ipynb`;
  url.searchParams.set("reset", "");
  await page.goto(url.href);
  await idle(page);
  await choose(page, "Run", "Run All Cells");
  await page.waitForFunction(
    ([cells, faults]) => {
      const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
      const done = prompts.filter(({ textContent }) => /\[\d+\]/.test(textContent ?? ""));
      return done.length === cells || document.querySelector(`${faults}`) !== null;
    },
    [cells, FAULTS],
    { timeout: RUN, polling: 250 },
  );
  const [fault] = await page.locator(FAULTS).allTextContents();
  if (fault !== undefined) throw new Error(fault.trim());
  await idle(page);
  return `${cells} cells`;
}

/** Points at every figure; throws unless each then has its curves or bars, and every picture its pixels. */
async function drawn(page: Page, { figures, pictures }: Contents): Promise<string> {
  for (const figure of await page.locator(".jp-RenderedPlotly").all()) {
    await figure.hover(); // until then it is a picture
    await figure.locator("svg.main-svg .trace path").first().waitFor({ state: "attached" });
  }
  await page.waitForFunction(
    (pictures) => {
      const all = [...document.querySelectorAll<HTMLImageElement>(".jp-RenderedImage img")];
      return all.length === pictures && all.every((image) => image.naturalWidth > 0);
    },
    pictures,
  );
  const count = await page.locator(".jp-RenderedPlotly").count();
  if (count !== figures) throw new Error(`${count} figures instead of ${figures}`);
  return `${figures} figures, ${pictures} pictures`;
}

/** What every output of a chapter looks like on either ground. */
async function photograph(page: Page, chapter: string): Promise<void> {
  for (const ground of GROUNDS) {
    await choose(page, "Settings", "Theme", `JupyterLab ${ground === "dark" ? "Dark" : "Light"}`);
    await page.locator(`body[data-jp-theme-light=${ground === "light"}]`).waitFor({
      state: "attached",
    });
    const outputs = await page.locator(".jp-Notebook .jp-OutputArea-child").all();
    for (const [i, output] of outputs.entries()) {
      const number = String(i + 1).padStart(2, "0");
      await output.screenshot({ path: join(artifacts, `${chapter}_${number}_${ground}.png`) });
    }
    await page.screenshot({ path: join(artifacts, `${chapter}_page_${ground}.png`) });
  }
}

/** Moves the slider of a chapter to its end, and returns when the figure above it has followed. */
async function slides(page: Page, chapter: string): Promise<string> {
  const input = page.frameLocator(".jp-Notebook iframe").locator("input[type=range]");
  const end = await input.getAttribute("max");
  const picture = page.locator(".jp-RenderedPlotly .plot-img").last();
  const before = await picture.getAttribute("src");
  await input.fill(`${end}`);
  await page.waitForFunction(
    (before) => {
      const now = [...document.querySelectorAll<HTMLImageElement>(".jp-RenderedPlotly .plot-img")];
      return now.length > 0 && now[now.length - 1].src !== before;
    },
    before,
  );
  const figure = page.locator(".jp-RenderedPlotly").last();
  await figure.hover();
  await figure.getByText(`at ${end} %`).waitFor({ state: "attached" });
  await figure.screenshot({ path: join(artifacts, `${chapter}_moved.png`) });
  return `to ${end}`;
}

/** All of it on one page; how many of the checks passed and failed. */
async function run(page: Page, address: string): Promise<{ passed: number; failed: number }> {
  let passed = 0, failed = 0;
  const check = async (name: string, test: () => Promise<unknown>): Promise<boolean> => {
    const start = performance.now();
    try {
      const found = await test();
      passed++;
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      console.log(`ok   ${name}${found ? `: ${found}` : ""}, ${seconds} s`);
      return true;
    } catch (error) {
      failed++;
      await page.screenshot({ path: join(artifacts, "failed.png") }).catch(() => {});
      console.log(`FAIL ${name}: ${(error as Error).message}`);
      return false;
    }
  };
  for (const chapter of chapters) {
    const contents = await emptied(chapter);
    const ran = await check(
      `${chapter} runs without error`,
      () => runAll(page, address, chapter, contents),
    );
    if (!ran) continue; // the rest would fail for the same reason
    await check(`${chapter} draws its figures and pictures`, () => drawn(page, contents));
    await check(`${chapter} is photographed on both grounds`, () => photograph(page, chapter));
    if (chapter === SLIDING) {
      await check(`${chapter} follows its slider`, () => slides(page, chapter));
    }
  }
  return { passed, failed };
}

const executablePath = await found("chromium") ?? await found("chromium-browser");
const missing = executablePath
  ? await prepare((line) => console.log(`· ${line}`)).then(() => "", ({ message }) => message)
  : "no chromium";
if (missing) {
  console.log(`skipped: ${missing}`);
  process.exit(0);
}
const ends: (() => Promise<unknown>)[] = [];
try {
  await rm(artifacts, { recursive: true, force: true });
  await mkdir(artifacts, { recursive: true });
  await mkdir(folder);
  ends.push(() => rm(folder, { recursive: true, force: true }));
  await cp(join(root, "notebooks", "data"), join(folder, "data"), { recursive: true });
  const { address, end } = await lab(folder);
  ends.push(end);
  const args = ["--no-sandbox", "--disable-dev-shm-usage"]; // for root, and for a container's small /dev/shm
  const browser = await chromium.launch({ executablePath, args });
  ends.push(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
  page.setDefaultTimeout(PAGE);
  const { passed, failed } = await run(page, address);
  console.log(`screenshots are in ${artifacts}`);
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
} finally {
  for (const end of ends.reverse()) await end();
}
