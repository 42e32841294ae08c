/** The mini networks that the fixtures are about, as lists of modules. */
import { readFileSync } from "node:fs";
import type { Module } from "../../lib/adapter/modules.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { golden } from "./fixtures.ts";

/** The modules of a fixture, `[path, class]` in their order, with the kernels of their weights. */
export function modulesOf(
  listed: readonly [path: string, name: string][],
  under: string,
): Module[] {
  const bytes = readFileSync(golden("wholefile_dev/base.safetensors"));
  const { tensors } = parse(new Uint8Array(bytes));
  return listed.map(([path, name]) => {
    const weight = tensors.get(`${under}.${path}.weight`);
    const adaptable = /^(Linear|Conv)/.test(name) && weight;
    if (!adaptable) return { path, class: name };
    const [O, I, ...k] = weight.shape;
    return { path, class: name, kernel: [...k, I, O] };
  });
}
