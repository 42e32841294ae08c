/** Running something under other environment variables. */
import process from "node:process";

/** Sets variables, or removes those that are undefined, while `body` runs. */
export async function under<T>(
  variables: Record<string, string | undefined>,
  body: () => T | Promise<T>,
): Promise<T> {
  const set = (values: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
  const before = Object.fromEntries(
    Object.keys(variables).map((name) => [name, process.env[name]]),
  );
  set(variables);
  try {
    return await body();
  } finally {
    set(before);
  }
}
