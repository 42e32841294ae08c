import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { create, dispose, scale } from "../../lib/adapter/adapter.ts";
import { type Module, modulesOf as modulesAround } from "../../lib/adapter/modules.ts";
import { type Preset, type PresetName, PRESETS } from "../../lib/adapter/presets.ts";
import { type NetworkSettings, type Part, pick, type Picked } from "../../lib/adapter/rules.ts";
import { layered } from "../../lib/adapter/settings.ts";
import { isWide } from "../../lib/tensor/shape.ts";
import { leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";
import { modulesOf } from "../support/modules.ts";

type Row = [
  name: string,
  kind: string,
  dim: number | null,
  alpha: number,
  tucker: boolean,
  onInput: number,
];
interface Fixture {
  presets: Record<PresetName, Preset>;
  kohya: Record<string, {
    kwargs: Record<string, string>;
    network_dim: number;
    network_alpha: number;
    te: Row[];
    unet: Row[];
  }>;
  wrapper: Record<string, { patch: Preset; modules: Row[] }>;
  unet_modules: [string, string][];
  te_modules: [string, string][];
}

const CLASSES: Record<string, string> = {
  lora: "LoConModule",
  loha: "LohaModule",
  lokr: "LokrModule",
  ia3: "IA3Module",
  full: "FullModule",
  norm: "NormModule",
};

/** A picked module as the fixtures list it. */
function row({ name, module, settings }: Picked): Row {
  const { algorithm, rank, strength: _s, route: _r, ...options } = settings, { kernel } = module;
  const onInput = Number(options.onInput ?? false), kind = CLASSES[algorithm];
  if (algorithm === "full" || algorithm === "norm") return [name, kind, null, 0, false, onInput];
  const adapter = create(algorithm, kernel!, rank, options);
  const told: Row = [
    name,
    kind,
    rank,
    scale(adapter) * rank,
    (options.tucker ?? false) && isWide(kernel!),
    onInput,
  ];
  dispose(adapter);
  return told;
}

const rows = (modules: readonly Module[], preset: Preset, network: NetworkSettings, part: Part) =>
  pick(modules, preset, network, part).map(row);
const names = (picked: Picked[]) => picked.map(({ module }) => module.path);

const picks = suite("pick()");
leakless(picks);

if (hasGolden) {
  const fixture = JSON.parse(readFileSync(golden("presets.json"), "utf8")) as Fixture;
  const unet = modulesOf(fixture.unet_modules, "unet"), te = modulesOf(fixture.te_modules, "te");

  picks("has LyCORIS's presets, ia3 aside word for word", () => {
    assert.equal(Object.keys(PRESETS), Object.keys(fixture.presets));
    for (const [name, preset] of Object.entries(fixture.presets)) {
      if (name !== "ia3") assert.equal(PRESETS[name as PresetName], preset, name);
    }
  });

  for (
    const [name, { kwargs, network_dim, network_alpha, ...told }] of Object.entries(fixture.kohya)
  ) {
    picks(`picks what kohya's trainer does with ${name}`, () => {
      const network: NetworkSettings = {
        algorithm: (kwargs.algo ?? "lora") as NetworkSettings["algorithm"],
        rank: network_dim,
        alpha: network_alpha,
        ...(kwargs.conv_dim && { conv: Number(kwargs.conv_dim) }),
        ...(kwargs.conv_alpha && { convAlpha: Number(kwargs.conv_alpha) }),
        ...(kwargs.train_norm && { norm: true }),
        ...(kwargs.use_tucker && { tucker: true }),
        ...(kwargs.factor && { factor: Number(kwargs.factor) }),
      };
      const preset = fixture.presets[kwargs.preset as PresetName];
      assert.equal(rows(te, preset, network, "text_encoder"), told.te);
      assert.equal(rows(unet, preset, network, "unet"), told.unet);
    });
  }

  for (const [name, { patch, modules }] of Object.entries(fixture.wrapper)) {
    picks(`picks what create_lycoris does with ${name}`, () => {
      // the fixture was made with train_norm where nothing is patched, and with the preset full, which turns convs on
      const norm = name === "default", preset = { ...patch, enable_conv: true };
      const network: NetworkSettings = { algorithm: "lora", rank: 4, alpha: 1, norm };
      assert.equal(rows(unet, preset, network, "network"), modules);
    });
  }

  picks("picks with ia3 what it says, where LyCORIS's own picks nothing", () => {
    const network: NetworkSettings = { algorithm: "ia3", rank: 0 };
    for (const [modules, part] of [[unet, "unet"], [te, "text_encoder"]] as const) {
      assert.equal(pick(modules, fixture.presets.ia3, { ...network, rank: 4 }, part), []);
      const picked = pick(modules, PRESETS.ia3, { ...network, rank: 4 }, part);
      const ends = part === "unet" ? /to_[kv]$|ff\.net\.2$/ : /[kv]_proj$|mlp\.fc2$/;
      assert.equal(
        names(picked),
        modules.map(({ path }) => path).filter((path) => ends.test(path)),
      );
      for (const { module, settings } of picked) {
        assert.is(settings.onInput ?? false, /ff\.net\.2|fc2/.test(module.path), module.path);
      }
    }
  });

  picks("picks alike where the classes around the layers are told from their paths", () => {
    const leaves = unet.filter(({ kernel }) => kernel), around = modulesAround(leaves);
    const network: NetworkSettings = { algorithm: "lora", rank: 4 };
    for (const name of ["full", "full-lin", "attn-only", "unet-convblock-only"] as const) {
      const expected = names(pick(unet, PRESETS[name], network, "unet"));
      assert.equal(
        names(pick(around, PRESETS[name], network, "unet")).sort(),
        expected.sort(),
        name,
      );
    }
  });
}

const layers: Module[] = [
  { path: "", class: "Net" },
  { path: "conv_in", class: "Conv2d", kernel: [3, 3, 4, 8] },
  { path: "conv_in2", class: "Conv2d", kernel: [3, 3, 8, 8] },
  { path: "strip", class: "Conv2d", kernel: [1, 3, 8, 8] },
  { path: "head", class: "Linear", kernel: [8, 2] },
];
const network: NetworkSettings = { algorithm: "lora", rank: 4 };
const only = (target_name: string[], rest: Preset = {}): Preset => ({
  target_module: [],
  target_name,
  ...rest,
});

picks("holds a name from the start on, not to the end; a glob holds the whole", () => {
  assert.equal(names(pick(layers, only(["conv_in"]), network)), ["conv_in", "conv_in2"]);
  assert.equal(names(pick(layers, only(["in"]), network)), []);
  assert.equal(names(pick(layers, only(["conv_in?"], { use_fnmatch: true }), network)), [
    "conv_in2",
  ]);
  assert.equal(names(pick(layers, only(["[!cs]*"], { use_fnmatch: true }), network)), ["head"]);
});

picks("gives a kernel that is one long at first the linear rank, as LyCORIS does", () => {
  const ranks = pick(layers, {}, { ...network, conv: 2 }).map(({ settings }) => settings.rank);
  assert.equal(ranks, [2, 2, 4, 4]);
});

picks("leaves wide kernels out at conv 0, but for those with a rank of their own", () => {
  const own: Preset = { name_algo_map: { conv_in2: { dim: 1 } } };
  assert.equal(names(pick(layers, own, { ...network, conv: 0 })), ["conv_in2", "strip", "head"]);
});

picks(
  "leaves linear layers out at rank 0, where every convolution has the rank of the wide",
  () => {
    const told = pick(layers, {}, { ...network, rank: 0, conv: 2 });
    assert.equal(names(told), ["conv_in", "conv_in2", "strip"]);
  },
);

picks("remembers nothing of the preset before", () => {
  const first = pick(layers, {}, network);
  pick(layers, { enable_conv: false, exclude_name: ["head"], lora_prefix: "x" }, network);
  assert.equal(pick(layers, {}, network), first);
});

picks("refuses settings that LyCORIS does not read there", () => {
  const preset: Preset = { name_algo_map: { head: { linear_dim: 2 } } };
  assert.throws(
    () => pick(layers, preset, network),
    /settings of "head".*current key is linear_dim/,
  );
  assert.throws(
    () => pick(layers, { name_algo_map: { head: { algo: "x" } } }, network),
    /algo must be/,
  );
});

picks.run();

const levels = suite("layered()");

levels("lets later levels count, and what an algorithm of theirs does not read go", () => {
  assert.equal(
    layered([{ rank: 8, tucker: true, alpha: 2 }, { rank: 4 }, { algorithm: "dylora" }]),
    {
      rank: 4,
      alpha: 2,
      algorithm: "dylora",
    },
  );
});

levels.run();
