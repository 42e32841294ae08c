/** What hosts compute, in PyTorch's layout: `[O, I, …k]` and `einsum`'s own order of axes. */
import * as tf from "@tensorflow/tfjs";
import { cayley, skew } from "../../tensor/cayley.ts";
import type { Torch } from "../layout.ts";

/** `tensor.flatten(1)`. */
export function flat(tensor: tf.Tensor): tf.Tensor2D {
  return tf.reshape(tensor, [tensor.shape[0], -1]);
}

/** `up.flatten(1) @ down.flatten(1)`. */
export function product(up: tf.Tensor, down: tf.Tensor): tf.Tensor {
  return tf.matMul(flat(up), flat(down));
}

/** `einsum("i j …, i p, j r -> p r …", t, a, b)`: a Tucker core between two matrices. */
export function core(t: tf.Tensor, a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  const [i, j, ...k] = t.shape,
    p = a.shape[1]!,
    r = b.shape[1]!,
    taps = k.reduce((x, y) => x * y, 1);
  const last = tf.transpose(tf.reshape(t, [i, j, taps]), [0, 2, 1]); // [i, k, j]
  const right = tf.matMul(tf.reshape(last, [i * taps, j]), b as tf.Tensor2D); // [i·k, r]
  const left = tf.matMul(a as tf.Tensor2D, tf.reshape(right, [i, taps * r]), true); // [p, k·r]
  return tf.reshape(tf.transpose(tf.reshape(left, [p, taps, r]), [0, 2, 1]), [p, r, ...k]);
}

/** Products of a module's tensors, by one of these: what several hosts compute is computed once. */
const products: WeakMap<tf.Tensor, tf.Tensor> = new WeakMap();

function once(key: tf.Tensor, make: () => tf.Tensor): tf.Tensor {
  const known = products.get(key) ?? tf.keep(tf.tidy(make));
  products.set(key, known);
  return known;
}

/** Frees the products of a module's tensors. */
export function forget(torch: Torch): void {
  for (const tensor of Object.values(torch)) {
    products.get(tensor)?.dispose();
    products.delete(tensor);
  }
}

/** `lora_up @ lora_down`, with `lora_mid` between them where the host reads it. */
export function lora(torch: Torch): tf.Tensor {
  return once(torch["lora_up.weight"], () => loraOf(torch));
}

function loraOf(torch: Torch): tf.Tensor {
  const up = torch["lora_up.weight"],
    down = torch["lora_down.weight"],
    mid = torch["lora_mid.weight"];
  return mid ? core(mid, tf.transpose(flat(up)), flat(down)) : product(up, down);
}

/** `(w1_a w1_b) ⊙ (w2_a w2_b)`, each through its core if it has one. */
export function loha(torch: Torch): tf.Tensor {
  return once(torch.hada_w1_a, () => lohaOf(torch));
}

function lohaOf(torch: Torch): tf.Tensor {
  const half = (n: number) => {
    const a = torch[`hada_w${n}_a`], b = torch[`hada_w${n}_b`], t = torch[`hada_t${n}`];
    return t ? core(t, a, b) : product(a, b);
  };
  return tf.mul(half(1), half(2));
}

/** `kron(w1, w2)`, with the axes in space those of w2. */
export function lokr(torch: Torch): tf.Tensor {
  return once(torch.lokr_w1 ?? torch.lokr_w1_a, () => lokrOf(torch));
}

function lokrOf(torch: Torch): tf.Tensor {
  const { lokr_w1, lokr_w1_a, lokr_w1_b, lokr_w2, lokr_w2_a, lokr_w2_b, lokr_t2 } = torch;
  const w1 = lokr_w1 ?? product(lokr_w1_a, lokr_w1_b);
  const w2 = lokr_w2 ??
    (lokr_t2 ? core(lokr_t2, lokr_w2_a, lokr_w2_b) : product(lokr_w2_a, lokr_w2_b));
  const [a, b] = w1.shape, [c, d, ...k] = w2.shape;
  const all = tf.mul(tf.reshape(w1, [a, 1, b, 1]), tf.reshape(w2, [1, c, 1, -1]));
  return tf.reshape(all, [a * c, b! * d!, ...k]);
}

/** The rank that alpha of a LoKr is divided by: the second part's, else the first's; none where both are whole. */
export function lokrRank({ lokr_w1_b, lokr_w2_b }: Torch): number | undefined {
  return (lokr_w2_b ?? lokr_w1_b)?.shape[0];
}

/** `einsum("o i …, i j -> o j …", W, A)`. */
export function onInputs(W: tf.Tensor, A: tf.Tensor): tf.Tensor {
  const [O, I, ...k] = W.shape, taps = k.reduce((x, y) => x * y, 1);
  const last = tf.transpose(tf.reshape(W, [O, I, taps]), [0, 2, 1]); // [O, k, I]
  const mixed = tf.reshape(tf.matMul(tf.reshape(last, [O * taps, I]), flat(A)), [O, taps, -1]);
  return tf.reshape(tf.transpose(mixed, [0, 2, 1]), [O, flat(A).shape[1], ...k]);
}

/** Lengths of rows, `[O, 1, …]`, or of columns, `[1, I, …]`. */
export function lengths(W: tf.Tensor, axis: "output" | "input"): tf.Tensor {
  const kept = axis === "output" ? 0 : 1;
  const summed = W.shape.map((_, i) => i).filter((i) => i !== kept);
  return tf.sqrt(tf.sum(tf.square(W), summed, true));
}

/** ‖B − Bᵀ‖ of all blocks together. */
export function turning(blocks: tf.Tensor): number {
  return numberAt(tf.norm(tf.reshape(skew(blocks), [-1])));
}

const numberAt = (tensor: tf.Tensor) => tensor.dataSync()[0];

/** The rotations of blocks, each Q held to a share of itself. */
export function rotations(blocks: tf.Tensor, share = 1): tf.Tensor {
  return cayley(tf.mul(skew(blocks), share));
}

/** `einsum("k n m, k n … -> k m …", R, W)`: Rᵀ of every block of rows. */
export function turned(W: tf.Tensor, R: tf.Tensor): tf.Tensor {
  const [k, n] = R.shape;
  return tf.reshape(tf.matMul(R, tf.reshape(W, [k, n, -1]), true), W.shape);
}

/** The butterfly of `[m, n, b, b]` rotations on rows, `R · W`, as LyCORIS and its readers have it. */
export function butterfly(W: tf.Tensor, R: tf.Tensor): tf.Tensor {
  const [m, n, b] = R.shape, O = n * b;
  return Array.from({ length: m }, (_, i) => i).reduce((rows: tf.Tensor, i) => {
    const k = 2 ** i * b / 2, c = O / (2 * k);
    const stage = tf.reshape(tf.slice(R, i, 1), [n, b, b]);
    const apart = tf.reshape(tf.transpose(tf.reshape(rows, [c, 2, k, -1]), [0, 2, 1, 3]), [
      n,
      b,
      -1,
    ]);
    const mixed = tf.reshape(tf.matMul(stage, apart), [c, k, 2, -1]);
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), W.shape);
  }, W);
}

/** `(O, 1, …)` of a vector of O. */
export function column(vector: tf.Tensor, W: tf.Tensor): tf.Tensor {
  return tf.reshape(vector, [-1, ...W.shape.slice(1).map(() => 1)]);
}

/** The same numbers in the shape of the kernel. */
export function like(delta: tf.Tensor, W: tf.Tensor): tf.Tensor {
  return tf.reshape(delta, W.shape);
}
