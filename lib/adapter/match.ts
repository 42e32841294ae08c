/** Patterns of names: the two that LyCORIS's presets have, and the globs of `where` and `overrides`. */

const escape = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/** A glob as an expression for the whole text: pieces that mean something by what they become. */
function translate(glob: string, pieces: RegExp, meaning: (piece: string) => string): RegExp {
  const parts = glob.split(pieces).map((part, index) => index % 2 ? meaning(part) : escape(part));
  return new RegExp(`^(?:${parts.join("")})$`, "s");
}

/** Python's `fnmatch`: `*` any text, `?` one character, `[seq]` and `[!seq]` one of some; dots are like others. */
export function fnmatch(name: string, pattern: string): boolean {
  return translate(pattern, /(\*|\?|\[!?\]?[^\]]*\])/, (piece) => {
    if (piece === "*") return ".*";
    if (piece === "?") return ".";
    const negated = piece[1] === "!", inner = piece.slice(negated ? 2 : 1, -1);
    return `[${negated ? "^" : ""}${inner.replace(/[\\^\]]/g, "\\$&")}]`;
  }).test(name);
}

/**
 * Python's `re.match`: the pattern holds from the start of the name on, and need not reach its end.
 *
 * @throws {SyntaxError} for a pattern that is no regular expression
 */
export function startsLike(name: string, pattern: string): boolean {
  return new RegExp(`^(?:${pattern})`, "s").test(name);
}

/** Whether a text is a glob rather than a name. */
export function isGlob(text: string): boolean {
  return /[*?]/.test(text);
}

/** A glob on a whole name of parts with dots between: `*` and `?` stay inside a part, `**` crosses dots. */
export function glob(name: string, pattern: string): boolean {
  return translate(
    pattern,
    /(\*\*|\*|\?)/,
    (piece) => piece === "**" ? ".*" : piece === "*" ? "[^.]*" : "[^.]",
  ).test(name);
}
