/**
 * Presets: which modules of a network take an adapter, and with which settings of their own.
 *
 * The eight that LyCORIS 4.1.3 has built in, in the keys of its preset files, so that either can be read for the other.
 */

/** A module's own settings in LyCORIS's names. */
export type PresetSettings = { readonly [name: string]: string | number | boolean };

/** A preset as LyCORIS writes it; its walk is `rules.ts`. */
export interface Preset {
  /** whether kernels wider than a point take part; default true */
  readonly enable_conv?: boolean;
  /** classes of which all that is inside is adapted; for a network by itself */
  readonly target_module?: readonly string[];
  /** names of single modules; for a network by itself */
  readonly target_name?: readonly string[];
  readonly unet_target_module?: readonly string[];
  readonly unet_target_name?: readonly string[];
  readonly text_encoder_target_module?: readonly string[];
  readonly text_encoder_target_name?: readonly string[];
  /** names that take no adapter */
  readonly exclude_name?: readonly string[];
  /** settings by class */
  readonly module_algo_map?: { readonly [name: string]: PresetSettings };
  /** settings by name */
  readonly name_algo_map?: { readonly [name: string]: PresetSettings };
  /** names are those of `fnmatch`, rather than expressions that hold from the start */
  readonly use_fnmatch?: boolean;
  /** what the names in a file begin with */
  readonly lora_prefix?: string;
}

/** The names of the built-in presets. */
export type PresetName =
  | "full"
  | "full-lin"
  | "attn-mlp"
  | "attn-only"
  | "unet-only"
  | "unet-transformer-only"
  | "unet-convblock-only"
  | "ia3";

const SAMPLERS = ["Downsample2D", "Upsample2D"];
/** blocks of attention, of Stable Diffusion and of what came after it */
const TRANSFORMERS = [
  "HunYuanDiTBlock",
  "DoubleStreamBlock",
  "SingleStreamBlock",
  "SingleDiTBlock",
  "MMDoubleStreamBlock",
  "MMSingleStreamBlock",
  "WanAttentionBlock",
  "HunyuanVideoTransformerBlock",
  "HunyuanVideoSingleTransformerBlock",
  "JointTransformerBlock",
  "FinalLayer",
  "QwenImageTransformerBlock",
  "LensTransformerBlock",
  "Ideogram4TransformerBlock",
  "ZImageTransformerBlock",
  "AceStepEncoderLayer",
  "AceStepDiTLayer",
  "TextFusionBlock",
  "Block",
  "PatchEmbed",
  "TimestepEmbedding",
  "LLMAdapterTransformerBlock",
];
const ENDS = ["conv_in", "conv_out"];
const TIME = ["time_embedding.linear_1", "time_embedding.linear_2"];
const TEXT = [
  "CLIPAttention",
  "CLIPSdpaAttention",
  "CLIPMLP",
  "MT5Block",
  "BertLayer",
  "Gemma2Attention",
  "Gemma2FlashAttention2",
  "Gemma2SdpaAttention",
  "Gemma2MLP",
  "Qwen3Attention",
  "Qwen3FlashAttention2",
  "Qwen3SdpaAttention",
  "Qwen3MLP",
];
const TEXT_ATTENTION = [
  "CLIPAttention",
  "CLIPSdpaAttention",
  "BertAttention",
  "MT5LayerSelfAttention",
  "Gemma2Attention",
  "Gemma2FlashAttention2",
  "Gemma2SdpaAttention",
];

/** A preset from what is adapted in the UNet, and in the text encoder. */
function preset(
  enable_conv: boolean,
  unet: { classes?: readonly string[]; names?: readonly string[] },
  text: { classes?: readonly string[]; names?: readonly string[] } = {},
): Preset {
  return {
    enable_conv,
    unet_target_module: unet.classes ?? [],
    unet_target_name: unet.names ?? [],
    text_encoder_target_module: text.classes ?? [],
    text_encoder_target_name: text.names ?? [],
  };
}

const ALL = {
  classes: ["Transformer2DModel", "ResnetBlock2D", ...SAMPLERS, ...TRANSFORMERS],
  names: [...ENDS, ...TIME],
};
const TRANSFORMER = { classes: ["Transformer2DModel", ...TRANSFORMERS] };

/**
 * The built-in presets.
 *
 * `ia3` is LyCORIS's with `.*` before its names: as it is written there it picks nothing in any network (its bug B2),
 * since a name must begin with `to_k`.
 */
export const PRESETS: { readonly [name in PresetName]: Preset } = {
  full: preset(true, ALL, { classes: TEXT }),
  "full-lin": preset(false, {
    classes: ["Transformer2DModel", "ResnetBlock2D", ...TRANSFORMERS],
    names: TIME,
  }, { classes: TEXT }),
  "attn-mlp": preset(false, TRANSFORMER, { classes: TEXT }),
  "attn-only": preset(false, { classes: ["CrossAttention", "SelfAttention"] }, {
    classes: TEXT_ATTENTION,
  }),
  "unet-only": preset(true, ALL),
  "unet-transformer-only": preset(false, TRANSFORMER),
  "unet-convblock-only": preset(true, { classes: ["ResnetBlock2D", ...SAMPLERS], names: ENDS }),
  ia3: {
    ...preset(false, { names: [".*to_k", ".*to_v", ".*ff.net.2"] }, {
      names: [".*k_proj", ".*v_proj", ".*mlp.fc2"],
    }),
    name_algo_map: {
      ".*mlp.fc2": { train_on_input: true },
      ".*ff.net.2": { train_on_input: true },
    },
  },
};

/** Whether a text names a built-in preset. */
export function isPresetName(text: string): text is PresetName {
  return Object.hasOwn(PRESETS, text);
}

const isTexts = (value: unknown) =>
  Array.isArray(value) && value.every((item) => typeof item === "string");
const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isSettings = (value: unknown) =>
  isTable(value) &&
  Object.values(value).every((own) =>
    isTable(own) &&
    Object.values(own).every((item) => ["string", "number", "boolean"].includes(typeof item))
  );

type Rule = readonly [what: string, fits: (value: unknown) => boolean];
const TEXTS: Rule = ["an array of strings", isTexts];
const FLAG: Rule = ["true or false", (value) => typeof value === "boolean"];
const SETTINGS: Rule = ["a table of tables of settings", isSettings];

/** What each key of a preset holds. */
const KEYS: { readonly [key in keyof Required<Preset>]: Rule } = {
  enable_conv: FLAG,
  target_module: TEXTS,
  target_name: TEXTS,
  unet_target_module: TEXTS,
  unet_target_name: TEXTS,
  text_encoder_target_module: TEXTS,
  text_encoder_target_name: TEXTS,
  exclude_name: TEXTS,
  module_algo_map: SETTINGS,
  name_algo_map: SETTINGS,
  use_fnmatch: FLAG,
  lora_prefix: ["a string", (value) => typeof value === "string"],
};

/**
 * A value that was read as the preset it is.
 *
 * @param name of what was read, for the message
 * @throws {TypeError} for a key that presets do not have, or a value of another kind
 */
export function checkPreset(value: unknown, name = "preset"): Preset {
  const refuse = (rule: string, current: string): never => {
    throw new TypeError(`Cannot read "${name}" as ${rule}: current ${current}`);
  };
  if (!isTable(value)) return refuse("a preset is a table", `value is ${value}`);
  for (const [key, held] of Object.entries(value)) {
    if (!Object.hasOwn(KEYS, key)) {
      refuse(`the keys of a preset are ${Object.keys(KEYS).join(", ")}`, `key is ${key}`);
    }
    const [what, fits] = KEYS[key as keyof Preset];
    if (!fits(held)) refuse(`${key} is ${what}`, `value is ${JSON.stringify(held)}`);
  }
  return value;
}
