import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Adapter, files, loha, lora } from "../../mod.ts";
import { diagnose } from "../../lib/files/doctor.ts";
import { type HostName } from "../../lib/files/hosts/hosts.ts";
import { serialize } from "../../lib/files/safetensors.ts";
import { leakless } from "../support/close.ts";
import { f32, free } from "../support/few.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { trained } from "../support/trained.ts";

const doctor = suite("files.diagnose()");
leakless(doctor);

const NAME = "lora_unet_mid_block_attentions_0_proj_in";
const encode = (adapter: Adapter, options: files.SaveOptions = {}) =>
  files.encode(new Map([[NAME, adapter]]), options);

doctor(
  "what LoHa's merge does by its scale twice: LyCORIS is at α/r of what was trained",
  async () => {
    const bytes = await encode(trained(["loha", 4, { alpha: 1 }], [6, 8]));
    const { layers: [{ hosts, base }] } = await diagnose(bytes);
    assert.is(base, "none");
    const { right, factor, error } = hosts.lycoris!;
    assert.ok(!right && Math.abs(factor! - 0.25) < 1e-5 && Math.abs(error! - 0.75) < 1e-5);
    assert.ok(hosts.comfyui!.right && hosts.automatic1111!.right);
  },
);

doctor("a host is silent on none: what it does not read it refuses by a reason", async () => {
  const { layers: [{ hosts }] } = await diagnose(await encode(loha.create([6, 8], 2)));
  for (const host of ["kohya", "peft", "diffusers"] as const) {
    assert.is(hosts[host]!.right, false);
    assert.type(hosts[host]!.refused, "string");
  }
});

doctor("names that a host does not look for are passed over on demand", async () => {
  const bytes = await files.encode(new Map([["mine", lora.create([6, 8], 2)]]));
  const [strict, free] = [await diagnose(bytes), await diagnose(bytes, { names: false })];
  assert.match(strict.hosts.kohya!.reasons[0], /lora_unet_/);
  assert.is(free.hosts.kohya!.right, 1);
});

doctor(
  "alpha 0 is the rank for LyCORIS and kohya, and nothing for AUTOMATIC1111 and ComfyUI",
  async () => {
    const zero = new Uint8Array(4);
    const bytes = serialize([
      [`${NAME}.lora_down.weight`, f32([2, 6], 1)],
      [`${NAME}.lora_up.weight`, f32([8, 2], 2)],
      [`${NAME}.alpha`, { dtype: "F32", shape: [], bytes: zero }],
    ]);
    const { layers: [{ hosts }] } = await diagnose(bytes);
    assert.ok(hosts.lycoris!.right && hosts.kohya!.right);
    assert.is(hosts.automatic1111!.factor, 0);
    assert.is(hosts.comfyui!.factor, 0);
  },
);

doctor("numbers that are not finite are no reading", async () => {
  const nan = new Uint8Array(Float32Array.from({ length: 12 }, () => NaN).buffer);
  const { layers: [{ hosts }] } = await diagnose(serialize([
    [`${NAME}.lora_down.weight`, { dtype: "F32", shape: [2, 6], bytes: nan }],
    [`${NAME}.lora_up.weight`, f32([8, 2], 2)],
  ]));
  assert.is(hosts.comfyui!.refused, "its numbers are not finite");
});

doctor("ComfyUI reads no configuration in the header: PEFT's scale is lost", async () => {
  const adapter = trained(["lora", 2, { alpha: 1 }], [6, 8]);
  const name = "unet.mid_block.attentions.0.proj_in";
  const bytes = await files.encode(new Map([[name, adapter]]), { dialect: "diffusers" });
  assert.is((await diagnose(bytes)).hosts.comfyui!.right, 1, "scale 1 is written");
  const metadata = { lora_adapter_metadata: JSON.stringify({ "unet.r": 2, "unet.lora_alpha": 1 }) };
  const told = serialize([
    [`${name}.lora_A.weight`, f32([2, 6], 1)],
    [`${name}.lora_B.weight`, f32([8, 2], 2)],
  ], metadata);
  const { layers: [{ hosts }] } = await diagnose(told);
  assert.ok(hosts.diffusers!.right);
  assert.ok(Math.abs(hosts.comfyui!.factor! - 2) < 1e-5);
});

doctor("diffusers gives attention the commonest alpha", async () => {
  const layers = ["attn1_to_q", "attn1_to_k", "ff_net_2"].map((end, i) =>
    [
      `lora_unet_mid_block_attentions_0_transformer_blocks_0_${end}`,
      trained(["lora", 2, { alpha: i === 0 ? 1 : 2 }], [6, 8]),
    ] as const
  );
  const { layers: found } = await diagnose(await files.encode(new Map(layers)));
  const factors = found.map(({ name, hosts }) => [name.slice(-4), hosts.diffusers!.factor!]);
  assert.equal(
    new Map(factors.map(([end, f]) => [end, Math.round(Number(f) * 1e4) / 1e4])).get("to_q"),
    2,
  );
});

if (hasGolden) {
  /** Layers that each host reads right, otherwise, and not at all, of files that LyCORIS wrote: as LyCORIS 4.1.3, and the
   * layer classes of AUTOMATIC1111 and ComfyUI themselves did. */
  const TABLE: Record<string, [right: number, wrong: number, refused: number][]> = {
    // LyCORIS, kohya, AUTOMATIC1111, ComfyUI
    lora: [[29, 0, 0], [29, 0, 0], [29, 0, 0], [29, 0, 0]],
    lora_tucker_norm: [[40, 0, 0], [19, 0, 21], [40, 0, 0], [40, 0, 0]],
    lora_dora: [[29, 0, 0], [0, 29, 0], [0, 29, 0], [0, 29, 0]],
    loha: [[0, 29, 0], [0, 0, 29], [29, 0, 0], [29, 0, 0]],
    lokr: [[0, 29, 0], [0, 0, 29], [29, 0, 0], [29, 0, 0]],
    lokr_full: [[29, 0, 0], [0, 0, 29], [29, 0, 0], [29, 0, 0]],
    lokr_tucker_both: [[0, 26, 3], [0, 0, 29], [29, 0, 0], [29, 0, 0]],
    glora: [[29, 0, 0], [0, 0, 29], [0, 0, 29], [29, 0, 0]],
    "diag-oft": [[29, 0, 0], [0, 0, 29], [1, 28, 0], [0, 29, 0]],
    boft: [[28, 0, 0], [0, 0, 28], [0, 0, 28], [0, 28, 0]],
    // of one convolution of 3 × 3 with 3 outputs AUTOMATIC1111 takes the wrong axis and does not fail
    ia3: [[0, 0, 29], [0, 0, 29], [15, 1, 13], [0, 0, 29]],
    dylora: [[0, 15, 14], [0, 15, 14], [0, 29, 0], [0, 29, 0]],
    full: [[40, 0, 0], [0, 0, 40], [40, 0, 0], [40, 0, 0]],
    tlora: [[19, 0, 0], [0, 0, 19], [0, 0, 19], [0, 0, 19]],
  };
  const FOUR: HostName[] = ["lycoris", "kohya", "automatic1111", "comfyui"];
  for (const [stem, rows] of Object.entries(TABLE)) {
    doctor(`${stem} is read by four hosts as they read it`, async () => {
      const place = golden(join("wholefile_dev", `${stem}.safetensors`));
      const { hosts, leftovers } = await diagnose(place, { names: false, hosts: FOUR });
      assert.equal(leftovers, []);
      for (const [i, host] of FOUR.entries()) {
        const { right, wrong, refused } = hosts[host]!;
        assert.equal([right, wrong, refused], rows[i], host);
      }
    });
  }

  const PEFT = ["ia3", "loha", "loha_effective_conv2d", "lokr", "lokr_both", "lokr_conv_flat"];
  PEFT.push("lokr_effective_conv2d", "lora_dora", "lora_patterns", "lora_rslora");
  for (const name of PEFT) {
    doctor(`PEFT's own ${name} is right in PEFT`, async () => {
      const { hosts: { peft }, layers } = await diagnose(golden(`sd/tiny/peft_more/${name}`), {
        hosts: ["peft"],
      });
      assert.is(peft!.right, layers.length);
    });
  }

  doctor(
    "diffusers takes 47 of 79 modules where names of two generations are mixed, as it does",
    async () => {
      const place = golden("sd/tiny/diffusers_mixed_noalpha.safetensors");
      const { hosts: { diffusers } } = await diagnose(place, { hosts: ["diffusers"] });
      assert.equal([diffusers!.right, diffusers!.refused], [47, 32]);
      for (const file of ["locon", "peft", "peft_pipeline"]) {
        const { hosts, layers } = await diagnose(golden(`sd/tiny/${file}.safetensors`), {
          hosts: ["diffusers"],
        });
        assert.is(hosts.diffusers!.right, layers.length, file);
      }
    },
  );

  doctor("a kernel that is given is used, and goes over", async () => {
    const file = await files.open(golden("wholefile_dev/lora_dora.safetensors"));
    const shapes = new Map([...file.adapters].map(([name, { shape }]) => [name, shape]));
    free(file.adapters.values());
    const { tf } = await import("../../mod.ts");
    const { layers, hosts } = await diagnose(golden("wholefile_dev/lora_dora.safetensors"), {
      base: (name) => Promise.resolve(tf.ones([...shapes.get(name)!])),
      hosts: ["lycoris"],
    });
    assert.ok(layers.every(({ base }) => base === "given"));
    assert.is(hosts.lycoris!.right, layers.length);
  });
}

doctor.run();
