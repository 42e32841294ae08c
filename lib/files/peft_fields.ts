/** The fields of `adapter_config.json` with which PEFT computes what some adapters do. */
import { isWide } from "../tensor/shape.ts";
import { refuse, type Stored } from "./dialect.ts";
import { type Config, expression, listed, ranked } from "./peft_config.ts";
import { lokrFields } from "./peft_lokr.ts";

/** α as it was given where the stored float32 is that. */
function alphaOf({ adapter, torch }: Stored): number {
  const [stored] = torch.alpha.dataSync();
  return Math.fround(adapter.alpha) === stored ? adapter.alpha : stored;
}

/** What each kind of configuration says of its modules. */
export const FIELDS: Record<string, (modules: ReadonlyMap<string, Stored>) => Config> = {
  LORA: loraFields,
  LOHA: (modules) => {
    const cored = (stored: Stored) => "hada_t1" in stored.torch;
    const effective = [...modules.values()].some(cored);
    for (const [layer, stored] of modules) {
      if (effective && isWide(stored.adapter.shape) && !cored(stored)) {
        refuse(layer, "peft", "all wide kernels have a core or none", "kernel has none");
      }
    }
    return { ...ranksAndAlphas("LOHA", modules), use_effective_conv2d: effective };
  },
  LOKR: (modules) => {
    const { fields, ranks } = lokrFields(modules);
    const alphas = [...modules].map(([layer, stored]) => {
      const whole = "lokr_w1" in stored.torch && "lokr_w2" in stored.torch;
      return [layer, whole ? ranks.get(layer)! : alphaOf(stored)] as const;
    });
    return { ...ranked("LOKR", ranks, new Map(alphas)), ...fields };
  },
  IA3: (modules) => {
    const onInput = [...modules].filter(([, { torch }]) => torch.on_input.dataSync()[0] !== 0);
    const inputs = onInput.map(([layer]) => layer);
    const unclear = [...modules.keys()].some((layer) =>
      !inputs.includes(layer) && listed(inputs, layer)
    );
    return { feedforward_modules: unclear ? expression(inputs) : inputs };
  },
};

function ranksAndAlphas(type: string, modules: ReadonlyMap<string, Stored>): Config {
  const each = (of: (stored: Stored) => number) =>
    new Map([...modules].map(([layer, stored]) => [layer, of(stored)]));
  return ranked(type, each(({ adapter }) => adapter.rank), each(alphaOf));
}

/** LoRA's fields; rsLoRA where every module is, and a magnitude in every module or none. */
export function loraFields(modules: ReadonlyMap<string, Stored>, dialect = "peft"): Config {
  const all = [...modules.values()].map(({ adapter }) => adapter);
  const rooted = all.length > 0 &&
    all.every(({ algorithm, rankScale }) => algorithm === "lora" && rankScale === "alpha/sqrt(r)");
  const dora = all.some(({ dora }) => dora);
  for (const [layer, { adapter }] of modules) {
    if (Boolean(adapter.dora) !== dora) {
      refuse(layer, dialect, "all modules have a magnitude or none", "adapter has none");
    }
  }
  const alphas = [...modules].map(([layer, stored]) =>
    [layer, rooted ? stored.adapter.alpha : alphaOf(stored)] as const
  );
  const ranks = [...modules].map(([layer, { adapter }]) => [layer, adapter.rank] as const);
  return {
    ...ranked("LORA", new Map(ranks), new Map(alphas)),
    use_rslora: rooted,
    use_dora: dora,
  };
}
