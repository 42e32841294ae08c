/** A control under a picture that follows it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Bundle, DISPLAY, escaped, PLOTLY, type Shown } from "./bundle.ts";
import { kernel, place } from "./kernel.ts";
import { FONT, TEXT } from "./theme.ts";

/** What a slider runs over. */
export interface Range {
  min: number;
  max: number;
  /** 1 unless told */
  step?: number;
  /** where it begins; the least unless told */
  value?: number;
}

/**
 * A figure as a picture alone: JupyterLab's Plotly, once it is touched, keeps its place against what follows, and gives
 * it up only to another media type.
 */
function still({ [PLOTLY]: _, ...bundle }: Bundle): Bundle {
  return bundle;
}

/**
 * Shows what `onchange` returns, and under it a slider that changes it: `await slider("rank r", { min: 1, max: 32 }, draw)`.
 *
 * The slider tells a server that this program opens on 127.0.0.1, at an address that only the slider knows; readers of
 * the notebook see the picture as it was last. Outside a notebook `onchange` is called once.
 */
export async function slider(
  name: string,
  { min, max, step = 1, value = min }: Range,
  onchange: (value: number) => Shown | Promise<Shown>,
): Promise<void> {
  const first = await onchange(value);
  if (!kernel()) return;
  const show = place();
  await show(await first[DISPLAY]());

  let wanted = value, busy = false;
  const follow = async () => { // a move during a drawing is answered by the next one, and only the latest is drawn
    if (busy || wanted === value) return;
    busy = true;
    try {
      let bundle: Bundle = {};
      for (let drawn = value; drawn !== wanted;) {
        drawn = wanted;
        bundle = await (await onchange(drawn))[DISPLAY]();
        await show(still(bundle));
      }
      await show(bundle);
    } finally {
      value = wanted;
      busy = false;
    }
  };
  const secret = `/${crypto.randomUUID()}`;
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://127.0.0.1");
    const number = Number(url.searchParams.get("value"));
    response.setHeader("access-control-allow-origin", "*"); // a page in a frame has no origin that could be named
    if (url.pathname !== secret) return void response.writeHead(404).end();
    if (!(number >= min && number <= max)) return void response.writeHead(400).end();
    wanted = number;
    void follow();
    response.writeHead(204).end();
  });
  server.unref();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const page = control(name, { min, max, step, value }, `http://127.0.0.1:${port}${secret}`);
  await place()({
    // a page of another colour scheme than the notebook's would have a ground of its own
    "text/html": `<iframe srcdoc="${
      escaped(page)
    }" width="720" height="32" style="border:0;color-scheme:light"></iframe>`,
    "text/plain": `slider: ${name}, ${min} to ${max}`,
  });
}

/** The page of a slider, which tells an address of every move. */
function control(
  name: string,
  { min, max, step, value }: Required<Range>,
  address: string,
): string {
  return `<!doctype html><meta charset="utf-8"><style>
body { margin: 0; font: 13px ${FONT}; color: ${TEXT}; display: flex; gap: 1em; align-items: center }
input { width: 24em }</style><label for="s">${escaped(name)}</label>
<input id="s" type="range" min="${min}" max="${max}" step="${step}" value="${value}"><output>${value}</output>
<script>const s = document.querySelector("input"), o = document.querySelector("output");
s.oninput = () => { o.textContent = s.value;
fetch("${address}?value=" + s.value, { method: "POST" }).catch(() => { o.textContent = "run the cell again" }) }</script>`;
}
