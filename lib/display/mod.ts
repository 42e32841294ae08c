/**
 * Showing things in a notebook: figures, tables, images, formulas, training as it goes, sliders.
 *
 * Everything here returns a value that shows itself as the last expression of a cell, and does no harm elsewhere. The
 * packages that draw, `plotly.js-basic-dist-min`, `linkedom` and `@resvg/resvg-js`, are looked for at the first
 * drawing.
 *
 * @module
 */
export { card } from "./card.ts";
export { choiceFigure, choiceRows } from "./choices.ts";
export { images } from "./images.ts";
export { inspectionFigure, inspectionRows, spectraFigure } from "./inspection.ts";
export { diagnosisRows, readingRows } from "./inspection.ts";
export { livePlot, smoothed } from "./live.ts";
export { math } from "./math.ts";
export { plot } from "./plot.ts";
export { progress } from "./progress.ts";
export { table } from "./rows.ts";
export { quick, setup } from "./setup.ts";
export { slider } from "./slider.ts";
export { stopSignal } from "./stop.ts";

export type { Shown } from "./bundle.ts";
export type { Subject } from "./card.ts";
export type { ImagesOptions } from "./images.ts";
export type { Live } from "./live.ts";
export type { Picture } from "./picture.ts";
export type { Progress } from "./progress.ts";
export type { Range } from "./slider.ts";
export type { Row } from "./table.ts";
export type { Figure } from "./theme.ts";
