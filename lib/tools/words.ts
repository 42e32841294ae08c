/** Words of the command line as values, and values as words. */
import { InvalidArgumentError } from "commander";

/**
 * An option's value as a number.
 *
 * @throws {InvalidArgumentError} for anything else
 */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("It must be a number.");
}

/** Bytes by the unit at the end of a size. */
const UNITS: Record<string, number> = {
  "": 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

/**
 * An option's value as a number of bytes: `20MiB`, `1.5 GB`, `4096`.
 *
 * @throws {InvalidArgumentError} for anything else
 */
export function size(text: string): number {
  const [, count, unit] = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text) ?? [];
  if (unit !== undefined && Object.hasOwn(UNITS, unit)) {
    return Math.floor(Number(count) * UNITS[unit]);
  }
  throw new InvalidArgumentError(`It must be a size such as 20MiB or 1.5GB.`);
}

/** A number of bytes for people: `12.3 MiB`. */
export function bytes(count: number): string {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log2(Math.max(1, count)) / 10)));
  return power === 0
    ? `${count} B`
    : `${(count / 2 ** (10 * power)).toFixed(1)} ${["", "KiB", "MiB", "GiB"][power]}`;
}

/** A time for people: `0.3 s`, `2 min 5 s`. */
export function time(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** A file and how much of it. */
export interface Weighted {
  place: string;
  /** 1 where none is told */
  strength: number;
}

/** `style.safetensors:0.8`: the number after the last colon is the strength, where there is one. */
export function weighted(word: string): Weighted {
  const at = word.lastIndexOf(":"), strength = word.slice(at + 1).trim();
  if (at < 1 || strength === "" || !Number.isFinite(Number(strength))) {
    return { place: word, strength: 1 };
  }
  return { place: word.slice(0, at), strength: Number(strength) };
}
