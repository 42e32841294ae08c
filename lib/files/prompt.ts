/** `<lora:name:0.8>` in a prompt: what AUTOMATIC1111, its heirs and ComfyUI's nodes read of it. */

/** One adapter that a prompt asks for. */
export interface Asked {
  name: string;
  /** strength of the text encoders; 1 unless told */
  textEncoder: number;
  /** strength of the UNet; that of the text encoders unless told */
  unet: number;
}

/** A prompt, taken apart. */
export interface Prompt {
  /** what it says besides */
  text: string;
  adapters: Asked[];
}

const ASKED = /<(?:lora|lyco):([^:<>]+)((?::[^:<>]*)*)>/g;

/** A strength, if the words are one. */
function strengthOf(prompt: string, word: string): number {
  const value = Number(word);
  if (word.trim() !== "" && Number.isFinite(value)) return value;
  throw new SyntaxError(
    `Cannot read the prompt "${prompt}" as a strength is a number: current strength is "${word}"`,
  );
}

/**
 * A prompt's text and the adapters in it, by `<lora:name:te:unet>` or `<lora:name:te=…:unet=…>`; `lyco:` is the same.
 *
 * Without numbers both strengths are 1; with one, both are that one.
 *
 * @throws {SyntaxError} for a strength that is no number
 *
 * @example
 * ```ts
 * import { files } from "lowrank";
 * import * as assert from "uvu/assert";
 *
 * const { text, adapters } = files.parsePrompt("a cat <lora:ink:0.8:0.5>, snow");
 * assert.is(text, "a cat, snow");
 * assert.equal(adapters, [{ name: "ink", textEncoder: 0.8, unet: 0.5 }]);
 * ```
 */
export function parsePrompt(prompt: string): Prompt {
  const adapters = [...prompt.matchAll(ASKED)].map(([, name, rest]): Asked => {
    const words = rest.split(":").slice(1), placed = words.filter((word) => !word.includes("="));
    const named = new Map(
      words.filter((word) => word.includes("=")).map((word) => {
        const at = word.indexOf("=");
        return [word.slice(0, at).trim(), word.slice(at + 1)];
      }),
    );
    const te = named.get("te") ?? placed[0], unet = named.get("unet") ?? placed[1] ?? te;
    const strength = (word?: string) => word === undefined ? 1 : strengthOf(prompt, word);
    return { name: name.trim(), textEncoder: strength(te), unet: strength(unet) };
  });
  const text = prompt.replace(ASKED, "").replace(/\s+([,.])/g, "$1").replace(/\s+/g, " ").trim();
  return { text, adapters };
}
