/** Bytes that are read in parts, wherever they lie: on a disk, behind a URL, in memory. */
import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { readBytes } from "./disk.ts";

/** Where a file can lie: a path, a URL (`file:`, `https:`), a Blob, or its bytes themselves. */
export type Place = string | URL | Blob | ArrayBuffer | Uint8Array;

/** An open file of bytes. */
export interface Source {
  /** what errors call it */
  readonly name: string;
  /** bytes of the whole */
  readonly size: number;
  /** differs when other bytes lie at the same place */
  readonly version: string;
  /** The bytes from `start` up to `end`; throws a RangeError when they are not there any more. */
  read(start: number, end: number): Promise<Uint8Array>;
  /** Ends the reading. */
  close(): Promise<void>;
}

/** Bytes asked of a server at a time, at least: a file of adapters has thousands of small tensors. */
const AHEAD = 2 ** 20;

/** The URL that a place is, if it is one. */
export function urlOf(place: Place): URL | undefined {
  if (place instanceof URL) return place;
  return typeof place === "string" && /^(https?|file|data|blob):/.test(place)
    ? new URL(place)
    : undefined;
}

/** The path on a disk that a place is, if it is one. */
export function pathOf(place: Place): string | undefined {
  const url = urlOf(place);
  if (url) return url.protocol === "file:" ? fileURLToPath(url) : undefined;
  return typeof place === "string" ? place : undefined;
}

/**
 * Opens a place; nothing but its size is known yet.
 *
 * @throws {Error} when there is no file, with the system's or the server's words
 */
export async function openSource(place: Place): Promise<Source> {
  const path = pathOf(place), url = urlOf(place);
  if (path !== undefined) return await onDisk(path);
  if (url) return await behind(url);
  if (place instanceof Blob) {
    const part = async (start: number, end: number) =>
      new Uint8Array(await place.slice(start, end).arrayBuffer());
    return { name: "blob", size: place.size, version: "", read: part, close: nothing };
  }
  return inMemory(place instanceof Uint8Array ? place : new Uint8Array(place as ArrayBuffer));
}

const nothing = () => Promise.resolve();

function inMemory(bytes: Uint8Array, name = "bytes"): Source {
  const read = (start: number, end: number) => Promise.resolve(bytes.subarray(start, end));
  return { name, size: bytes.length, version: "", read, close: nothing };
}

async function onDisk(path: string): Promise<Source> {
  const handle = await open(path);
  try {
    const { size, mtimeMs } = await handle.stat();
    const read = (start: number, end: number) => readBytes(handle, start, end);
    return { name: path, size, version: `${size} ${mtimeMs}`, read, close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Over HTTP range requests; a server that has none sends the whole, which is then kept. */
async function behind(url: URL): Promise<Source> {
  const name = url.protocol.startsWith("http") ? url.href : url.protocol;
  const ask = async (start: number, end: number) => {
    const range = { range: `bytes=${start}-${end - 1}`, "accept-encoding": "identity" };
    const response = await fetch(url, url.protocol.startsWith("http") ? { headers: range } : {});
    if (response.ok) return response;
    await response.body?.cancel();
    throw new Error(
      `Cannot read "${name}" as its server must send it: ` +
        `current status is ${response.status} ${response.statusText}`.trimEnd(),
    );
  };
  const first = await ask(0, AHEAD), bytes = new Uint8Array(await first.arrayBuffer());
  const size = Number(first.headers.get("content-range")?.split("/")[1]);
  if (first.status !== 206 || !Number.isInteger(size)) return inMemory(bytes, name);

  const version = first.headers.get("etag") ?? first.headers.get("last-modified") ?? "";
  let window = { start: 0, bytes };
  const read = async (start: number, end: number) => {
    if (start < window.start || end > window.start + window.bytes.length) {
      const response = await ask(start, Math.min(size, Math.max(end, start + AHEAD)));
      window = { start, bytes: new Uint8Array(await response.arrayBuffer()) };
      if (response.status !== 206 || start + window.bytes.length < end) {
        throw new RangeError(
          `Cannot read bytes ${start} to ${end} of "${name}" as the file must not change while ` +
            `it is open: current status is ${response.status}, with ${window.bytes.length} bytes`,
        );
      }
    }
    return window.bytes.subarray(start - window.start, end - window.start);
  };
  return { name, size, version: `${size} ${version}`, read, close: nothing };
}

/**
 * A part of a file that was opened before and closed since.
 *
 * @param version of the file then
 * @throws {RangeError} when another file lies there now
 */
export async function readPart(
  place: Place,
  version: string,
  start: number,
  end: number,
): Promise<Uint8Array> {
  const source = await openSource(place);
  try {
    if (source.version === version) return await source.read(start, end);
    throw new RangeError(
      `Cannot read bytes ${start} to ${end} of "${source.name}" as it must be the file that was opened: ` +
        "current file has been changed since, open it again",
    );
  } finally {
    await source.close();
  }
}
