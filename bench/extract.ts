/** How fast is an extraction beside LyCORIS's, in what memory, and how near: one layer's pair of kernels, every mode. */
import { beside } from "./files/beside.ts";

const HELP = `Times extraction beside LyCORIS's extract_linear and extract_conv on torch.

  bench/extract.ts [--json FILE] [--layer PART,…] [--engine NAME] [--threads N] [--rounds N] [--cpu] [--no-memory]

  --cpu  processor's time instead of the wall's: with --threads 1 what a busy machine allows to compare

Example: deno run -A bench/extract.ts --layer 320→320 --json out.json`;

await beside(HELP, (largest) => [
  { name: "fixed 32", what: "extract", mode: "fixed", param: 32 },
  { name: "threshold σ₁/3", what: "extract", mode: "threshold", param: largest / 3 },
  { name: "ratio 0.4", what: "extract", mode: "ratio", param: 0.4 },
  { name: "percentile 0.4", what: "extract", mode: "percentile", param: 0.4 },
]);
