/** What a file of adapters tells of itself in its metadata, names and shapes: its base, its tags, its hashes. */
import type { Shape } from "../tensor/shape.ts";
import type { Metadata } from "./dialect.ts";
import type { Hashes } from "./hashes.ts";
import { modelOf } from "./names.ts";

/** The lengths of what the text's attention reads, by the model that has no other. */
const TEXT: Record<number, string> = { 768: "sd15", 1024: "sd21", 2048: "sdxl" };

/** kohya's and the model specification's names of base models. */
const NAMED: readonly [start: RegExp, model: string][] = [
  [/^(sdxl|stable-diffusion-xl)/, "sdxl"],
  [/^(sd_v2|sd_2|stable-diffusion-v2)/, "sd21"],
  [/^(sd_v1|sd_1|stable-diffusion-v1)/, "sd15"],
];

/** The base model, as far as metadata, shapes or names tell it. */
export function trainedOn(
  layers: readonly { name: string; shape: Shape }[],
  metadata: Metadata,
): { model: string; by: string } | undefined {
  for (const by of ["modelspec.architecture", "ss_base_model_version"]) {
    const told = metadata[by];
    if (told) return { model: NAMED.find(([start]) => start.test(told))?.[1] ?? told, by };
  }
  const text = layers.find(({ name, shape }) =>
    /attn2[._]to_[kv]$/.test(name) && shape.length === 2 && shape[0] in TEXT
  );
  if (text) return { model: TEXT[text.shape[0]], by: `the input of ${text.name}` };
  const model = modelOf(layers.map(({ name }) => name));
  return model && layers.length > 0 ? { model, by: "the names of its modules" } : undefined;
}

/** kohya's `ss_tag_frequency`, `{ folder: { tag: count } }`, added up. */
export function tagsOf({ ss_tag_frequency: told }: Metadata): [tag: string, count: number][] {
  let folders: unknown;
  try {
    folders = JSON.parse(told ?? "{}");
  } catch {
    return [];
  }
  if (typeof folders !== "object" || folders === null) return [];
  const counts = new Map<string, number>();
  for (const folder of Object.values(folders)) {
    if (typeof folder !== "object" || folder === null) continue;
    for (const [tag, count] of Object.entries(folder)) {
      if (typeof count !== "number") continue;
      counts.set(tag.trim(), (counts.get(tag.trim()) ?? 0) + count);
    }
  }
  return [...counts].sort(([, a], [, b]) => b - a);
}

/** The hashes that a file tells. */
export function storedHashes(metadata: Metadata): Partial<Hashes> {
  const names: (keyof Hashes)[] = [
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.hash_sha256",
  ];
  return Object.fromEntries(
    names.filter((name) => name in metadata).map((name) => [name, metadata[name]]),
  );
}
