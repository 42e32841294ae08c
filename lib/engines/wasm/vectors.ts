/**
 * The loops of training that XNNPACK has not, four floats at a time, over the backend's own heap. All
 * parameters are addresses and numbers of bytes but for `count` and `taps`.
 */
import {
  add,
  and,
  type Code,
  equal,
  except,
  integer,
  largest,
  less,
  load,
  minus,
  module,
  type Multiply,
  type Names,
  over,
  plus,
  read,
  repeat,
  root,
  type Routine,
  splat,
  store,
  subtract,
  times,
} from "../../tensor/assemble.ts";
import type { Backend } from "./compose.ts";

/** Rows and columns of the block of a matrix which {@link Vectors.product} adds to. */
export const ROWS = 4, COLUMNS = 8;

/** The routines. */
export interface Vectors {
  /**
   * c[row][column] += Σ over i < count of a_row[i·step] · b[i·pitch + column]: a block of 4 × 8, by rows,
   * whose four rows of the left matrix begin anywhere.
   */
  product(
    a0: number,
    a1: number,
    a2: number,
    a3: number,
    step: number,
    b: number,
    pitch: number,
    count: number,
    c: number,
  ): void;
  /**
   * Adds each dy to the gradient of the first largest of its inputs, for as many bytes of channels, and for
   * as many outputs side by side: `list` holds where the first one's inputs are, those of the next are a
   * step on; `shift` is from an input to its gradient.
   */
  peak(
    list: number,
    taps: number,
    shift: number,
    dy: number,
    channels: number,
    step: number,
    count: number,
  ): void;
  /** sum[0…3] += Σ over i < count of a[i·step + 0…3] · b[i·pitch + 0…3]. */
  dot(a: number, step: number, b: number, pitch: number, count: number, sum: number): void;
  /** sum[column] += Σ over i < 4·count of a[i·step + column] · (b[i·step + column] − shift[column]), for `width` bytes of columns. */
  columns(
    a: number,
    b: number,
    shift: number,
    sum: number,
    step: number,
    width: number,
    count: number,
  ): void;
  /**
   * `count` times four numbers of w′, m′, v′ from w, m, v, g: a step of Adam, by the numbers β₁, 1 − β₁, β₂, 1 − β₂, what
   * m′ and v′ are multiplied by, ε and the rate.
   */
  adam(
    w: number,
    m: number,
    v: number,
    g: number,
    w2: number,
    m2: number,
    v2: number,
    by: number,
    count: number,
  ): void;
}

const VECTOR = 16;

/** variable += step. */
const advance = ({ get, set }: Names, name: string, step: Code) => set(name, add(get(name), step));
/** variable −= 1, and whether any is left. */
const countdown = ({ get, set }: Names, name: string): [Code, Code] => [
  set(name, subtract(get(name), integer(1))),
  get(name),
];

function product(multiply: Multiply): Routine {
  const rows = [0, 1, 2, 3], halves = [0, 1];
  const blocks = rows.flatMap((row) => halves.map((half) => ({ row, half, c: `c${row}${half}` })));
  return {
    parameters: ["a0", "a1", "a2", "a3", "step", "b", "pitch", "count", "c"],
    vectors: [...blocks.map(({ c }) => c), "b0", "b1", "a"],
    body(names) {
      const { get, set } = names;
      const offset = (row: number, half: number) => VECTOR * (2 * row + half);
      const [once, left] = countdown(names, "count");
      return [
        ...repeat([
          ...halves.map((half) => set(`b${half}`, load(get("b"), VECTOR * half))),
          ...rows.flatMap((row) => [
            set("a", splat(get(`a${row}`))),
            ...halves.map((half) =>
              set(`c${row}${half}`, multiply(get("a"), get(`b${half}`), get(`c${row}${half}`)))
            ),
            advance(names, `a${row}`, get("step")),
          ]),
          advance(names, "b", get("pitch")),
          once,
        ], left),
        // only now to what is there, or a long sum's small terms would be rounded away one by one
        ...blocks.flatMap(({ row, half, c }) => {
          const at = offset(row, half);
          return store(get("c"), plus(load(get("c"), at), get(c)), at);
        }),
      ];
    },
  };
}

const peak: Routine = {
  parameters: ["list", "taps", "shift", "dy", "channels", "step", "count"],
  integers: ["from", "at", "entry", "left", "x"],
  vectors: ["most", "rest", "hit"],
  body(names) {
    const { get, set } = names;
    const input = add(read(get("entry")), add(get("from"), get("at")));
    const gradient = add(get("x"), get("shift"));
    const taps = (visit: Code[]) => {
      const [once, left] = countdown(names, "left");
      return [
        ...set("entry", get("list")),
        ...set("left", get("taps")),
        ...repeat([
          set("x", input),
          ...visit,
          advance(names, "entry", integer(4)),
          once,
        ], left),
      ];
    };
    const [once, left] = countdown(names, "count");
    return repeat([
      set("at", integer(0)),
      repeat([
        set("most", load(add(read(get("list")), add(get("from"), get("at"))))),
        taps([set("most", largest(get("most"), load(get("x"))))]),
        set("rest", equal(get("most"), get("most"))),
        taps([
          set("hit", and(equal(load(get("x")), get("most")), get("rest"))),
          set("rest", except(get("rest"), get("hit"))),
          store(gradient, plus(load(gradient), and(load(add(get("dy"), get("at"))), get("hit")))),
        ]),
        advance(names, "at", integer(VECTOR)),
      ], less(get("at"), get("channels"))),
      advance(names, "from", get("step")),
      advance(names, "dy", get("channels")),
      once,
    ], left);
  },
};

function dot(multiply: Multiply): Routine {
  return {
    parameters: ["a", "step", "b", "pitch", "count", "sum"],
    vectors: ["c"],
    body(names) {
      const { get, set } = names;
      const [once, left] = countdown(names, "count");
      return [
        ...repeat([
          set("c", multiply(load(get("a")), load(get("b")), get("c"))),
          advance(names, "a", get("step")),
          advance(names, "b", get("pitch")),
          once,
        ], left),
        ...store(get("sum"), plus(load(get("sum")), get("c"))),
      ];
    },
  };
}

/** Four rows at once, so that a column's sum is read and written once for them; rows are read from end to end. */
function columns(multiply: Multiply): Routine {
  const rows = [0, 1, 2, 3];
  return {
    parameters: ["a", "b", "shift", "sum", "step", "width", "count"],
    integers: ["at", ...rows.flatMap((i) => [`a${i}`, `b${i}`])],
    vectors: ["c", "s"],
    body(names) {
      const { get, set } = names;
      const here = (name: string) => add(get(name), get("at"));
      const next = (name: string) => [
        ...set(`${name}0`, get(name)),
        ...rows.slice(1).flatMap((i) =>
          set(`${name}${i}`, add(get(`${name}${i - 1}`), get("step")))
        ),
        ...set(name, add(get(`${name}3`), get("step"))),
      ];
      const [once, left] = countdown(names, "count");
      return repeat([
        next("a"),
        next("b"),
        set("at", integer(0)),
        repeat([
          set("c", load(here("sum"))),
          set("s", load(here("shift"))),
          ...rows.map((i) =>
            set("c", multiply(load(here(`a${i}`)), minus(load(here(`b${i}`)), get("s")), get("c")))
          ),
          store(here("sum"), get("c")),
          advance(names, "at", integer(VECTOR)),
        ], less(get("at"), get("width"))),
        once,
      ], left);
    },
  };
}

const adam: Routine = {
  parameters: ["w", "m", "v", "g", "w2", "m2", "v2", "by", "count"],
  vectors: ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "G", "M", "V"],
  body(names) {
    const { get, set } = names;
    const [once, left] = countdown(names, "count");
    const constants = [0, 1, 2, 3, 4, 5, 6, 7];
    const scale = plus(root(times(get("V"), get("k5"))), get("k6"));
    const step = times(get("k7"), over(times(get("M"), get("k4")), scale));
    return [
      ...constants.flatMap((i) => set(`k${i}`, splat(add(get("by"), integer(4 * i))))),
      ...repeat([
        set("G", load(get("g"))),
        set("M", plus(times(load(get("m")), get("k0")), times(get("G"), get("k1")))),
        set(
          "V",
          plus(times(load(get("v")), get("k2")), times(times(get("G"), get("G")), get("k3"))),
        ),
        store(get("m2"), get("M")),
        store(get("v2"), get("V")),
        store(get("w2"), minus(load(get("w")), step)),
        ...["w", "m", "v", "g", "w2", "m2", "v2"].map((name) =>
          advance(names, name, integer(VECTOR))
        ),
        once,
      ], left),
    ];
  },
};

const all = (multiply: Multiply) => ({
  product: product(multiply),
  peak,
  dot: dot(multiply),
  columns: columns(multiply),
  adam,
});
let compiled: WebAssembly.Module | undefined;

const found = new WeakMap<Backend, Vectors>();

/** The routines over the heap of a backend, made once. */
export function vectors(backend: Backend): Vectors {
  let routines = found.get(backend);
  if (!routines) {
    const { memory } = backend.wasm.asm;
    compiled ??= module(all);
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
    routines = exports as unknown as Vectors;
    found.set(backend, routines);
  }
  return routines;
}
