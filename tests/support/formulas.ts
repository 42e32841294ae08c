/** What the fixtures' README says of each kind of adapter, in float64 on plain arrays, in PyTorch's layout. */
import { readFileSync } from "node:fs";
import { toFloat32 } from "../../lib/files/floats.ts";
import { parse } from "../../lib/files/safetensors.ts";

/** A tensor as a file has it. */
export interface Plain {
  shape: readonly number[];
  data: Float64Array;
}

/** All tensors of a file by key. */
export function plainTensors(file: string): Map<string, Plain> {
  const { tensors } = parse(readFileSync(file), { file });
  return new Map([...tensors].map(([key, { dtype, shape, bytes }]) => [
    key,
    { shape, data: Float64Array.from(toFloat32(dtype, bytes)) },
  ]));
}

const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** `a · b` of both flattened after their first axis. */
function product(a: Plain, b: Plain): Float64Array {
  const m = a.shape[0], k = b.shape[0], n = b.data.length / k;
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let x = 0; x < k; x++) out[i * n + j] += a.data[i * k + x] * b.data[x * n + j];
    }
  }
  return out;
}

/** `einsum("ijkl,ip,jr->prkl", t, a, b)`. */
function effective(t: Plain, a: Plain, b: Plain): Plain {
  const [I, J, kh, kw] = t.shape, P = a.shape[1], R = b.shape[1], K = kh * kw;
  const out = new Float64Array(P * R * K);
  for (let p = 0; p < P; p++) {
    for (let r = 0; r < R; r++) {
      for (let k = 0; k < K; k++) {
        for (let i = 0; i < I; i++) {
          for (let j = 0; j < J; j++) {
            out[(p * R + r) * K + k] += t.data[(i * J + j) * K + k] * a.data[i * P + p] *
              b.data[j * R + r];
          }
        }
      }
    }
  }
  return { shape: [P, R, kh, kw], data: out };
}

/** `kron(a, b)` of a `[o1, i1]` and b `[o2, i2 · K]`, as `[o1 · o2, i1 · i2 · K]`. */
function kron(a: Plain, b: Plain): Float64Array {
  const [o1, i1] = a.shape, o2 = b.shape[0], n = b.data.length / o2;
  const out = new Float64Array(a.data.length * b.data.length);
  for (let x = 0; x < o1; x++) {
    for (let y = 0; y < o2; y++) {
      for (let u = 0; u < i1; u++) {
        for (let v = 0; v < n; v++) {
          out[((x * o2 + y) * i1 + u) * n + v] = a.data[x * i1 + u] * b.data[y * n + v];
        }
      }
    }
  }
  return out;
}

const wrap = (data: Float64Array, rows: number): Plain => ({
  shape: [rows, data.length / rows],
  data,
});

/** `W + scale · up · down`. */
export function lora(W: Plain, down: Plain, up: Plain, scale: number): Float64Array {
  const D = product(up, down);
  return W.data.map((w, i) => w + scale * D[i]);
}

/** `m (W + D) / ‖W + D‖`, a row of the flattened kernel at a time. */
export function dora(W: Plain, down: Plain, up: Plain, scale: number, m: Plain): Float64Array {
  const V = lora(W, down, up, scale), O = W.shape[0], n = V.length / O;
  const lengths = Array.from({ length: O }, (_, o) => Math.hypot(...V.subarray(o * n, o * n + n)));
  return V.map((v, i) => v * m.data[Math.floor(i / n)] / lengths[Math.floor(i / n)]);
}

/** `W + scale · (w1_a · w1_b) ⊙ (w2_a · w2_b)`, or each half through its core. */
export function loha(W: Plain, get: (name: string) => Plain | undefined, scale: number) {
  const half = (n: number) => {
    const a = get(`hada_w${n}_a`)!, b = get(`hada_w${n}_b`)!, t = get(`hada_t${n}`);
    return t ? effective(t, a, b).data : product(a, b);
  };
  const one = half(1), two = half(2);
  return W.data.map((w, i) => w + scale * one[i] * two[i]);
}

/** `W + scale · kron(w1, w2)`. */
export function lokr(W: Plain, get: (name: string) => Plain | undefined, scale: number) {
  const pair = (name: string): Plain => {
    const a = get(`${name}_a`)!;
    return wrap(product(a, get(`${name}_b`)!), a.shape[0]);
  };
  const t = get("lokr_t2"), w1 = get("lokr_w1") ?? pair("lokr_w1");
  const w2 = get("lokr_w2") ??
    (t ? effective(t, get("lokr_w2_a")!, get("lokr_w2_b")!) : pair("lokr_w2"));
  const D = kron(w1, w2);
  return W.data.map((w, i) => w + scale * D[i]);
}

/** Rows times l, or columns times l where it scales the input. */
export function ia3(W: Plain, l: Plain, onInput: boolean): Float64Array {
  const [O, I] = W.shape, K = count(W.shape.slice(2));
  return W.data.map((w, i) =>
    w * l.data[onInput ? Math.floor(i / K) % I : Math.floor(i / (I * K)) % O]
  );
}
