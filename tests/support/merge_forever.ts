/**
 * Merges into the same file again and again, at strength 1 and −1 in turn, until it is killed:
 * `merge_forever.ts BASE STYLE OUT`. Says `ready` when the first is about to begin.
 */
import process from "node:process";
import { mergeInto } from "../../lib/files/merge_into.ts";

const [base, place, out] = process.argv.slice(2);
process.stdout.write("ready\n");
for (let strength = 1;; strength = -strength) await mergeInto(base, [{ place, strength }], out);
