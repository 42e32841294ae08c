/** Every way in which a file can lie about itself, and the sentence that refuses it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { headerSize, parse } from "../../lib/files/safetensors.ts";
import { file, fixture, FIXTURES, row, utf8, w } from "../support/safetensors.ts";

const refusing = suite("parse() refuses");

const size = (bytes: number[]) => Uint8Array.from(bytes);
const LIES: [what: string, bytes: Uint8Array, part: string, sentence: string][] = [
  ["an empty file", size([]), "the header", "file has at least 8 bytes: current file is empty"],
  ["a file of 7 bytes", size([1, 0, 0, 0, 0, 0, 0]), "the header", "length of the file is 7"],
  [
    "a header above 100 MB",
    size([1, 225, 245, 5, 0, 0, 0, 0]),
    "the header",
    "it has at most 100000000 bytes: current length of the header is 100000001",
  ],
  [
    "a header length that no number can count",
    size([255, 255, 255, 255, 255, 255, 255, 255]),
    "the header",
    "current length of the header is 18446744073709551615",
  ],
  [
    "a header longer than the file",
    file("{}").fill(3, 0, 1),
    "the header",
    "it ends 11 bytes into the file: current length of the file is 10",
  ],
  [
    "a header without a byte",
    file(""),
    "the header",
    'it starts with "{": current start is missing',
  ],
  ["a header that is not UTF-8", file(size([123, 34, 255])), "the header", "byte 2 is 0xff"],
  ["a header that ends within a character", file(size([123, 239])), "the header", "byte 1 is 0xef"],
  ["half a surrogate pair", file(`{"\\ud800":${row()}}`, 16), "the header", "it must be JSON"],
  ["a header that starts with a blank", file(" {}"), "the header", 'current start is " "'],
  ["a header that is a list", file("[]"), "the header", 'current start is "["'],
  ["a byte order mark", file("\ufeff{}"), "the header", 'current start is "\ufeff"'],
  ["a header cut off", file('{"w":{'), "the header", "text at character 6 is its end"],
  ["a name cut off", file('{"w'), "the header", 'text at character 1 is "\\"w"'],
  ["JSON with more after it", file("{}\0"), "the header", 'text at character 2 is "\\u0000"'],
  ["JSON with a comma too many", file('{"a":1,}'), "the header", 'text at character 7 is "}"'],
  ["JSON with a bare word", file('{"a":nil}'), "the header", 'text at character 5 is "nil}"'],
  ["a raw line break in a name", file('{"a\nb":1}'), "the header", "text at character 1 is"],
  ["a header of lists in lists", file(`{"a":${"[".repeat(1e6)}`), "the header", "depth is 129"],
  ["a fraction", file(w({ shape: "[2.0,2]" }), 16), "the header", "current number is 2.0"],
  ["a number below zero", file(w({ shape: "[-2,-2]" }), 16), "the header", "current number is -2"],
  ["two tensors of a name", file(`{"w":${row()},"w":${row()}}`, 16), "the header", 'key is "w"'],
  ["two keys of metadata", file('{"__metadata__":{"a":"","a":""}}'), "the header", 'key is "a"'],
  ["a key twice in a row", file(w({ "\\u0064type": '"F32"' }), 16), "the header", 'key is "dtype"'],
  ["metadata that is text", file('{"__metadata__":"a"}'), "the metadata", 'metadata is "a"'],
  ["metadata of numbers", file('{"__metadata__":{"a":1}}'), "the metadata", 'value of "a" is 1'],
  ["metadata of objects", file('{"__metadata__":{"a":{}}}'), "the metadata", "is an object"],
  [
    "a tensor that is a list",
    file('{"w":["F32",[1],[0,4]]}', 4),
    'tensor "w"',
    'is ["F32",[1],[0,4]]',
  ],
  ["a tensor without dtype", file('{"w":{"shape":[]}}'), 'tensor "w"', "current dtype is missing"],
  ["an unknown dtype", file(w({ dtype: '"f32"' }), 16), 'tensor "w"', 'current dtype is "f32"'],
  [
    "a dtype of Object's own",
    file(w({ dtype: '"toString"' }), 16),
    'tensor "w"',
    "dtype is one of",
  ],
  ["a shape that is a number", file(w({ shape: "4" }), 16), 'tensor "w"', "current shape is 4"],
  ["a shape of text", file(w({ shape: '["2"]' }), 16), 'tensor "w"', 'current shape is ["2"]'],
  ["three offsets", file(w({ data_offsets: "[0,16,16]" }), 16), 'tensor "w"', "is [0,16,16]"],
  ["offsets that decrease", file(w({ data_offsets: "[16,0]" }), 16), 'tensor "w"', "is [16,0]"],
  [
    "a shape whose product overflows",
    file(w({ shape: "[4294967296,4294967296,0]", data_offsets: "[0,0]" })),
    'tensor "w"',
    "it has fewer than 2^53 bits: current tensor is F32 of shape [4294967296,4294967296,0]",
  ],
  [
    "a length that overflows",
    file(w({ shape: "[2,18446744073709551614]" }), 16),
    'tensor "w"',
    "it has fewer than 2^53 bits",
  ],
  [
    "elements that end within a byte",
    file(w({ dtype: '"F4"', shape: "[3]", data_offsets: "[0,1]" }), 1),
    'tensor "w"',
    "it fills whole bytes: current tensor is F4 of shape [3]",
  ],
  [
    "fewer bytes than the shape takes",
    file(w({ data_offsets: "[0,12]" }), 12),
    'tensor "w"',
    "F32 of shape [2,2] takes 16 bytes: current data_offsets is [0,12]",
  ],
  [
    "more bytes than the shape takes",
    file(w({ data_offsets: "[0,20]" }), 20),
    'tensor "w"',
    "current data_offsets is [0,20]",
  ],
  [
    "a gap before the first tensor",
    file(w({ data_offsets: "[4,20]" }), 20),
    'tensor "w"',
    "tensors follow without a gap: current begin is 4 where the tensor before ends at 0",
  ],
  [
    "a gap between tensors",
    file(`{"v":${row()},"w":${row({ data_offsets: "[20,36]" })}}`, 36),
    'tensor "w"',
    "current begin is 20 where the tensor before ends at 16",
  ],
  [
    "tensors that overlap",
    file(`{"v":${row()},"w":${row({ data_offsets: "[12,28]" })}}`, 28),
    'tensor "w"',
    "tensors do not overlap: current begin is 12 where the tensor before ends at 16",
  ],
  [
    "tensors in the same place",
    file(`{"v":${row()},"w":${row()}}`, 16),
    'tensor "w"',
    "tensors do not overlap",
  ],
  [
    "nothing at a place within another tensor",
    file(`{"v":${row()},"w":${row({ shape: "[0]", data_offsets: "[4,4]" })}}`, 16),
    'tensor "w"',
    "tensors do not overlap",
  ],
  [
    "a tensor beyond the end, as of a file cut off",
    file(w(), 15),
    'tensor "w"',
    "bytes into the file: current length of the file is",
  ],
  [
    "bytes after the last tensor",
    file(w(), 17),
    "the header",
    "tensors reach to the end of the file",
  ],
  ["bytes of no tensor", file("{}", 1), "the header", "current length of the file is 11"],
  ["a web page", utf8("<!DOCTYPE html><title>Sign in</title>"), "the header", "a web page (HTML)"],
  [
    "a web page after blanks",
    utf8("\ufeff\r\n\n <html></html>"),
    "the header",
    "a web page (HTML)",
  ],
  ["a short web page", utf8("<b/>"), "the header", "a web page (HTML)"],
  ["a zip", size([80, 75, 3, 4, 0, 0, 8, 8, 0, 0]), "the header", "(.pt, .ckpt)"],
  ["a pickle", size([128, 2, 138, 10, 108, 252, 156, 70, 249]), "the header", "a Python pickle"],
  [
    "a Git LFS pointer",
    utf8("version https://git-lfs.github.com/spec/v1"),
    "the header",
    "git lfs pull",
  ],
  ["a server's answer", utf8('{"error":"not found"}'), "the header", "bare JSON"],
];

for (const [what, bytes, part, sentence] of LIES) {
  refusing(what, () => {
    try {
      parse(bytes, { file: "lie.safetensors" });
    } catch (error) {
      assert.instance(error, SyntaxError);
      const { message } = error as Error;
      assert.ok(message.startsWith(`Cannot read ${part} of "lie.safetensors" as `), message);
      assert.ok(message.includes(sentence), message);
      return;
    }
    assert.unreachable("it was read");
  });
}

refusing.run();

const mutating = suite("parse() of mutated files");

mutating("throws nothing but SyntaxError, and stays in bounds", () => {
  let state = 1;
  const below = (end: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * end);
  };
  const pieces = '{ } [ ] , : " \\ 0 9 -1 1e9 null é "w": \\u0000'.split(" ");
  for (let round = 0; round < 6000; round++) {
    let bytes: Uint8Array = fixture(FIXTURES[below(4)]);
    const data = headerSize(bytes, bytes.length);
    for (let times = below(3); times >= 0; times--) {
      const at = below(data), piece = utf8(pieces[below(pieces.length)]);
      if (below(4) === 0) bytes[at] = below(256);
      else if (below(8) === 0) bytes = bytes.slice(0, below(bytes.length));
      else if (at >= 8) {
        const cut = below(3); // a header with a piece put in or replaced, its length made right
        const header = [...bytes.subarray(8, at), ...piece, ...bytes.subarray(at + cut, data)];
        const next = file(Uint8Array.from(header), Math.max(0, bytes.length - data));
        next.set(bytes.subarray(data), 8 + header.length);
        bytes = next;
      }
      if (bytes.length < data) break;
    }
    try {
      const { tensors, metadata } = parse(bytes);
      assert.ok(Object.values(metadata).every((value) => typeof value === "string"));
      for (const view of tensors.values()) {
        assert.ok(view.bytes.byteOffset + view.bytes.length <= bytes.length);
      }
    } catch (error) {
      assert.instance(error, SyntaxError, `round ${round}: ${error}`);
    }
  }
});

mutating.run();
