/** Files as accidents and malice make them: mutations of a safetensors file, chosen by random numbers. */
import { type Dtype, parse, serialize, type TensorView } from "../../lib/files/safetensors.ts";
import { utf8 } from "./safetensors.ts";

/** Random choices. */
export interface Chance {
  /** uniform in [0, 1) */
  next(): number;
  /** a whole number below n */
  below(n: number): number;
  of<T>(list: readonly T[]): T;
}

/** Choices from a source of numbers in [0, 1). */
export function chance(next: () => number): Chance {
  const below = (n: number) => Math.floor(next() * n);
  return { next, below, of: (list) => list[below(list.length)] };
}

type Mutation = (bytes: Uint8Array, by: Chance) => Uint8Array;

/** Numbers that programs trip over. */
const NUMBERS = [
  "-1",
  "0",
  "1",
  "2.5",
  "1e3",
  "1e999",
  "4294967296",
  "9007199254740993",
  "18446744073709551615",
];
const VALUES = [0, -0, 1, -1, NaN, Infinity, -Infinity, 65504, 1e-8, 3.4e38];
const NAMES = [
  ...[
    "",
    ".",
    "__proto__",
    "constructor",
    "toString",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\nul",
  ],
  ...["\u0000", "\u{1f600}", "a".repeat(300), "alpha", "lora_up.weight", ".lora_down.weight"],
  ...["lora_unet_.alpha", "unet:0:up", "unet:1e9:down", "base_model.model.", "bundle_emb.x.y"],
];
const DTYPES: Dtype[] = ["F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3"];
const HEADS = [
  "<!DOCTYPE html><html>",
  "\x80\x02}q\x00",
  "PK\x03\x04",
  "GGUF",
  '{"error":"no"}',
  "version https",
];
const CONFIGS = [
  ..."[] null 1 {} {".split(" "),
  ...['{"peft_type":"LORA"}', '{"peft_type":"__proto__","r":4}', '{"peft_type":["LORA"],"r":{}}'],
  ...['{"r":0,"lora_alpha":1}', '{"r":1e999,"lora_alpha":1}', '{"r":4,"lora_alpha":"8"}'],
  '{"r":2,"lora_alpha":4,"rank_pattern":{"(":3}}',
  '{"r":2,"lora_alpha":4,"rank_pattern":[1,2],"alpha_pattern":7}',
  '{"peft_type":"IA3","feedforward_modules":"(","target_modules":7}',
  '{"peft_type":"LOKR","r":2,"alpha":4,"decompose_factor":0}',
  '{"peft_type":"LORA","r":2,"lora_alpha":4,"use_dora":true,"fan_in_fan_out":"x"}',
];
const NOTES = [
  ...["x", "[]", "null", "{}", '{"block.conv":7}', '{"__proto__":{"name":"x"}}'],
  '{"layer":{"name":"../../x","shape":[1e9,1e9],"block":0,"alpha":1e999}}',
  '{"layer":{"shape":"long","block":-1,"rankScale":7,"triplets":"all"}}',
  '{"layer":{"shape":[],"block":2.5}}',
];

const headerOf = (bytes: Uint8Array) =>
  Number(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));

/** The file with another text for its header, and the header's length right. */
function withHeader(bytes: Uint8Array, change: (header: string) => string): Uint8Array {
  const end = 8 + headerOf(bytes);
  const header = utf8(change(new TextDecoder().decode(bytes.subarray(8, end))));
  const whole = new Uint8Array(8 + header.length + bytes.length - end);
  new DataView(whole.buffer).setBigUint64(0, BigInt(header.length), true);
  whole.set(header, 8);
  whole.set(bytes.subarray(end), 8 + header.length);
  return whole;
}

/** One place that matches, replaced. */
function replaceOne(text: string, pattern: RegExp, by: Chance, value: string): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { index, 0: old } = by.of(found);
  return text.slice(0, index) + value + text.slice(index + old.length);
}

const textual = (change: (text: string, by: Chance) => string): Mutation => (bytes, by) =>
  withHeader(bytes, (header) => change(header, by));

/** The file with other tensors, and everything of its form right. */
const rebuilt = (
  change: (tensors: [string, TensorView][], metadata: Record<string, string>, by: Chance) => void,
): Mutation =>
(bytes, by) => {
  const { tensors, metadata } = parse(bytes.slice());
  const entries = [...tensors];
  change(entries, metadata, by);
  return serialize(new Map(entries), metadata);
};

/** A tensor of a shape, of whatever numbers. */
const filled = (dtype: Dtype, shape: number[], width: number, by: Chance): TensorView => ({
  dtype,
  shape,
  bytes: Uint8Array.from({ length: shape.reduce((a, b) => a * b, width) }, () => by.below(64)),
});

/** What is done to the bytes, whatever they are. */
const BLIND: Mutation[] = [
  (bytes, by) => { // bits flipped
    const copy = bytes.slice();
    for (let count = 1 + by.below(8); count > 0; count--) {
      copy[by.below(copy.length)] ^= 1 << by.below(8);
    }
    return copy;
  },
  (bytes, by) => bytes.slice(0, by.below(bytes.length)),
  (bytes, by) => Uint8Array.from([...bytes, ...bytes.subarray(0, by.below(40))]),
  (bytes, by) => { // another length of the header
    const copy = bytes.slice(), long = by.next() < 0.3;
    const size = long
      ? BigInt(2 ** by.below(53))
      : BigInt(headerOf(bytes) + by.below(33) - 16 & 0xffff);
    new DataView(copy.buffer).setBigUint64(0, size, true);
    return copy;
  },
  (bytes, by) =>
    Uint8Array.from([...by.of(HEADS)].map((letter) => letter.charCodeAt(0)).concat([...bytes])),
  (bytes, by) => {
    const copy = bytes.slice(), from = by.below(copy.length);
    return copy.fill(by.of([0, 0xff, 0x20]), from, from + by.below(64));
  },
];

/** What is done to a file that is one. */
const KNOWING: Mutation[] = [
  textual((text, by) =>
    replaceOne(text, /"(F32|F16|BF16|I64)"/g, by, `"${by.of([...DTYPES, "F99"])}"`)
  ),
  textual((text, by) => replaceOne(text, /\d+/g, by, by.of(NUMBERS))),
  textual((text, by) =>
    replaceOne(text, /"data_offsets":\[[^\]]*\]/g, by, `"data_offsets":[0,${by.below(99)}]`)
  ),
  textual((text, by) =>
    replaceOne(text, /"shape":\[[^\]]*\]/g, by, `"shape":${"[".repeat(by.of([2, 200, 4000]))}`)
  ),
  textual((text, by) => replaceOne(text, /"[^"]*":\{/g, by, `${JSON.stringify(by.of(NAMES))}:{`)),
  textual((text, by) =>
    replaceOne(text, /[{}\[\],:"]/g, by, by.of(["", "{", "}", "[", ",", '"', "\\u"]))
  ),
  textual((text) => text.replace(/("[^"]*":\{[^}]*\})/, "$1,$1")),
  textual((text, by) =>
    `{"__metadata__":${by.of(["7", '{"a":{"b":"c"}}', '{"a":null}'])},${text.slice(1)}`
  ),
  rebuilt((tensors, _, by) => { // other values: NaN, infinite, none
    const at = by.below(tensors.length), [name, { dtype, shape, bytes }] = tensors[at];
    const copy = bytes.slice(), value = by.of(VALUES);
    if (dtype !== "F32") copy.fill(by.of([0, 0x7f, 0xff]));
    else {for (let i = by.below(2); i < copy.length / 4; i += 1 + by.below(9)) {
        new DataView(copy.buffer).setFloat32(4 * i, value, true);
      }}
    tensors[at] = [name, { dtype, shape, bytes: copy }];
  }),
  rebuilt((tensors, _, by) => void tensors.splice(by.below(tensors.length), 1 + by.below(2))), // half a pair
  rebuilt((tensors, _, by) => { // another shape
    const at = by.below(tensors.length), [name, { dtype, shape }] = tensors[at];
    const width = { F32: 4, F16: 2, BF16: 2 }[dtype as string] ?? 8;
    const other = by.of([
      shape.map((length) => Math.max(1, length + by.below(3) - 1)),
      [...shape].reverse(),
      [...shape, 1],
      shape.slice(1),
      shape.map(() => by.below(4)),
      [],
    ]);
    tensors[at] = [name, filled(dtype, [...other], width, by)];
  }),
  rebuilt((tensors, _, by) => { // one of another name, or as well
    const at = by.below(tensors.length), [name, view] = tensors[at];
    const cut = name.lastIndexOf(".");
    const renamed = by.of([
      by.of(NAMES),
      name.slice(0, cut + 1) + by.of(NAMES),
      by.of(NAMES) + name.slice(cut),
    ]);
    if (tensors.some(([taken]) => taken === renamed) || renamed === "__metadata__") return;
    if (by.next() < 0.5) tensors[at] = [renamed, view];
    else tensors.push([renamed, view]);
  }),
  rebuilt((tensors, _, by) => { // an alpha of its own
    const [name] = by.of(tensors), alpha = name.replace(/[^.]*(\.weight)?$/, "alpha");
    const at = tensors.findIndex(([taken]) => taken === alpha);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, by.of(VALUES), true);
    tensors.splice(at < 0 ? tensors.length : at, 1, [alpha, { dtype: "F32", shape: [], bytes }]);
  }),
  rebuilt((_, metadata, by) => void (metadata["adapter_config.json"] = by.of(CONFIGS))),
  rebuilt((_, metadata, by) => void (metadata.lowrank = by.of(NOTES))),
  rebuilt((_, metadata, by) => { // a number of the configuration or of a note
    for (const key of Object.keys(metadata)) {
      metadata[key] = replaceOne(
        metadata[key],
        /\d+|"[^"]*"|true|false/g,
        by,
        by.of([...NUMBERS, "null", '"x"', "[]"]),
      );
    }
  }),
];

/** A mutation of a file: of what it says, or of its bytes, or of one after the other. */
export function mutated(bytes: Uint8Array, by: Chance): Uint8Array {
  let file = bytes;
  const times = by.of([1, 1, 2]);
  for (let i = 0; i < times; i++) {
    const knowing = i === 0 && by.next() < 0.7;
    file = by.of(knowing ? KNOWING : BLIND)(file, by);
    if (file.length < 16) break;
  }
  return file;
}
