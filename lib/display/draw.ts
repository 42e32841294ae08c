/**
 * plotly.js without a browser: a figure as SVG, over linkedom's document; and SVG as PNG.
 *
 * The packages are looked for when something is drawn: importing this needs none of them. What they lack, lengths of
 * text and the ways of a window, is given here, and stays inside plotly.js's own scope.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { type Figure, themed } from "./theme.ts";

const PACKAGES = ["plotly.js-basic-dist-min", "linkedom", "@resvg/resvg-js"];

interface Plotly {
  newPlot(element: unknown, data: unknown, layout: unknown, config: unknown): Promise<unknown>;
  toImage(element: unknown, options: unknown): Promise<string>;
  purge(element: unknown): void;
}

interface Styled {
  textContent: string | null;
  style?: Record<string, string>;
}

/** Advance of a character as a share of the font's size: the mean of DejaVu Sans and Verdana over text. */
const ADVANCE = 0.6;
const LINE = 1.2;

/** Where an element's text would stand. */
function box({ textContent, style }: Styled) {
  const size = parseFloat(style?.fontSize ?? "") || 12;
  const width = (textContent ?? "").length * size * ADVANCE, height = size * LINE;
  return {
    x: 0,
    y: -size,
    left: 0,
    top: -size,
    width,
    height,
    right: width,
    bottom: height - size,
  };
}

/** plotly.js in a document of its own, with what draws a figure there. */
async function start(): Promise<(figure: Figure) => Promise<string>> {
  const { parseHTML } = await import("linkedom");
  const path = createRequire(import.meta.url).resolve(PACKAGES[0]);
  const code = await readFile(path, "utf8");
  const { window, document } = parseHTML("<html><head></head><body></body></html>");

  const SvgElement = window.SVGElement, Element = window.Element;
  const measured = {
    getBBox(this: Styled) {
      return box(this);
    },
    getBoundingClientRect(this: Styled) {
      return box(this);
    },
    getComputedTextLength(this: Styled) {
      return box(this).width;
    },
  };
  Object.assign(Element.prototype, measured);
  Object.assign(SvgElement.prototype, measured);
  const own: Record<string, unknown> = {
    document,
    navigator: { userAgent: "", language: "en" },
    getComputedStyle: ({ style }: Styled) => ({
      ...style,
      getPropertyValue: (name: string) => style?.[name] ?? "",
    }),
    matchMedia: () => ({ matches: false, addListener() {}, addEventListener() {} }),
    requestAnimationFrame: (draw: () => void) => setTimeout(draw, 0),
    cancelAnimationFrame: clearTimeout,
    XMLSerializer: class {
      serializeToString = String;
    },
    HTMLElement: window.HTMLElement,
    SVGElement: SvgElement,
    Element,
    Node: window.Node,
    DOMParser: window.DOMParser,
  };
  const scope: typeof window = new Proxy(window, {
    get: (target, key) =>
      typeof key === "string" && key in own ? own[key] : Reflect.get(target, key),
  });
  const names = { ...own, window: scope, self: scope };
  const module: { exports?: Plotly } = { exports: {} as Plotly };
  new Function("module", ...Object.keys(names), code)(module, ...Object.values(names));
  const plotly = module.exports!;

  return async (figure) => {
    const { data, layout } = themed(figure), { width, height } = layout;
    const element = document.createElement("div");
    document.body.appendChild(element);
    try {
      await plotly.newPlot(element, data, layout, { staticPlot: true });
      const url = await plotly.toImage(element, { format: "svg", width, height });
      // an empty value makes a reader of CSS drop what follows it
      return decodeURIComponent(url.slice(url.indexOf(",") + 1)).replaceAll(
        /[\w-]+:\s*(?=[;"])/g,
        "",
      );
    } finally {
      plotly.purge(element);
      element.remove();
    }
  };
}

let draw: ReturnType<typeof start> | undefined;

async function needing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code = "", message } = error as Error & { code?: string };
    if (!/MODULE_NOT_FOUND/.test(code) && !/Cannot find (module|package)/.test(message)) {
      throw error;
    }
    throw new Error(
      `Cannot draw a figure as npm packages must be installed: ${PACKAGES.join(", ")}; ` +
        `run deno add --dev npm:NAME or bun add --dev NAME for each (${message})`,
    );
  }
}

/** A figure of plotly.js as SVG. */
export async function drawn(figure: Figure): Promise<string> {
  return (await needing(() => draw ??= start()))(figure);
}

/** SVG as PNG, `scale` pixels for each of its units; without a background unless told. */
export async function rasterized(svg: string, scale = 1, background?: string): Promise<Uint8Array> {
  const { Resvg } = await needing(() => import("@resvg/resvg-js"));
  const font = { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" };
  return new Resvg(svg, { font, background, fitTo: { mode: "zoom", value: scale } }).render()
    .asPng();
}
