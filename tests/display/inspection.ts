import { suite } from "uvu";
import * as assert from "uvu/assert";
import { files } from "../../mod.ts";
import { DISPLAY } from "../../lib/display/bundle.ts";
import { inspectionFigure, readingIn, spectraFigure } from "../../lib/display/inspection.ts";
import { presented } from "../../lib/display/values.ts";
import { leakless } from "../support/close.ts";
import { trained } from "../support/trained.ts";

const inspection = suite("what was found in a file");
leakless(inspection);

const bytes = () =>
  files.encode(
    new Map([
      ["conv", trained(["lora", 3, { alpha: 2 }], [3, 3, 8, 16])],
      ["fc", trained(["loha", 2, {}], [24, 32])],
    ]),
  );

inspection("is drawn: a bar for each layer, a curve for each spectrum", async () => {
  const found = await files.inspect(await bytes());
  const [bars, curves] = [await inspectionFigure(found).svg(), await spectraFigure(found).svg()];
  assert.match(bars, "scale · ΔW");
  for (const { algorithm, name } of found.layers) {
    assert.match(bars, algorithm);
    assert.match(curves, name);
  }
});

inspection("is a table as a cell's last value", async () => {
  const given = await bytes();
  for (const found of [await files.inspect(given), await files.diagnose(given)]) {
    const bundle = await presented(found)![DISPLAY]();
    assert.match(String(bundle["text/html"]), "<table>");
  }
  assert.is(presented({ layers: [] }), undefined);
});

inspection("is told in words: right, a multiple, nothing, off by a share, not read", () => {
  const words = [
    readingIn({ right: true, error: 1e-8, factor: 1, strength: 1 }),
    readingIn({ right: false, error: 0.5, factor: 0.5, strength: 1 }),
    readingIn({ right: false, error: 1, factor: 0, strength: 1 }),
    readingIn({ right: false, error: 0.7, factor: 0.9, strength: 0.5 }),
    readingIn({ right: false, refused: "why" }),
  ];
  assert.equal(words, ["right", "0.50 ×", "nothing", "off by 70 % at strength 0.5", "—"]);
});

inspection.run();
