import { suite } from "uvu";
import * as assert from "uvu/assert";
import { program } from "../../lib/tools/lowrank.ts";
import { lowrank } from "../support/command.ts";

const all = suite("lowrank");

all("lists its commands, each with an example that names it", async () => {
  const { code, out } = await lowrank("--help");
  assert.is(code, 0);
  for (const command of program().commands) {
    assert.match(out, ` ${command.name()} `);
    const { code, out: help } = await lowrank(command.name(), "--help");
    assert.is(code, 0);
    const [, example] = /\nExample: lowrank (\S+) /.exec(help) ?? [];
    assert.is(example, command.name());
    assert.match(help, "--json");
    assert.match(help, "--quiet");
  }
});

all("ends with 2 for words that it does not understand, and says the nearest", async () => {
  for (const words of [["mrege"], ["merge"], ["join", "--nothing"], ["prompt"]]) {
    const { code, err, out } = await lowrank(...words);
    assert.is(code, 2, words.join(" "));
    assert.is(out, "");
    assert.match(err, /^error: /);
  }
  assert.match((await lowrank("mrege")).err, "merge");
});

all.run();
