import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { choiceFigure, choiceRows } from "../../lib/display/choices.ts";
import { choose, extract } from "../../mod.ts";
import { dispose } from "../../lib/adapter/adapter.ts";
import { leakless } from "../support/close.ts";
import { tensor } from "../support/trained.ts";

type Curve = { name: string; x: number[]; y: number[]; text: string[] };

const drawn = suite("choiceFigure()");
leakless(drawn);

drawn("has what choose chooses as the lowest of all curves at every rank", () => {
  const shape = [3, 3, 8, 16], curves = choiceFigure(shape).data as unknown as Curve[];
  assert.equal(curves.map(({ name }) => name), ["lora", "loha", "lokr", "full"]);
  for (const { chosen, rank, ...counts } of choiceRows(shape)) {
    const { settings, parameters } = choose(shape, { rank: Number(rank) });
    assert.ok(`${chosen}`.startsWith(settings.algorithm));
    assert.is(Math.min(...Object.values(counts).map(Number)), parameters);
    const lowest = Math.min(
      ...curves.flatMap(({ x, y }) => y.filter((_, i) => x[i] >= Number(rank))),
    );
    assert.is(lowest, parameters, `rank ${rank}`);
  }
});

drawn("shows of a difference what each fit misses, falling with its parameters", () => {
  const base = tensor([16, 12], 1), tuned = tf.add(base, tf.mul(tensor([16, 12], 2), 0.1));
  const curves = choiceFigure({ base, tuned }).data as unknown as Curve[];
  assert.ok(curves.length >= 3, `${curves.map(({ name }) => name)}`);
  for (const { name, x, y } of curves) {
    for (let i = 1; i < x.length; i++) assert.ok(x[i] >= x[i - 1] && y[i] <= y[i - 1], name);
  }
  const { x, y, text } = curves.find(({ name }) => name === "lora")!,
    rank = Number(text[0].match(/\d+/));
  const { adapter, error } = extract(base, tuned, { rank, whole: "never" })!;
  assert.is(error, y[0]);
  assert.is(x[0], rank * (16 + 12));
  dispose(adapter);
});

drawn.run();
