/**
 * The mini networks of the whole-file fixtures, in channels last: a UNet and a text encoder.
 *
 * Every size is read off the weights, which are looked up by torch's module path and lie in
 * TensorFlow.js's layout. A network is adapted by handing it other weights. The equations are those of
 * the fixtures' README.
 */
import * as tf from "@tensorflow/tfjs";
import { readFileSync } from "node:fs";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse } from "../../lib/files/safetensors.ts";

/**
 * A weight by its path below the network, "conv_in.weight": kernels are `[kh, kw, I, O]` and `[I, O]`, what
 * else there is `[C]`. Undefined for a bias that a layer does not have.
 */
export type Weights = (name: string) => tf.Tensor | undefined;

/** All tensors of a file by name, as torch lays them out; they belong to the caller. */
export function loadTensors(file: string): Map<string, tf.Tensor> {
  const { tensors } = parse(readFileSync(file), { file });
  return new Map([...tensors].map(([name, { dtype, shape, bytes }]) => [
    name,
    tf.tensor(toFloat32(dtype, bytes), [...shape]),
  ]));
}

/** All weights of a file by name, kernels OIHW -> HWIO and `[out, in]` -> `[in, out]`; the caller's. */
export function loadBase(file: string): Map<string, tf.Tensor> {
  const axes: Record<number, number[]> = { 4: [2, 3, 1, 0], 2: [1, 0], 1: [0] };
  const turned = [...loadTensors(file)].map(([name, tensor]) => {
    const weight = tf.transpose(tensor, axes[tensor.rank]);
    tensor.dispose();
    return [name, weight] as const;
  });
  return new Map(turned);
}

/** NCHW -> NHWC: the images among a file's tensors, as the UNet takes them. */
export function channelsLast(image: tf.Tensor): tf.Tensor4D {
  return tf.transpose(image as tf.Tensor4D, [0, 2, 3, 1]);
}

/** One network's weights, `prefix` being "unet", "te" or "te2". */
export function under(prefix: string, all: Map<string, tf.Tensor>): Weights {
  return (name) => all.get(`${prefix}.${name}`);
}

/** Module path -> name of its kernel, for every linear layer and convolution. */
export function kernels(all: Map<string, tf.Tensor>): Map<string, string> {
  return modules(all, (rank) => rank > 1);
}

/** Module path -> name of its weight, for every norm. */
export function norms(all: Map<string, tf.Tensor>): Map<string, string> {
  return modules(all, (rank) => rank === 1);
}

function modules(all: Map<string, tf.Tensor>, wanted: (rank: number) => boolean) {
  const names = [...all].filter(([name, { rank }]) => name.endsWith(".weight") && wanted(rank));
  return new Map(names.map(([name]) => [name.slice(0, -".weight".length), name]));
}

/**
 * The UNet's output `[N, H, W, O]`.
 *
 * @param x `[N, H, W, I]`
 * @param t time `[N, T]`
 * @param c context `[N, tokens, C]`
 */
export function unet(w: Weights, x: tf.Tensor4D, t: tf.Tensor2D, c: tf.Tensor3D): tf.Tensor4D {
  return tf.tidy(() => {
    const e = linear(w, "time_embedding.linear_2", silu(linear(w, "time_embedding.linear_1", t)));
    let h = resnet(w, "down_blocks.0.resnets.0", conv(w, "conv_in", x), e);
    h = transformer(w, "down_blocks.0.attentions.0", h, c);
    const skip = h;
    h = conv(w, "down_blocks.0.downsamplers.0.conv", h, 2); // [N, H/2, W/2, C]
    h = resnet(w, "mid_block.resnets.0", h, e);
    const [, height, width] = skip.shape;
    h = tf.image.resizeNearestNeighbor(h, [height, width]);
    h = conv(w, "up_blocks.0.upsamplers.0.conv", h); // [N, H, W, C]
    h = resnet(w, "up_blocks.0.resnets.0", tf.concat([h, skip], 3), e);
    return conv(w, "conv_out", silu(groupNorm(w, "conv_norm_out", h)));
  });
}

/** The text encoder's output `[N, tokens, C]` for embeddings `[N, tokens, C]`. */
export function textEncoder(w: Weights, x: tf.Tensor3D): tf.Tensor3D {
  return tf.tidy(() => {
    const layer = "text_model.encoder.layers.0";
    const names = ["q_proj", "k_proj", "v_proj", "out_proj"].map((n) => `${layer}.self_attn.${n}`);
    const y = layerNorm(w, `${layer}.layer_norm1`, x);
    let h = tf.add<tf.Tensor3D>(x, attention(w, names, y, y));
    const inner = linear(w, `${layer}.mlp.fc1`, layerNorm(w, `${layer}.layer_norm2`, h));
    const quickGelu = tf.mul(inner, tf.sigmoid(tf.mul(inner, 1.702)));
    h = tf.add<tf.Tensor3D>(h, linear(w, `${layer}.mlp.fc2`, quickGelu));
    return layerNorm(w, "text_model.final_layer_norm", h);
  });
}

function resnet(w: Weights, name: string, x: tf.Tensor4D, e: tf.Tensor2D): tf.Tensor4D {
  const time = linear(w, `${name}.time_emb_proj`, silu(e)); // [N, C]
  let h = conv(w, `${name}.conv1`, silu(groupNorm(w, `${name}.norm1`, x)));
  h = tf.add(h, tf.reshape(time, [time.shape[0], 1, 1, time.shape[1]]));
  h = conv(w, `${name}.conv2`, silu(groupNorm(w, `${name}.norm2`, h)));
  return tf.add(h, w(`${name}.conv_shortcut.weight`) ? conv(w, `${name}.conv_shortcut`, x) : x);
}

function transformer(w: Weights, name: string, x: tf.Tensor4D, c: tf.Tensor3D): tf.Tensor4D {
  const block = `${name}.transformer_blocks.0`;
  const names = (of: string) =>
    ["to_q", "to_k", "to_v", "to_out.0"].map((n) => `${block}.${of}.${n}`);
  const image = conv(w, `${name}.proj_in`, groupNorm(w, `${name}.norm`, x, 1e-6));
  const [N, H, W, C] = image.shape;
  let h = tf.reshape(image, [N, H * W, C]) as tf.Tensor3D;
  const y = layerNorm(w, `${block}.norm1`, h);
  h = tf.add(h, attention(w, names("attn1"), y, y));
  h = tf.add(h, attention(w, names("attn2"), layerNorm(w, `${block}.norm2`, h), c));
  const inner = linear(w, `${block}.ff.net.0.proj`, layerNorm(w, `${block}.norm3`, h));
  const [u, g] = tf.split(inner, 2, 2);
  h = tf.add(h, linear(w, `${block}.ff.net.2`, tf.mul(u, gelu(g))));
  return tf.add(x, conv(w, `${name}.proj_out`, tf.reshape(h, [N, H, W, C])));
}

/** `softmax(Q Kᵀ / √d) V` in two heads, projected; queries from x, keys and values from c. */
function attention(w: Weights, names: string[], x: tf.Tensor3D, c: tf.Tensor3D): tf.Tensor3D {
  const heads = (h: tf.Tensor3D) => {
    const [N, tokens, C] = h.shape;
    return tf.transpose(tf.reshape(h, [N, tokens, 2, C / 2]), [0, 2, 1, 3]); // [N, 2, tokens, d]
  };
  const [q, k, v] = [x, c, c].map((input, i) => heads(linear(w, names[i], input)));
  const scores = tf.div(tf.matMul(q, k, false, true), Math.sqrt(q.shape[3] ?? 1));
  const mixed = tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]);
  const [N, tokens, h, d] = mixed.shape;
  return linear(w, names[3], tf.reshape(mixed, [N, tokens, h * d]) as tf.Tensor3D);
}

function weight(w: Weights, name: string): tf.Tensor {
  const found = w(name);
  if (!found) {
    throw new RangeError(`Cannot run the network as it needs every weight: "${name}" is missing`);
  }
  return found;
}

function biased<T extends tf.Tensor>(w: Weights, name: string, y: T): T {
  const bias = w(`${name}.bias`);
  return bias ? tf.add(y, bias) : y;
}

/** `x W + b` over the last axis. */
function linear<T extends tf.Tensor>(w: Weights, name: string, x: T): T {
  const kernel = weight(w, `${name}.weight`) as tf.Tensor2D;
  const y = tf.matMul(tf.reshape(x, [-1, kernel.shape[0]]) as tf.Tensor2D, kernel);
  return biased(w, name, tf.reshape(y, [...x.shape.slice(0, -1), kernel.shape[1]]) as T);
}

/** 3×3 with zeros around, 1×1 without. */
function conv(w: Weights, name: string, x: tf.Tensor4D, stride = 1): tf.Tensor4D {
  const kernel = weight(w, `${name}.weight`) as tf.Tensor4D;
  return biased(w, name, tf.conv2d(x, kernel, stride, (kernel.shape[0] - 1) / 2));
}

function groupNorm(w: Weights, name: string, x: tf.Tensor4D, epsilon = 1e-5): tf.Tensor4D {
  const [N, H, W, C] = x.shape;
  const y = standard(tf.reshape(x, [N, H * W, 4, C / 4]), [1, 3], epsilon);
  return scaled(w, name, tf.reshape(y, x.shape));
}

function layerNorm(w: Weights, name: string, x: tf.Tensor3D): tf.Tensor3D {
  return scaled(w, name, standard(x, [2], 1e-5));
}

/** `(x − mean) / √(variance + ε)` */
function standard<T extends tf.Tensor>(x: T, axes: number[], epsilon: number): T {
  const { mean, variance } = tf.moments(x, axes, true);
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon)));
}

function scaled<T extends tf.Tensor>(w: Weights, name: string, x: T): T {
  return biased(w, name, tf.mul(x, weight(w, `${name}.weight`)));
}

function silu<T extends tf.Tensor>(x: T): T {
  return tf.mul(x, tf.sigmoid(x));
}

/** `x Φ(x)`, exactly. */
function gelu<T extends tf.Tensor>(x: T): T {
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));
}
