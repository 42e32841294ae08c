/** Every host by name. To add one: its file, and a row here. */
import { automatic1111 } from "./automatic1111.ts";
import { comfyui } from "./comfyui.ts";
import { diffusers } from "./diffusers.ts";
import type { Host } from "./host.ts";
import { kohya } from "./kohya.ts";
import { lycoris } from "./lycoris.ts";
import { peft } from "./peft.ts";

/** In the order in which they are told. */
const HOSTS = { lycoris, kohya, automatic1111, comfyui, peft, diffusers } satisfies Record<
  string,
  Host
>;

/** `lycoris`, `kohya`, `automatic1111`, `comfyui`, `peft`, `diffusers`. */
export type HostName = keyof typeof HOSTS;

/** Their names. */
export const HOST_NAMES = Object.keys(HOSTS) as HostName[];

/** The host of a name. */
export function hostOf(name: HostName): Host {
  return HOSTS[name];
}
