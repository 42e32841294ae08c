/** Finding oneDNN, and keeping its primitives. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cacheFolder } from "../../lib/engines/cache.ts";
import * as onednn from "../../lib/engines/onednn.ts";
import { find } from "../../lib/engines/onednn/library.ts";
import { primitives } from "../../lib/engines/onednn/primitive.ts";
import * as products from "../../lib/engines/onednn/product.ts";
import { under } from "../support/environment.ts";

const available = await onednn.available();
if (available !== true) console.log(`onednn is skipped: ${available}`);

const reasons = suite("onednn's find()");

const refused = (LOWRANK_ONEDNN: string) =>
  under({ LOWRANK_ONEDNN }, () => find().then(() => "nothing", (error) => error.message as string));

reasons("says in one line that there is no such file", async () => {
  assert.match(await refused("/no/such/libdnnl.so"), /^.*\/no\/such\/libdnnl\.so.*$/);
});

reasons("says in one line that a file is no library", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
  writeFileSync(join(folder, "libdnnl.so"), "not a library\n");
  assert.match(await refused(join(folder, "libdnnl.so")), /^.*libdnnl\.so.*$/);
  rmSync(folder, { recursive: true });
});

reasons("looks into the user's own cache folder", async () => {
  await under({ XDG_CACHE_HOME: "/somewhere" }, () => {
    assert.is(cacheFolder("onednn"), join("/somewhere", "lowrank", "onednn"));
  });
});

const test = available === true ? reasons : reasons.skip;
test("refuses a number of threads that is none", async () => {
  const sentence = await under({ LOWRANK_THREADS: "many" }, () => find().catch(String)) as string;
  assert.match(sentence, /LOWRANK_THREADS.*whole number above 0.*many/);
});
reasons.run();

if (available === true) {
  const kept = suite("primitives()");
  kept("keeps no more than its capacity, and computes whatever was thrown out again", async () => {
    const library = await find(), { dnnl, ffi } = library;
    const all = primitives(library, 3);
    for (const k of [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]) {
      const [a, b] = [new Float32Array(64).fill(2), new Float32Array(64).fill(3)];
      const c = new Float32Array(64);
      const batch = { aBatch: [], bBatch: [], batch: [] };
      const shape = { ...batch, m: 2, k, n: 2, transposeA: false, transposeB: false };
      const key = products.keyOf(shape);
      all.run(key, 8 * k, () => products.product(dnnl, shape), [a, b, c].map(ffi.address));
      assert.equal([...c.subarray(0, 5)], [6 * k, 6 * k, 6 * k, 6 * k, 0]);
      assert.ok(all.size() <= 3);
    }
  });
  kept.run();
}
