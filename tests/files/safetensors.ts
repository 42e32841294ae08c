import { Buffer } from "node:buffer";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  headerSize,
  open,
  parse,
  parseHeader,
  serialize,
  type TensorView,
  write,
} from "../../lib/files/safetensors.ts";
import { file, fixture, FIXTURES, row, w } from "../support/safetensors.ts";

const parsing = suite("parse()");

parsing("reads names, dtypes, shapes, bytes and metadata", () => {
  const { tensors, metadata } = parse(file(`{"__metadata__":{"a":"b"},"w":${row()}}`, 16));
  assert.equal([...tensors.keys()], ["w"]);
  assert.equal(tensors.get("w"), { dtype: "F32", shape: [2, 2], bytes: new Uint8Array(16) });
  assert.equal(metadata, { a: "b" });
});

parsing("gives views of the bytes, also of part of a buffer and of a Buffer", () => {
  const whole = file(w(), 16);
  for (
    const source of [whole, Buffer.from(whole), Buffer.concat([Buffer.of(1), whole]).subarray(1)]
  ) {
    const bytes = parse(source).tensors.get("w")?.bytes;
    assert.is(bytes?.buffer, source.buffer);
    assert.is(bytes?.byteOffset, source.byteOffset + source.length - 16);
    assert.is(Object.getPrototypeOf(bytes), Uint8Array.prototype);
  }
  assert.is(parse(whole.buffer as ArrayBuffer).tensors.size, 1);
});

parsing("lists tensors as they lie, whatever the order of the header", () => {
  const z = row({ shape: "[1]", data_offsets: "[16,20]" });
  assert.equal([...parse(file(`{"z":${z},"w":${row()}}`, 20)).tensors.keys()], ["w", "z"]);
});

parsing("takes blanks after the header, unknown keys, names of any kind, and no metadata", () => {
  assert.equal(parse(file("{}\r \t\n")).tensors.size, 0);
  assert.equal(parse(file('{"__metadata__":null}')).metadata, {});
  assert.equal(parse(file(w({ more: '{"x":[true]}' }), 16)).tensors.size, 1);
  const { tensors, metadata } = parse(
    file(`{"__metadata__":{"__proto__":"x"},"__proto__":${row()}}`, 16),
  );
  assert.equal([...tensors.keys()], ["__proto__"]);
  assert.equal(Object.keys(metadata), ["__proto__"]);
});

for (const name of FIXTURES) {
  parsing(`reads ${name}.safetensors of the reference without a gap`, () => {
    const bytes = fixture(name);
    let end = headerSize(bytes, bytes.length);
    for (const [, view] of parse(bytes).tensors) {
      assert.is(view.bytes.byteOffset, end);
      end += view.bytes.length;
    }
    assert.is(end, bytes.length);
  });
}

parsing.run();

const heading = suite("parseHeader()");

heading("tells all from the first headerSize() bytes, which the first 8 tell", () => {
  for (const name of FIXTURES) {
    const whole = fixture(name);
    const size = headerSize(whole.subarray(0, 8), whole.length);
    const { tensors, metadata } = parseHeader(whole.slice(0, size), whole.length);
    const expected = parse(whole);
    assert.equal(metadata, expected.metadata);
    for (const [key, { start, end, dtype, shape }] of tensors) {
      const bytes = whole.subarray(start, end);
      assert.equal({ dtype, shape, bytes: new Uint8Array(bytes) }, expected.tensors.get(key));
    }
  }
});

heading("asks for more when the head is too short, without calling the file malformed", () => {
  const whole = file(w(), 16);
  const short = (error: Error) =>
    error instanceof RangeError && /current number of bytes is 20/.test(error.message);
  assert.throws(() => parseHeader(whole.subarray(0, 20), whole.length), short);
});

heading.run();

const serializing = suite("serialize()");

for (const name of FIXTURES) {
  serializing(`writes ${name}.safetensors as the reference does, from tensors in any order`, () => {
    const { tensors, metadata } = parse(fixture(name));
    assert.equal(serialize([...tensors].reverse(), metadata), fixture(name));
  });
}

const view = (parts: Partial<TensorView> = {}): [string, TensorView] => [
  "w",
  { dtype: "U8", shape: [2], bytes: Uint8Array.of(1, 2), ...parts },
];

serializing("pads the header with spaces to a multiple of 8", () => {
  for (let length = 0; length < 9; length++) {
    const bytes = serialize([view()], { a: "x".repeat(length) });
    const data = headerSize(bytes, bytes.length);
    assert.is(data % 8, 0);
    assert.match(new TextDecoder().decode(bytes.subarray(8, data)), /[^ ] {0,7}$/);
  }
});

const type = (rule: RegExp) => (error: Error) =>
  error instanceof TypeError && rule.test(error.message);
const range = (rule: RegExp) => (error: Error) =>
  error instanceof RangeError && rule.test(error.message);

serializing("refuses bytes that are not as many as dtype and shape take", () => {
  assert.throws(
    () => serialize([view({ shape: [3] })]),
    type(/take 3 bytes: current number .* is 2/),
  );
});
serializing("refuses an unknown dtype", () => {
  const dtype = JSON.parse('"F31"');
  assert.throws(() => serialize([view({ dtype })]), type(/current dtype is F31/));
});
serializing("refuses shapes that cannot be", () => {
  for (const shape of [[-1, -2], [0.5, 4], [NaN], [2 ** 53, 2]]) {
    assert.throws(() => serialize([view({ shape })]), type(/current tensor is U8 of shape/));
  }
  assert.throws(() => serialize([view({ dtype: "F4", shape: [3] })]), type(/fill whole bytes/));
});
serializing("refuses a name twice, the metadata's name, and half a surrogate pair", () => {
  const [, tensor] = view();
  assert.throws(() => serialize([view(), view()]), range(/tensor "w" .* taken/));
  assert.throws(
    () => serialize([["__metadata__", tensor]]),
    range(/tensor "__metadata__" .* taken/),
  );
  assert.throws(() => serialize([["\ud800", tensor]]), range(/surrogate/));
});
serializing("refuses metadata that is not text", () => {
  const metadata = JSON.parse('{"epoch":3}');
  assert.throws(() => serialize([], metadata), type(/current value of "epoch" is 3/));
});
serializing("refuses a header that no reader would take", () => {
  assert.throws(
    () => serialize([], { a: "x".repeat(100_000_000) }),
    range(/current length is 1000000/),
  );
});

serializing.run();

/** A folder to itself, and the paths in it. */
const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
const path = join(folder, "file.safetensors");
const entries = (name: string) =>
  [...parse(fixture(name)).tensors].map(([name, { bytes, ...rest }]) => ({
    name,
    ...rest,
    bytes: () => Promise.resolve(bytes),
  }));

const writing = suite("write()");
writing.before.each(() => writeFileSync(path, "old"));

writing("writes the reference's bytes, and leaves nothing beside them", async () => {
  for (const name of FIXTURES) {
    await write(path, entries(name).reverse(), parse(fixture(name)).metadata);
    assert.equal(new Uint8Array(readFileSync(path)), fixture(name));
    assert.equal(readdirSync(folder), ["file.safetensors"]);
  }
});

writing("asks for one tensor at a time, in the order of the file", async () => {
  const asked: string[] = [];
  const noted = entries("names").map((entry) => ({
    ...entry,
    bytes: async () => {
      asked.push(entry.name);
      const bytes = await entry.bytes();
      assert.is(asked.at(-1), entry.name);
      return bytes;
    },
  }));
  await write(path, noted.reverse());
  assert.equal(asked, [...parse(fixture("names")).tensors.keys()]);
});

writing("leaves the old file when a tensor fails, and removes the new one", async () => {
  const [first, second, ...rest] = entries("dtypes");
  const failing = [
    { ...second, bytes: () => Promise.reject(new Error("out of memory")) },
    { ...second, bytes: () => new Uint8Array(1) },
  ];
  for (const broken of failing) {
    const error = await write(path, [first, broken, ...rest]).catch((error) => error);
    assert.match(error.message, /out of memory|Cannot write tensor "int64"/);
    assert.is(readFileSync(path, "utf8"), "old");
    assert.equal(readdirSync(folder), ["file.safetensors"]);
  }
});

writing("checks every description before it touches the disk", async () => {
  const error = await write(join(folder, "none", "x"), [...entries("names"), ...entries("names")])
    .catch((error) => error);
  assert.match(error.message, /taken/);
});

writing.run();

const opening = suite("open()");
opening.before.each(() => writeFileSync(path, fixture("dtypes")));
opening.after(() => rmSync(folder, { recursive: true }));

opening("tells the header at once and reads each tensor when asked", async () => {
  const expected = parse(fixture("dtypes"));
  await using file = await open(path);
  assert.equal([...file.tensors.keys()], [...expected.tensors.keys()]);
  const names = [...file.tensors.keys()].reverse();
  const read = await Promise.all(names.map((name) => file.read(name)));
  assert.equal(new Map(names.map((name, index) => [name, read[index]])), expected.tensors);
});

opening("reads bytes that belong to the caller", async () => {
  await using file = await open(path);
  const first = await file.read("bool");
  first.bytes.fill(9);
  assert.equal((await file.read("bool")).bytes, Uint8Array.of(0, 1, 0, 1, 0, 1));
});

opening("refuses a malformed file by its path", async () => {
  writeFileSync(path, "<!DOCTYPE html>");
  const error = await open(path).catch((error) => error);
  assert.instance(error, SyntaxError);
  assert.ok(error.message.includes(`"${path}"`) && error.message.includes("a web page"));
});

opening("refuses a tensor that the file does not have", async () => {
  await using file = await open(path);
  const error = await file.read("weight").catch((error) => error);
  assert.ok(range(/tensor "weight" .* uint64, int64, .* and 8 more/)(error), error.message);
});

opening("refuses a tensor whose bytes are gone", async () => {
  await using file = await open(path);
  writeFileSync(path, "");
  const error = await file.read("bool").catch((error) => error);
  assert.ok(range(/must not shrink/)(error), error.message);
});

opening("reads nothing after close()", async () => {
  const file = await open(path);
  await file.close();
  assert.instance(await file.read("bool").catch((error) => error), Error);
});

opening.run();
