import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { progress } from "../../lib/display/progress.ts";

/** Longer than progress waits before it draws. */
const LATER = 120;

function screen(isTTY: boolean, columns = 80) {
  const texts: string[] = [];
  return { isTTY, columns, texts, write: (text: string) => texts.push(text) };
}

/** What is on the lines of a terminal after these texts, which must use nothing but \r, \n, erase to the end. */
function lines(texts: string[]): string[] {
  return texts.join("").split("\n").map((line) => line.split("\r").at(-1)!.replace("\x1b[K", ""));
}

const bar = suite("progress()");

bar("shows title, share, count and text, and leaves the last of it standing", async () => {
  const terminal = screen(true);
  const { step, done } = progress("training", 4, terminal);
  await sleep(LATER);
  step(2, "loss 0.5");
  assert.match(lines(terminal.texts)[0], /^training ━{12}─{12} 2\/4 · \d+:\d\d left · loss 0\.5$/);
  step();
  step(1, "loss 0.25");
  done();
  assert.match(lines(terminal.texts)[0], /^training ━{24} 4\/4 · \d+:\d\d · loss 0\.25$/);
  assert.is(lines(terminal.texts)[1], "");
});

bar("writes nothing where nobody looks", async () => {
  const file = screen(false);
  const { step, done } = progress("training", 2, file);
  await sleep(LATER);
  step();
  done();
  assert.equal(file.texts, []);
});

bar("writes nothing for what is over at once", () => {
  const terminal = screen(true);
  const { step, done } = progress("training", 2, terminal);
  step(2);
  done();
  assert.equal(terminal.texts, []);
});

bar("stays on one line of a narrow terminal", async () => {
  const terminal = screen(true, 20);
  const { step } = progress("training", 2, terminal);
  await sleep(LATER);
  step(1, "a long text about what is being done");
  assert.is(lines(terminal.texts)[0].length, 19);
});

bar("counts where the total is not known", async () => {
  const terminal = screen(true);
  const { step } = progress("reading", Infinity, terminal);
  await sleep(LATER);
  step(7);
  assert.match(lines(terminal.texts)[0], /^reading 7 · \d+:\d\d$/);
});

bar.run();
