/** The names of several files made one, so that a module is called the same in all of them. */
import { type Model, modelOf, rename } from "./names.ts";

/** What kohya and diffusers call the parts of a pipeline. */
const NETWORKS: readonly [kohya: RegExp, diffusers: string][] = [
  [/^(lora|oft)_unet_/, "unet_"],
  [/^(lora|oft)_te1?_/, "text_encoder_"],
  [/^(lora|oft)_te2_/, "text_encoder_2_"],
];

/** A name without what dialects differ in: dots, and what kohya calls a network. */
function neutral(name: string): string {
  const flat = name.replaceAll(".", "_"), [found] = NETWORKS.filter(([kohya]) => kohya.test(flat));
  return found ? flat.replace(...found) : flat;
}

/**
 * The same values, under kohya's names where all belong to a model known here, and otherwise under the name that
 * the first file has for a module, dots and underscores being one.
 *
 * @throws {RangeError} for two modules of one file that would get one name
 */
export function alike<T>(
  files: readonly ReadonlyMap<string, T>[],
  model?: Model,
): Map<string, T>[] {
  const known = model ?? modelOf(files.flatMap((file) => [...file.keys()]));
  if (known !== undefined) return files.map((file) => rename(file, { to: "kohya", model: known }));
  const names = new Map<string, string>();
  return files.map((file) => {
    const renamed = new Map<string, T>();
    for (const [name, value] of file) {
      const key = neutral(name), own = names.get(key) ?? name;
      if (renamed.has(own)) {
        throw new RangeError(
          `Cannot join "${name}" as every module must have a name of its own: ` +
            `current name is "${own}" too`,
        );
      }
      names.set(key, own);
      renamed.set(own, value);
    }
    return renamed;
  });
}
