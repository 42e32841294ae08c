/** Settings from the environment. */
import process from "node:process";

/** A variable of the environment; undefined also where it is empty or may not be read. */
export function environment(variable: string): string | undefined {
  try {
    return process.env[variable] || undefined;
  } catch {
    return undefined;
  }
}
