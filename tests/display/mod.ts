import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { create, dispose, mapFactors } from "../../lib/adapter/adapter.ts";
import { type Bundle, DISPLAY, type Shown } from "../../lib/display/bundle.ts";
import { card, livePlot, math, plot, slider, smoothed, table } from "../../lib/display/mod.ts";
import { presented } from "../../lib/display/values.ts";
import { adaptModel } from "../../lib/layers/model.ts";
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

/** A LoRA with ΔW = diag(3, 4). */
const diagonal = () => {
  const factors = { down: tf.tensor([[3, 0], [0, 4]]), up: tf.tensor([[1, 0], [0, 1]]) };
  return { ...create("lora", [2, 2], 2), factors };
};

display("card() draws the spectrum of a ΔW: as many bars as singular values", () => {
  const bundle = bundleOf(card(diagonal()));
  assert.is(bundle["text/html"].match(/<rect /g)!.length, 2);
  assert.match(bundle["text/plain"], "5.00"); // ‖diag(3, 4)‖
});

display("card() knows a ΔW of fifteen million numbers by its factors", () => {
  const adapter = mapFactors(create("lora", [3, 3, 1280, 1280], 4), (t) => tf.onesLike(t));
  assert.is(bundleOf(card(adapter))["text/html"].match(/<rect /g)!.length, 4);
});

display("card() needs the base of what depends on it, and tells the rest without", () => {
  const adapter = { ...create("ia3", [2, 2], 0), factors: { vector: tf.tensor([[1, 1]]) } };
  const base = tf.tensor([[3, 0], [0, 4]]); // ΔW = base · 1
  assert.match(String(card(adapter, base)), "5.00");
  assert.not.match(String(card(adapter)), "5.00");
  assert.match(String(card(adapter)), "ia3");
});

display(
  "card() tells of adapters on layers, of a model's and of a file's one by one and together",
  () => {
    const model = tf.sequential({
      layers: [
        tf.layers.dense({ inputShape: [4], units: 3, name: "first" }),
        tf.layers.dense({ units: 2, name: "last" }),
      ],
    });
    const all = adaptModel("lora", model, 1);
    assert.match(String(card(all.attached.get("last")!)), /lora on last +3×2 .* 5 +83\.3 %/); // 3 + 2 of 6
    const together = /first +lora +4×3.*\n *last +lora +3×2.*\n *together +12 +66\.7 %/; // 7 + 5 of 12 + 6
    assert.match(String(card(all)), together);
    const kept = all.detach({ keep: true })!;
    assert.match(String(card(kept)), together);
    kept.forEach(dispose);
    assert.match(String(card(kept)), together); // what is freed has no numbers, but shapes
    model.dispose();
  },
);

display("card() counts the adapters that there is no room for", () => {
  const one = diagonal(), many = new Map(Array.from({ length: 20 }, (_, i) => [`layer ${i}`, one]));
  assert.match(String(card(many)), /layer 15.*\n *and 4 more\n *together +160/); // 20 · 8
});

display("presented() is for adapters and tensors, and nothing else", () => {
  const one = diagonal();
  for (
    const value of [one, new Map([["a", one]]), {
      dialect: "kohya",
      adapters: new Map([["a", one]]),
    }]
  ) {
    assert.match(String(presented(value)), "lora");
  }
  assert.match(String(presented(tf.tensor([1, 2]))), /^Tensor 2 float32\s+\[1, 2\]$/);
  for (const value of [undefined, null, 1, "lora", [one], {}, new Map(), { algorithm: "lora" }]) {
    assert.is(presented(value), undefined);
  }
});

display.run();
