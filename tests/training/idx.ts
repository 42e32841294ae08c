import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "../../lib/training/idx.ts";

const idx = suite("idx.parse()");
/** a list of two images of 1×3 */
const file = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6);

idx("gives the lengths and the numbers after them", () => {
  const { shape, values } = parse(file);
  assert.equal(shape, [2, 1, 3]);
  assert.equal([...values], [1, 2, 3, 4, 5, 6]);
});

const damaged: [what: string, bytes: Uint8Array][] = [
  ["an empty file", new Uint8Array()],
  ["half a header", file.subarray(0, 10)],
  ["numbers that are not bytes", file.with(2, 0x0d)],
  ["another format", file.with(0, 0x1f)],
  ["a number missing", file.subarray(0, -1)],
  ["a number too many", Uint8Array.of(...file, 7)],
  ["a length that no file has", file.with(4, 0xff)],
];
for (const [what, bytes] of damaged) {
  idx(`refuses ${what}`, () => {
    assert.throws(() => parse(bytes), (error: unknown) => error instanceof SyntaxError);
  });
}

idx.run();
