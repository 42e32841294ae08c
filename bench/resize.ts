/** How fast is a LoRA of rank 64 resized beside kohya's resize_lora.py, and in what memory: one layer, every method. */
import { beside } from "./files/beside.ts";

const HELP = `Times resizing beside the formulas of kohya's resize_lora.py on torch.

  bench/resize.ts [--json FILE] [--layer PART,…] [--engine NAME] [--threads N] [--rounds N] [--cpu] [--no-memory]

  --cpu  processor's time instead of the wall's: with --threads 1 what a busy machine allows to compare

Example: deno run -A bench/resize.ts --layer 320→320`;

await beside(
  HELP,
  () =>
    [["fixed", 16], ["sv_ratio", 1.5], ["sv_cumulative", 0.5], ["sv_fro", 0.8]].map(
      ([mode, param]) => ({
        name: `${mode} ${param}`,
        what: "resize",
        algorithm: "large",
        mode: String(mode),
        param: Number(param),
      }),
    ),
);
