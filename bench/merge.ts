/**
 * How fast is W′ = W + s · scale · ΔW beside LyCORIS's merge, and in what memory: one layer, every
 * algorithm whose file LyCORIS opens again (of (IA)^3 it does not).
 */
import { beside } from "./files/beside.ts";

const HELP = `Times merging beside LyCORIS's make_module and merge_to on torch.

  bench/merge.ts [--json FILE] [--layer PART,…] [--engine NAME] [--threads N] [--rounds N] [--cpu] [--no-memory]

  --cpu  processor's time instead of the wall's: with --threads 1 what a busy machine allows to compare

Example: deno run -A bench/merge.ts --layer 320→320`;

await beside(
  HELP,
  () => ["lora", "loha", "lokr"].map((name) => ({ name, what: "merge", algorithm: name })),
);
