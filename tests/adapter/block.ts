import { suite } from "uvu";
import * as assert from "uvu/assert";
import { blockWeights } from "../../lib/adapter/block.ts";

const blocks = suite("blockWeights()");

const LABELS = [
  "BASE",
  ...Array.from({ length: 12 }, (_, i) => `IN${String(i).padStart(2, "0")}`),
  "MID",
  ...Array.from({ length: 12 }, (_, i) => `OUT${String(i).padStart(2, "0")}`),
];

/** The labels that a list of so many numbers tells, in its order. */
const told = (count: number) => {
  const weights = blockWeights(Array.from({ length: count }, (_, i) => i + 1).join(","));
  return LABELS.filter((label) => weights(label) > 0).sort((a, b) => weights(a) - weights(b));
};

blocks("takes 26 numbers for all blocks in order", () => {
  assert.equal(told(26), LABELS);
});

blocks("takes 17 numbers for the blocks of SD 1 that have attention", () => {
  const inputs = [1, 2, 4, 5, 7, 8].map((i) => `IN0${i}`);
  assert.equal(told(17), ["BASE", ...inputs, "MID", ...LABELS.slice(-9)]);
});

blocks("takes 20 or 12 numbers for those of SDXL", () => {
  const outputs = LABELS.slice(14, 23);
  assert.equal(told(20), ["BASE", ...LABELS.slice(1, 10), "MID", ...outputs]);
  const inputs = [4, 5, 7, 8].map((i) => `IN0${i}`);
  assert.equal(told(12), ["BASE", ...inputs, "MID", ...outputs.slice(0, 6)]);
});

blocks("takes names, of which a block's goes before its side's", () => {
  const weights = blockWeights("out=0.5, OUT03=-1,MID=0");
  assert.equal(["OUT02", "OUT03", "MID", "IN01", "BASE"].map(weights), [0.5, -1, 0, 1, 1]);
});

for (
  const [text, message] of [
    ["1,2,3", /there are 26, 17, 20, 12 of them in a list: current count is 3/],
    ["IN99=1", /names are BASE, IN, MID, OUT, or a block's as IN04: current name is "IN99"/],
    ["IN=", /each has a number, .*: current word is ""/],
    ["MID=much", /each has a number, .*: current word is "much"/],
  ] as const
) {
  blocks(`refuses "${text}"`, () => assert.throws(() => blockWeights(text), message));
}

blocks.run();
