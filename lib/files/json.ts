/**
 * JSON as the header of a file needs it: no key twice, whole numbers only, bounded depth.
 *
 * `JSON.parse` keeps the last of two equal keys and cannot tell 1.0 from 1, so structure is read
 * here and only single strings and words are left to it.
 */

/** A JSON value; an object is a Map, which keeps the order of its keys and has no prototype. */
export type Json = string | number | boolean | null | Json[] | Map<string, Json>;

/** Depth at which serde_json, the reference reader's parser, gives up too. */
const DEEPEST = 128;

/**
 * The value that a JSON text stands for.
 *
 * @param refuse called with the broken rule and what was found instead; must throw
 */
export function parseJson(text: string, refuse: (rule: string, current: string) => never): Json {
  let at = 0;

  function unexpected(from: number): never {
    const found = from < text.length ? JSON.stringify(text.slice(from, from + 20)) : "its end";
    return refuse("it must be JSON", `text at character ${from} is ${found}`);
  }

  function blank(): void {
    while (" \t\n\r".includes(text.charAt(at)) && at < text.length) at++;
  }

  function take(mark: string): boolean {
    blank();
    if (text[at] !== mark) return false;
    at++;
    return true;
  }

  function expect(mark: string): void {
    if (!take(mark)) unexpected(at);
  }

  /** The rest of a string whose opening quote is taken. */
  function string(): string {
    const start = at - 1;
    const escaped = (quote: number) => {
      let slashes = 0;
      while (text[quote - 1 - slashes] === "\\") slashes++;
      return slashes % 2 === 1;
    };
    do {
      at = text.indexOf('"', at) + 1;
      if (at === 0) unexpected(start);
    } while (escaped(at - 1));
    const value = word(start);
    if (!value.isWellFormed()) unexpected(start); // half of a surrogate pair is not Unicode
    return value;
  }

  function word(start: number) {
    try {
      return JSON.parse(text.slice(start, at));
    } catch {
      return unexpected(start);
    }
  }

  function value(depth: number): Json {
    if (depth > DEEPEST) refuse(`it must nest at most ${DEEPEST} deep`, `depth is ${depth}`);
    if (take("{")) {
      const object = new Map<string, Json>();
      if (take("}")) return object;
      do {
        expect('"');
        const key = string();
        if (object.has(key)) {
          refuse("no key may appear twice", `second key is ${JSON.stringify(key)}`);
        }
        expect(":");
        object.set(key, value(depth + 1));
      } while (take(","));
      expect("}");
      return object;
    }
    if (take("[")) {
      const array: Json[] = [];
      if (take("]")) return array;
      do array.push(value(depth + 1)); while (take(","));
      expect("]");
      return array;
    }
    if (take('"')) return string();
    const start = at;
    while (/[\w.+-]/.test(text.charAt(at))) at++;
    const scalar = word(start);
    if (typeof scalar === "number" && /\D/.test(text.slice(start, at))) {
      refuse("its numbers must be whole and not negative", `number is ${text.slice(start, at)}`);
    }
    return scalar;
  }

  const root = value(1);
  blank();
  if (at < text.length) unexpected(at);
  return root;
}
