import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { DISPLAY } from "../../lib/display/bundle.ts";
import { plot } from "../../lib/display/plot.ts";

const figure = {
  data: [{ x: [1, 2, 4], y: [4, 2, 1], name: "error of LoRA" }],
  layout: { title: "a figure", xaxis: { title: "rank r" }, yaxis: { title: "error (1)" } },
};
/** Width and height in a PNG's header. */
const sizeOf = (file: Uint8Array) => {
  const view = new DataView(file.buffer, file.byteOffset);
  return [view.getUint32(16), view.getUint32(20)];
};

const plots = suite("plot()");

plots("draws titles and curve without a browser", async () => {
  const svg = await plot(figure).svg();
  for (const text of ["a figure", "rank r", "error (1)"]) assert.match(svg, `>${text}<`);
  assert.match(svg, /class="js-line"[^>]*|d="M[^"]*L/);
});

plots("is Plotly, PNG and text in a notebook", async () => {
  const bundle = await plot(figure)[DISPLAY]();
  assert.is(bundle["text/plain"], "Figure: a figure");
  const { data, layout } = bundle["application/vnd.plotly.v1+json"] as Record<string, unknown>;
  assert.equal(data, figure.data);
  assert.is((layout as { title: { text: string } }).title.text, "a figure");
  const png = Uint8Array.from(atob(bundle["image/png"] as string), (c) => c.charCodeAt(0));
  assert.equal(sizeOf(png), [720, 400]);
});

plots("is saved as its name ends", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lowrank-"));
  try {
    await plot(figure).save(join(folder, "a.png"));
    await plot(figure).save(join(folder, "a.svg"));
    assert.equal(sizeOf(readFileSync(join(folder, "a.png"))), [1440, 800]);
    assert.match(readFileSync(join(folder, "a.svg"), "utf8"), /^<svg /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

plots("refuses another ending", async () => {
  try {
    await plot(figure).save("a.gif");
    assert.unreachable();
  } catch (error) {
    assert.instance(error, RangeError);
    assert.match((error as Error).message, /\.png or \.svg: current name is a\.gif$/);
  }
});

plots.run();
