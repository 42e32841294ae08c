import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { open, serialize, type TensorView } from "../../lib/files/safetensors.ts";

const bytes = (n: number) => Uint8Array.from({ length: n }, (_, i) => i % 253);
const u8 = (n: number): TensorView => ({ dtype: "U8", shape: [n], bytes: bytes(n) });

/** Small tensors before and behind one of 3 MiB. */
const FILE = new Uint8Array(
  serialize([["a", u8(8)], ["big", u8(3 * 2 ** 20)], ["z", u8(5)]], { note: "x" }),
);

/** A server of one file, which counts what it sends; as `old` it has no ranges. */
async function serve(
  use: (url: string, told: { requests: number; sent: number }) => Promise<void>,
  old = false,
): Promise<void> {
  const told = { requests: 0, sent: 0 };
  const server: Server = createServer((request, response) => {
    told.requests++;
    if (request.url !== "/file") return response.writeHead(404).end("no such file");
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    const part = old || !from ? FILE : FILE.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${FILE.length}`;
    told.sent += part.length;
    response.writeHead(old ? 200 : 206, old ? {} : { "content-range": range, etag: '"1"' });
    response.end(part);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, told);
  } finally {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
}

async function inFolder(use: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "lowrank-"));
  try {
    const path = join(folder, "file.safetensors");
    await writeFile(path, FILE);
    await use(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  return await promise.then(() => "nothing was refused", (error: Error) => error.message);
}

const places = suite("open()");

places("reads a path, a file URL, a Blob and bytes alike", async () => {
  await inFolder(async (path) => {
    for (const place of [path, pathToFileURL(path), new Blob([FILE]), FILE, FILE.slice().buffer]) {
      await using file = await open(place);
      assert.equal(file.metadata, { note: "x" });
      assert.equal([...file.tensors.keys()], ["a", "big", "z"]);
      assert.equal((await file.read("z")).bytes, bytes(5));
    }
  });
});

places("asks a server for parts, and for many small tensors at once", async () => {
  await serve(async (url, told) => {
    await using file = await open(`${url}/file`);
    assert.equal((await file.read("a")).bytes, bytes(8));
    assert.is(told.requests, 1);
    assert.equal((await file.read("z")).bytes, bytes(5));
    assert.is(told.requests, 2);
    assert.ok(told.sent < 1.1 * 2 ** 20, "the tensor in the middle is not sent");
    assert.equal((await file.read("big")).bytes, bytes(3 * 2 ** 20));
  });
});

places("takes the whole from a server that has no ranges", async () => {
  await serve(async (url, told) => {
    await using file = await open(new URL(`${url}/file`));
    assert.equal((await file.read("z")).bytes, bytes(5));
    assert.is(told.requests, 1);
  }, true);
});

places("tells what a server says", async () => {
  await serve(async (url) => {
    const error = await refusal(open(`${url}/other`));
    assert.match(error, /\/other" as its server must send it: current status is 404/);
  });
});

places("entry() reads its tensor after the file is closed, unless it has changed", async () => {
  await inFolder(async (path) => {
    const file = await open(path), entry = file.entry("a");
    await file.close();
    assert.equal(await entry.bytes(), bytes(8));
    await utimes(path, new Date(), new Date(Date.now() + 5000));
    assert.match(await refusal(Promise.resolve(entry.bytes())), /changed since/);
  });
});

places.run();
