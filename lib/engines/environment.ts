/** What the process is told by its environment, and what it may do: asked without Deno's asking a person. */
import process from "node:process";

/** Whether Deno has granted a permission; on other runtimes everything is. */
export function allowed(permission: Deno.PermissionDescriptor): boolean {
  return !("Deno" in globalThis) || Deno.permissions.querySync(permission).state === "granted";
}

/** A variable of the environment; undefined also where it is empty or may not be read. */
export function environment(variable: string): string | undefined {
  return allowed({ name: "env", variable }) ? process.env[variable] || undefined : undefined;
}
