/** The mini networks answer as torch's do, so that adapter files can be judged by them. */
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { close, leakless } from "./support/close.ts";
import { golden, hasGolden } from "./support/fixtures.ts";
import {
  channelsLast,
  kernels,
  loadBase,
  loadTensors,
  norms,
  textEncoder,
  under,
  unet,
} from "./support/networks.ts";

const networks = suite("mini networks");
leakless(networks);
const check = hasGolden ? networks : networks.skip;

const file = (name: string) => golden(`wholefile_dev/${name}.safetensors`);

/** What goes into the networks and comes out of torch's, images in channels last. */
function expected() {
  const tensors = loadTensors(file("expected"));
  const get = <T extends tf.Tensor>(name: string) => tensors.get(name) as T;
  return {
    x: channelsLast(get("x")),
    t: get<tf.Tensor2D>("t"),
    emb: get<tf.Tensor3D>("emb"),
    context: get<tf.Tensor3D>("ctx_base"),
    out: channelsLast(get("out_base")),
  };
}

check("textEncoder() of the embeddings is ctx_base", () => {
  const { emb, context } = expected();
  close(textEncoder(under("te", loadBase(file("base"))), emb), context);
});

check("unet() of x, t and ctx_base is out_base", () => {
  const { x, t, context, out } = expected();
  close(unet(under("unet", loadBase(file("base"))), x, t, context), out);
});

check("another text encoder has other weights of the same names", () => {
  const { emb, context } = expected();
  const second = textEncoder(under("te2", loadBase(file("base_te2"))), emb);
  assert.equal(second.shape, context.shape);
  assert.throws(() => close(second, context), /relative error/);
});

check("kernels() are the linear layers and convolutions, norms() the rest", () => {
  const base = loadBase(file("base"));
  assert.is(kernels(base).get("unet.conv_in"), "unet.conv_in.weight");
  assert.equal(base.get("unet.conv_in.weight")?.shape, [3, 3, 3, 8]);
  assert.is([...kernels(base).keys()].filter((path) => path.startsWith("unet.")).length, 29);
  assert.is([...norms(base).keys()].filter((path) => path.startsWith("unet.")).length, 11);
});

check("a missing weight is named", () => {
  const { x, t, context } = expected();
  assert.throws(() => unet(() => undefined, x, t, context), /time_embedding.linear_1.weight/);
});

networks.run();
