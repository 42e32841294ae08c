import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { create, dispose } from "../../lib/adapter/adapter.ts";
import { type Bundle, DISPLAY, type Shown } from "../../lib/display/bundle.ts";
import { card, livePlot, math, plot, slider, smoothed, table } from "../../lib/display/mod.ts";
import { leakless } from "../support/close.ts";

const bundleOf = (value: Shown) => value[DISPLAY]() as Bundle & { [type: string]: string };

const display = suite("lowrank/display");
leakless(display);

display("table() shows rows as HTML, escaped, and as the terminal's text", () => {
  const bundle = bundleOf(table([{ kernel: "I<O", parameters: 5632 }]));
  assert.match(bundle["text/html"], '<td style="text-align:left">I&lt;O</td>');
  assert.match(bundle["text/html"], '<td style="text-align:right">5,632</td>');
  assert.match(bundle["text/plain"], "I<O          5,632");
});

display("math() is TeX on a line of its own", () => {
  assert.is(bundleOf(math("W + \\Delta W"))["text/latex"], "$$W + \\Delta W$$");
});

display("smoothed() leaves a constant as it is, and the mean of the first two between them", () => {
  assert.ok(smoothed(Array(50).fill(3), 10).every((value) => Math.abs(value - 3) < 1e-12));
  const [first, second] = smoothed([1, 2], 10);
  assert.is(first, 1);
  assert.ok(second > 1.5 && second < 2); // the later one counts more
});

display("livePlot() returns what the training returns, and throws what it throws", async () => {
  const losses = await livePlot("loss", ({ onStep }) => {
    onStep(1, 0.5);
    return Promise.resolve([0.5]);
  });
  assert.equal(losses, [0.5]);
  let caught: unknown;
  await livePlot("loss", () => Promise.reject(new Error("no data"))).catch((error) =>
    caught = error
  );
  assert.match((caught as Error).message, "no data");
});

display("slider() draws once outside a notebook", async () => {
  const drawn: number[] = [];
  await slider("rank r", { min: 1, max: 8, value: 4 }, (value) => {
    drawn.push(value);
    return plot({ data: [] });
  });
  assert.equal(drawn, [4]);
});

display("card() tells an adapter's shapes, parameters and share", () => {
  const adapter = create("lora", [3, 3, 64, 128], 8, { alpha: 4 });
  const bundle = bundleOf(card(adapter));
  for (const text of ["3×3×64×128", "5,632", "7.6 %", "0.5"]) {
    assert.match(bundle["text/plain"], text); // 8 · (9 · 64 + 128) of 73,728; 4 / 8
  }
  dispose(adapter);
});

display("card() draws the spectrum of a ΔW: as many bars as singular values", () => {
  const factors = { down: tf.tensor([[3, 0], [0, 1]]), up: tf.tensor([[1, 0], [0, 1]]) };
  const adapter = { ...create("lora", [2, 2], 2), factors };
  assert.is(bundleOf(card(adapter))["text/html"].match(/<rect /g)!.length, 2);
});

display.run();
