import { suite } from "uvu";
import * as assert from "uvu/assert";
import { table } from "../../lib/display/table.ts";

const text = suite("table()");

text("aligns texts left and numbers right, with one number of decimals a column", () => {
  const rows = [
    { algorithm: "lora", parameters: 12345, accuracy: 0.87, share: "1.2 %" },
    { algorithm: "full", parameters: 9, accuracy: 0.5, share: "100 %" },
  ];
  assert.is(
    table(rows),
    [
      "algorithm  parameters  accuracy  share",
      "─────────  ──────────  ────────  ─────",
      "lora           12,345      0.87  1.2 %",
      "full                9      0.50  100 %",
    ].join("\n"),
  );
});

text("leaves a value empty that a row lacks", () => {
  assert.is(
    table([{ name: "a", size: 1 }, { name: "bc" }, { name: "d", note: "x" }]),
    ["name  size  note", "────  ────  ────", "a        1", "bc", "d           x"].join("\n"),
  );
});

text("rounds to four decimals", () => {
  assert.is(table([{ x: 1 / 3 }]).split("\n")[2], "0.3333");
});

text("rounds to five digits, and shows no zeros that all of a column end with", () => {
  const [, , share, rate] = table([{ x: 100 * 0.083, y: 6095.717 }, { x: 83.4, y: 12.5 }]).split(
    "\n",
  );
  assert.equal([share, rate], [" 8.3  6,095.7", "83.4     12.5"]);
});

text("is empty for no rows", () => assert.is(table([]), ""));

text.run();
