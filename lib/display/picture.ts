/** A picture: shown in a notebook, and saved as a file anywhere. */
import { writeFile } from "node:fs/promises";
import { type Bundle, DISPLAY, type Shown } from "./bundle.ts";
import { rasterized } from "./draw.ts";

/** What {@link picture} makes. */
export interface Picture extends Shown {
  svg(): Promise<string>;
  /** `scale` pixels for each unit of the SVG, 2 unless told; on white unless told, "transparent" for none */
  png(options?: { scale?: number; background?: string }): Promise<Uint8Array>;
  /** writes it as `.png` or `.svg`, as the name ends */
  save(path: string): Promise<void>;
}

/**
 * A picture from its SVG, which is drawn when it is first needed.
 *
 * @param text what stands in its place where nothing can be drawn
 * @param also further media types for notebooks
 */
export function picture(draw: () => Promise<string>, text: string, also: Bundle = {}): Picture {
  let svg: Promise<string> | undefined;
  const self: Picture = {
    svg: () => svg ??= draw(),
    async png({ scale = 2, background = "white" } = {}) {
      const ground = background === "transparent" ? undefined : background;
      return await rasterized(await self.svg(), scale, ground);
    },
    async save(path) {
      const kind = path.match(/\.(png|svg)$/)?.[1];
      if (!kind) {
        throw new RangeError(
          `Cannot save a picture as its name must end in .png or .svg: current name is ${path}`,
        );
      }
      await writeFile(path, kind === "svg" ? await self.svg() : await self.png());
    },
    async [DISPLAY]() {
      const png = await self.png({ scale: 1, background: "transparent" });
      return { ...also, "image/png": base64(png), "text/plain": text };
    },
  };
  return self;
}

/** Bytes as base64. */
export function base64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
