/** What people hold instead of a weight file, told by its first bytes. */

const IMPOSTORS: readonly (readonly [start: string, what: string])[] = [
  ["<", "a web page (HTML): download the file itself, signed in if its host asks for that"],
  ["PK\x03\x04", "a zip archive, as torch.save writes (.pt, .ckpt): convert it with Python first"],
  ["\x80", "a Python pickle (.pt, .ckpt): convert it with Python first"],
  ["version ", "a Git LFS pointer: fetch the file it stands for with `git lfs pull`"],
  ["GGUF", "a GGUF model"],
  ["\x89HDF", "an HDF5 file (.h5)"],
  ["{", "bare JSON, perhaps a server's error message"],
];

/** How many first bytes `guess` looks at: past blanks and a byte order mark, a start is short. */
export const GLANCE = 64;

/** What a file that is no safetensors file seems to be, as an addition to an error; "" if unknown. */
export function guess(head: Uint8Array): string {
  const text = String.fromCharCode(...head.subarray(0, GLANCE)).replace(/^ï»¿/, "").trimStart();
  const impostor = IMPOSTORS.find(([start]) => text.startsWith(start));
  return impostor ? `; this looks like ${impostor[1]}` : "";
}
