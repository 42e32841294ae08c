/** The names of adapters as the keys of a dialect spell them. */
import type { Adapter } from "../adapter/adapter.ts";
import { refuse } from "./dialect.ts";
import type { DialectName } from "./dialects.ts";
import { isKohya } from "./lycoris.ts";
import { type Model, modelOf, rename } from "./names.ts";

/**
 * The adapters under names that a dialect can read: the paths of modules, but for kohya's own.
 *
 * kohya's names tell no path, so that they are looked up in the model, or in the published ones. PEFT has a folder
 * for a network: the network's name is left out where there is one only.
 */
export function spell(
  adapters: ReadonlyMap<string, Adapter>,
  dialect: DialectName,
  model: Model | undefined,
): ReadonlyMap<string, Adapter> {
  const foreign = [...adapters.keys()].find(isKohya);
  if (dialect === "cloneofsimo" || !model && (dialect === "kohya" || !foreign)) return adapters;
  const known = model ?? modelOf(adapters.keys());
  if (known === undefined) {
    const remedy = "pass { model: the paths of its modules }";
    return refuse(
      foreign!,
      dialect,
      "its keys are paths of modules",
      `name is kohya's for a module of no model known here, ${remedy}`,
    );
  }
  if (dialect === "kohya") return rename(adapters, { to: "kohya", model: known });
  const paths = rename(adapters, { to: "diffusers", model: known });
  const networks = new Set([...paths.keys()].map((path) => path.split(".")[0]));
  return dialect === "peft" && networks.size === 1
    ? rename(paths, { to: "path", model: known })
    : paths;
}
