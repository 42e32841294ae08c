/** The floors of lib/: a file imports its own floor and lower ones only. This list is the architecture. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const FLOORS = [
  "tensor",
  "engines",
  "algorithms",
  "adapter",
  "files",
  "layers",
  "display",
  "models",
  "training",
  "tools",
];

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = readdirSync(join(root, "lib"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => join("lib", file).replaceAll("\\", "/"));

/** The relative files that a source imports, as paths from the root. */
function imported(source: string): string[] {
  const text = readFileSync(join(root, source), "utf8");
  const specifiers = text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g);
  return [...specifiers].map(([, path]) => relative(".", join(dirname(source), path)));
}

const floor = (file: string) => FLOORS.indexOf(file.split("/")[1]);
const imports = suite("lib/");

for (const source of sources) {
  if (source.split("/").length > 2) {
    imports(`${source} imports its own floor and lower ones`, () => {
      assert.is.not(floor(source), -1, `${source} stands on no floor`);
      for (const path of imported(source)) {
        assert.ok(floor(path) <= floor(source), `${source} reaches up to ${path}`);
      }
    });
  }
}

imports("imports point one way", () => {
  const graph = new Map(sources.map((file) => [file, imported(file)]));
  const done = new Set<string>();
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) throw new Error(`circular: ${[...path, file].join(" -> ")}`);
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of sources) visit(file, []);
});

imports.run();
