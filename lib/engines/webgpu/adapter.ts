/** The card to compute on: a real one, or where that is asked for, a processor that plays one. */
import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import { allowed, environment } from "../environment.ts";

/** Mesa's, Google's and Microsoft's; Deno 2.8 does not say of any that it is one. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|basic render/i;

/** Whether it tells of no card. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || SOFTWARE.test(info.description);
}

/** Whether `LOWRANK_WEBGPU_SOFTWARE` asks for software. */
const softwareAsked = () => environment("LOWRANK_WEBGPU_SOFTWARE") === "1";

/**
 * The fastest card; with `LOWRANK_WEBGPU_SOFTWARE=1` software, even beside a card.
 *
 * @throws {Error} that says in one line why there is none, and what would help
 */
export async function find(): Promise<GPUAdapter> {
  const { gpu } = navigator as { gpu?: GPU };
  if (!gpu) throw new Error("this runtime has no navigator.gpu, which Deno has");
  if (softwareAsked()) {
    const adapter = await request(gpu, { forceFallbackAdapter: true });
    if (adapter) return adapter;
    throw new Error("no software for it is here: apt-get install mesa-vulkan-drivers libvulkan1");
  }
  const adapter = await request(gpu, { powerPreference: "high-performance" });
  if (!adapter) throw new Error("no card is in reach: install the driver of its maker");
  if (!isSoftware(adapter.info)) return adapter;
  throw new Error(
    `no card is in reach, but ${adapter.info.description}, which computes on the processor: ` +
      "LOWRANK_WEBGPU_SOFTWARE=1 lets it",
  );
}

/** The adapter; without a line on standard error from Wayland's library that it finds no screen. */
async function request(gpu: GPU, options: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
  const variable = "XDG_RUNTIME_DIR", named = allowed({ name: "env", variable });
  const hidden = process.platform === "linux" && named && process.env[variable] === undefined;
  if (hidden) process.env[variable] = "/nonexistent";
  try {
    return await gpu.requestAdapter(options);
  } finally {
    if (hidden) delete process.env[variable];
  }
}

/** Where Linux shows a card to programs: Mesa's drivers, NVIDIA's, and that of Windows below it. */
const NODES = /^(renderD\d+|nvidiactl|dxg)$/;

/** Whether it is worth looking for a card: on Linux that takes a look into two folders, not into drivers. */
export function likely(): boolean {
  if (process.platform !== "linux") return true;
  return ["/dev", "/dev/dri"].some((folder) =>
    allowed({ name: "read", path: folder }) && existsSync(folder) &&
    readdirSync(folder).some((name) => NODES.test(name))
  );
}
