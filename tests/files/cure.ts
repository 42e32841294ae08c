import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, cure, files } from "../../mod.ts";
import { diagnose } from "../../lib/files/doctor.ts";
import { HOST_NAMES } from "../../lib/files/hosts/hosts.ts";
import { leakless } from "../support/close.ts";
import { free, kernel } from "../support/few.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { ADDITIVE, told, trained } from "../support/trained.ts";
import { kernelsOf } from "../support/whole_base.ts";

const cured = suite("cure()");
leakless(cured);

const NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";

/** Opens a file, cures it for a host, frees it. */
async function curedFor(
  bytes: Uint8Array | string,
  ...rest: Parameters<typeof cure> extends [unknown, ...infer R] ? R : never
) {
  const file = await files.open(bytes);
  try {
    return await cure(file, ...rest);
  } finally {
    free(file.adapters.values());
  }
}

const encode = (adapter: Adapter) => files.encode(new Map([[NAME, adapter]]));

for (const row of ADDITIVE) {
  if (row[2].tucker) continue;
  for (const host of HOST_NAMES) {
    cured(`${told(row)} for ${host}: there its error is at most 1e-6`, async () => {
      const { layers: [layer], bytes } = await curedFor(
        await encode(trained(row, [12, 16])),
        host,
      );
      assert.is(layer.reason, undefined);
      assert.ok(layer.error! <= 1e-6, `${layer.by}: ${layer.error}`);
      const { hosts } = await diagnose(bytes!);
      assert.equal([hosts[host]!.right, hosts[host]!.worst! <= 1e-6], [1, true]);
    });
  }
}

cured("folds a scale into one factor and makes alpha the rank", async () => {
  const { layers: [layer], bytes } = await curedFor(
    await encode(trained(["loha", 4, { alpha: 1 }], [6, 8])),
    "lycoris",
  );
  assert.is(layer.by, "scale or constraint folded in");
  const { adapters } = await files.open(bytes!);
  assert.is(adapters.get(NAME)!.alpha, 4);
  free(adapters.values());
});

cured("stores numbers in fewer bits if asked, and tells what that costs", async () => {
  for (const [dtype, most] of [["f16", 2e-3], ["bf16", 2e-2]] as const) {
    const { layers: [layer], bytes } = await curedFor(
      await encode(trained(["loha", 4, { alpha: 1 }], [12, 16])),
      "kohya",
      { dtype },
    );
    assert.ok(layer.error! > 1e-6 && layer.error! < most, `${layer.error}`);
    assert.is((await diagnose(bytes!)).hosts.kohya!.right, 1);
  }
});

cured("writes no (IA)^3 for PEFT where a bias is, which PEFT multiplies too", async () => {
  const bytes = await encode(trained(["ia3", 0, {}], [6, 8]));
  for (const [biased, by] of [[false, "as it is"], [true, "as LoRA of all ranks"]] as const) {
    const base = () => Promise.resolve(kernel([6, 8]));
    const { layers: [layer] } = await curedFor(bytes, "peft", { base, biased: () => biased });
    assert.is(layer.by, by);
  }
});

cured("says what is missing where ΔW depends on the base", async () => {
  const { layers: [layer], bytes } = await curedFor(
    await encode(trained(["ia3", 0, {}], [6, 8])),
    "comfyui",
  );
  assert.is(bytes, undefined);
  assert.match(layer.reason!, /base kernel/);
});

if (hasGolden) {
  const folder = golden("wholefile_dev");
  const STEMS = ["lora", "lora_fp16", "lora_tucker_norm", "lora_dora", "loha", "loha_tucker"];
  STEMS.push("lokr", "lokr_full", "lokr_tucker_both", "dylora", "ia3", "glora", "tlora", "boft");
  STEMS.push("diag-oft", "diag-oft_constraint", "full", "mixed_maps");
  /** Hosts that have no place for something in a file, and what. */
  const NOWHERE: Record<string, RegExp> = {
    lora_tucker_norm: /normalization/,
    full: /normalization|bias/,
    mixed_maps: /bias/,
  };
  for (const stem of STEMS) {
    for (const host of HOST_NAMES) {
      const nowhere = ["kohya", "peft", "diffusers"].includes(host) ? NOWHERE[stem] : undefined;
      const what = nowhere ? "is refused, and why" : "is right with an error of at most 1e-6";
      cured(`${stem} for ${host}, with its base, ${what}`, async () => {
        const { base, dispose } = kernelsOf(folder);
        try {
          const { layers, bytes } = await curedFor(
            join(folder, `${stem}.safetensors`),
            host,
            { base, names: false },
          );
          if (nowhere) {
            assert.is(bytes, undefined);
            const reasons = layers.flatMap(({ reason }) => reason ?? []);
            assert.ok(reasons.length > 0 && reasons.every((reason) => nowhere.test(reason)));
            return;
          }
          const bad = layers.filter(({ reason, error }) => reason || !(error! <= 1e-6));
          assert.equal(bad, []);
          const { hosts } = await diagnose(bytes!, { hosts: [host], names: false });
          assert.is(hosts[host]!.right, layers.length);
        } finally {
          dispose();
        }
      });
    }
  }
}

cured.run();
