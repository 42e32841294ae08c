/** Finding an installed npm package that is not a dependency. */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";

/**
 * The folder of an installed package, as this library or the program in the working folder would find it.
 *
 * @throws {Error} when neither does
 */
export function locate(name: string): string {
  for (const place of [import.meta.url, join(process.cwd(), "package.json")]) {
    try {
      return dirname(createRequire(place).resolve(`${name}/package.json`));
    } catch {
      // not there: the next place may have it
    }
  }
  throw new Error(
    `Cannot find package "${name}" as it must be installed: current working folder is ${process.cwd()}; ` +
      `run deno add --dev npm:${name} or bun add --dev ${name}`,
  );
}
