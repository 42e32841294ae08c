import { suite } from "uvu";
import * as assert from "uvu/assert";
import { delta } from "../../lib/adapter/merge.ts";
import { encode, open } from "../../lib/files/adapters.ts";
import { parse } from "../../lib/files/safetensors.ts";
import { close, leakless } from "../support/close.ts";
import { f32, free, refusal, trained } from "../support/few.ts";

const simo = suite("cloneofsimo");
leakless(simo);

simo(
  "positions, ranks and the classes walked are told; embeddings are kept beside them",
  async () => {
    const given = new Map([
      ["unet:1", trained("lora", [3, 3, 6, 8], 3, { alpha: 1 })],
      ["unet:0", trained("lora", [6, 8], 2, {})],
      ["text_encoder:0", trained("lora", [6, 8], 1, {})],
    ]);
    const leftovers = new Map([["<token>", f32([5], 7)]]);
    const metadata = { "<token>": "<embed>", "unet:9:rank": "4" };
    const bytes = await encode(given, { dialect: "cloneofsimo", leftovers, metadata });
    const file = await open(bytes);
    assert.equal(file.metadata, {
      "<token>": "<embed>",
      unet: '["ResnetBlock2D","CrossAttention","Attention","GEGLU"]',
      text_encoder: '["CLIPAttention"]',
      "unet:0:rank": "2",
      "unet:1:rank": "3",
      "text_encoder:0:rank": "1",
    });
    assert.equal(parse(bytes).tensors.get("unet:1:down")!.shape, [3, 6, 3, 3]);
    assert.equal([...file.leftovers.keys()], ["<token>"]);
    assert.equal(await file.leftovers.get("<token>")!.bytes(), f32([5], 7).bytes);
    for (const [name, adapter] of given) close(delta(file.adapters.get(name)!), delta(adapter));
    free(file.adapters.values());
  },
);

simo(
  "names that are no positions, positions with gaps and networks without classes are refused",
  async () => {
    const adapter = trained("lora", [6, 8], 2, {});
    const refused = async (names: string[], rule: RegExp) => {
      const given = new Map(names.map((name) => [name, adapter]));
      assert.match((await refusal(encode(given, { dialect: "cloneofsimo" }))).message, rule);
    };
    await refused(["conv"], /"conv".*positions in the network's walk.*unet:0/);
    await refused(["unet:0", "unet:2"], /"unet:1".*without gaps/);
    await refused(["vae:0"], /"vae:0".*pass metadata/);
  },
);

simo.run();
