import { suite } from "uvu";
import * as assert from "uvu/assert";
import { schedule } from "../../mod.ts";

const schedules = suite("schedule");

for (const name of ["linear", "cosine"] as const) {
  schedules(`${name} goes from one number to the other, and stays there`, () => {
    const at = schedule[name](0.1, 0.5, 40);
    assert.is(at(0), 0.1);
    assert.ok(Math.abs(at(20) - 0.3) < 1e-12, "half way");
    assert.equal([at(40), at(1000)], [0.5, 0.5]);
    for (let step = 1; step <= 40; step++) assert.ok(at(step) > at(step - 1));
    assert.is(schedule[name](1, 2, 0)(0), 2, "no way to go");
    assert.is(schedule[name](1, 2, Infinity)(5), 1, "no end of the way");
  });
}
schedules("cosine is flat at both ends", () => {
  const at = schedule.cosine(0, 1, 100);
  assert.ok(at(1) < 1 / 400 && 1 - at(99) < 1 / 400);
});
schedules("constant is a number at every step, and a schedule as it is", () => {
  assert.equal([0, 7].map(schedule.constant(0.2)), [0.2, 0.2]);
  assert.is(schedule.constant(schedule.linear(0, 1, 4))(2), 0.5);
});
schedules.run();
