/** Where libraries lie that this user had installed for an engine. */
import { join } from "node:path";
import { environment } from "./environment.ts";

/**
 * The folder in which this user keeps an engine's libraries, `$XDG_CACHE_HOME/lowrank/ENGINE`, by default
 * in `~/.cache`; undefined where there is no home.
 */
export function cacheFolder(engine: string): string | undefined {
  const home = environment("HOME") ?? environment("USERPROFILE");
  const cache = environment("XDG_CACHE_HOME") ?? (home && join(home, ".cache"));
  return cache && join(cache, "lowrank", engine);
}
