/**
 * Patterns of PEFT's configurations, matched without going back: a stranger's expression cannot keep the process busy.
 *
 * An expression is a function from places of a text to the places where a match from there can end, so that every
 * way is gone at once. Sets need no captures, and greedy or lazy is the same to them.
 *
 * Source: Thompson 1968, "Regular expression search algorithm"; PEFT 0.21.2, `utils/other.py` `get_pattern_key`.
 */

/** The most characters of an expression, and of a text for it: several times what tools write. */
const LONG = 1000, LONG_TEXT = 256;

type Places = ReadonlySet<number>;

/** A part of an expression. */
interface Part {
  /** where a match that begins at one of some places can end */
  ends(text: string, from: Places): Places;
  /** whether it holds a choice, a repetition or a look around, and so may not be repeated */
  readonly varies: boolean;
  /** whether it looks around, and so may not be looked at */
  readonly looks: boolean;
}

/** A name with its dots as they are or escaped, and expressions for some names and no others. */
const NAME = String.raw`(?:[^\\^$*+?()[\]{}|]|\\[^a-zA-Z0-9])+`;
const NAMES = new RegExp(`^(\\^?)(?:(${NAME})|\\((?:\\?:)?(${NAME}(?:\\|${NAME})*)\\))\\$?$`);

/** One character or none: literal, any, of a class, or an assertion. */
const TOKEN = /\\[dDwWsSbB]|\\[^a-zA-Z0-9]|\[(?:\\.|[^\]\\])+\]|[^\\()[\]|*+?{}]/y;
const OPEN = /\((?:\?(:|P?<[A-Za-z_]\w*>|<?[=!]))?/y;
const REPEAT = /(?:([*+?])|\{(?=,?\d)(\d*)(,?)(\d*)\})\??/y;

function malformed(pattern: string, rule: string): never {
  const found = pattern.length > 100 ? `${pattern.slice(0, 100)}…` : pattern;
  throw new SyntaxError(
    `Cannot read a pattern of adapter_config.json as ${rule}: current value is ` +
      `${JSON.stringify(found)}, write names of modules`,
  );
}

function single(token: string): Part {
  const sticky = new RegExp(token, "y");
  return {
    varies: false,
    looks: false,
    ends(text, from) {
      const ends = new Set<number>();
      for (const place of from) {
        sticky.lastIndex = place;
        const found = sticky.exec(text);
        if (found) ends.add(place + found[0].length);
      }
      return ends;
    },
  };
}

function sequence(parts: readonly Part[]): Part {
  return {
    varies: parts.some(({ varies }) => varies),
    looks: parts.some(({ looks }) => looks),
    ends(text, from) {
      for (const part of parts) {
        if (from.size === 0) break;
        from = part.ends(text, from);
      }
      return from;
    },
  };
}

function either(parts: readonly Part[]): Part {
  return parts.length === 1 ? parts[0] : {
    varies: true,
    looks: parts.some(({ looks }) => looks),
    ends: (text, from) => new Set(parts.flatMap((part) => [...part.ends(text, from)])),
  };
}

function repeated({ ends, looks }: Part, least: number, most: number): Part {
  return {
    varies: true,
    looks,
    ends(text, from) {
      // past a turn for every place, a turn that stays where it is can be added or left out
      for (let turn = 0; turn < least && turn <= text.length; turn++) from = ends(text, from);
      const all = new Set(from);
      for (let turn = least; turn < most && from.size > 0; turn++) {
        from = new Set([...ends(text, from)].filter((place) => !all.has(place)));
        for (const place of from) all.add(place);
      }
      return all;
    },
  };
}

/** `(?=…)`, `(?!…)`, `(?<=…)` and `(?<!…)`: the places where a match begins or ends, or none does. */
function look({ ends }: Part, kind: string): Part {
  const behind = kind.startsWith("<"), wanted = kind.endsWith("=");
  return {
    varies: true,
    looks: true,
    ends(text, from) {
      const before = behind ? ends(text, new Set(Array(text.length + 1).keys())) : undefined;
      const is = (place: number) => before?.has(place) ?? ends(text, new Set([place])).size > 0;
      return new Set([...from].filter((place) => is(place) === wanted));
    },
  };
}

function parse(pattern: string): Part {
  let at = 0;
  const take = (expression: RegExp) => {
    expression.lastIndex = at;
    const found = expression.exec(pattern);
    if (found) at += found[0].length;
    return found;
  };
  const atom = (): Part => {
    const open = take(OPEN);
    if (!open) {
      const token = take(TOKEN);
      return token ? single(token[0]) : malformed(pattern, "it is a regular expression known here");
    }
    const inner = alternatives(), kind = open[1] ?? ":";
    if (pattern[at++] !== ")") malformed(pattern, "it is a regular expression");
    if (!/[=!]$/.test(kind)) return inner;
    if (inner.looks) malformed(pattern, "it must not look around within a look around");
    return look(inner, kind);
  };
  const counted = (part: Part): Part => {
    const times = take(REPEAT);
    if (!times) return part;
    const [, sign, least, comma, most] = times;
    if (part.varies && sign !== "?") {
      malformed(pattern, "it must not repeat a group that holds repetitions or alternatives");
    }
    if (sign) return repeated(part, sign === "+" ? 1 : 0, sign === "?" ? 1 : Infinity);
    const last = most ? Number(most) : comma ? Infinity : Number(least);
    if (last < Number(least)) malformed(pattern, "it is a regular expression");
    return repeated(part, Number(least), last);
  };
  const alternatives = (): Part => {
    const branches: Part[][] = [[]];
    while (at < pattern.length && pattern[at] !== ")") {
      if (pattern[at] === "|") at++, branches.push([]);
      else branches.at(-1)!.push(counted(atom()));
    }
    return either(branches.map(sequence));
  };
  const whole = alternatives();
  return at === pattern.length ? whole : malformed(pattern, "it is a regular expression");
}

/**
 * Whether a pattern matches a text from one of some places to its end, in time that grows with both lengths alone.
 *
 * Names are compared as they are. Of other expressions those are refused that repeat a group with a repetition or a
 * choice in it, look around twice over, refer back, set flags, or are longer than 1000 characters.
 *
 * @throws {SyntaxError} for such an expression or none; the function returned, for one with a text above 256 characters
 */
export function pattern(source: string): (text: string, from: Places) => boolean {
  const [, start, one, many] = NAMES.exec(source) ?? [];
  const names = (one ?? many)?.split("|").map((name) => name.replace(/\\(.)/g, "$1"));
  if (names) {
    return (text, from) =>
      names.some((name) => {
        const place = text.length - name.length;
        return (start ? place === 0 : from.has(place)) && text.endsWith(name);
      });
  }
  if (source.length > LONG) malformed(source, `it must have at most ${LONG} characters`);
  let whole: Part;
  try {
    whole = parse(source);
  } catch (error) {
    if (error instanceof SyntaxError && error.message.startsWith("Cannot")) throw error;
    return malformed(source, "it is a regular expression"); // a class such as [z-a]
  }
  return (text, from) => {
    if (text.length > LONG_TEXT) {
      malformed(
        source,
        `a module that it is for must have a name of at most ${LONG_TEXT} characters`,
      );
    }
    return whole.ends(text, from).has(text.length);
  };
}
