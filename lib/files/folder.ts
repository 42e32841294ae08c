/** Adapters that lie in a folder, and what lies beside a file of them. */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CONFIG, matches } from "./peft.ts";
import { pathOf, type Place, urlOf } from "./source.ts";

/** Names under which a folder has its tensors: PEFT's and diffusers'. */
export const INSIDE = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];

/** The file that a place is, or that a folder holds. */
export async function fileAt(place: Place): Promise<Place> {
  const path = pathOf(place);
  if (path === undefined || !(await stat(path)).isDirectory()) return place;
  for (const name of INSIDE) {
    if (await stat(join(path, name)).catch(() => undefined)) return join(path, name);
  }
  throw new RangeError(
    `Cannot open "${path}" as a folder must have ${
      INSIDE.join(" or ")
    }: current folder has neither`,
  );
}

/** Whether PEFT has written a file, by its keys or its name. */
export function isPeft(place: Place, keys: readonly string[]): boolean {
  return matches(keys) || basename(pathOf(place) ?? urlOf(place)?.pathname ?? "") === INSIDE[0];
}

/** The text of PEFT's configuration beside a file, if there is one. */
export async function beside(place: Place): Promise<string | undefined> {
  const path = pathOf(place), url = urlOf(place);
  if (path !== undefined) {
    return await readFile(join(dirname(path), CONFIG), "utf8").catch(() => undefined);
  }
  if (!url?.protocol.startsWith("http")) return undefined;
  const response = await fetch(new URL(CONFIG, url));
  const text = await response.text();
  return response.ok ? text : undefined;
}
