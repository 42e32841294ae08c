import { suite } from "uvu";
import * as assert from "uvu/assert";
import { singularValues } from "../../lib/adapter/singular_values.ts";
import { matrixOf } from "../../lib/adapter/matrices.ts";
import { delta } from "../../lib/adapter/merge.ts";
import { svd } from "../../lib/tensor/svd.ts";
import { lora } from "../../mod.ts";
import { leakless } from "../support/close.ts";
import { ADDITIVE, told, trained } from "../support/trained.ts";

const values = suite("singularValues()");
leakless(values);

for (const row of ADDITIVE) {
  for (const shape of [[12, 16], [3, 3, 12, 16]]) {
    if (row[2].tucker && shape.length === 2) continue;
    values(`are those of ΔW itself: ${told(row)} on ${shape.join("×")}`, () => {
      const adapter = trained(row, shape), s = singularValues(adapter);
      const expected = svd(matrixOf(delta(adapter))).s;
      for (const [i, σ] of expected.entries()) {
        const error = Math.abs((s[i] ?? 0) - σ);
        assert.ok(error <= 2e-6 * expected[0], `σ ${i} is ${s[i]}, expected ${σ}`);
      }
    });
  }
}

values("are zero of an adapter as it is born, and of a factor without a direction", () => {
  const born = singularValues(lora.create([8, 6], 4));
  assert.ok(born.every((σ) => σ === 0));
});

values.run();
