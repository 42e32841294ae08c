import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { create, dispose, scale } from "../../lib/adapter/adapter.ts";
import {
  type Arguments,
  fromArguments,
  toArguments,
  type TrainerSettings,
} from "../../lib/adapter/arguments.ts";
import type { Module } from "../../lib/adapter/modules.ts";
import { pick } from "../../lib/adapter/rules.ts";
import { leakless } from "../support/close.ts";
import { golden, hasGolden } from "../support/fixtures.ts";

interface Case {
  fn: "create_lycoris" | "kohya.create_network";
  kwargs: Arguments;
  dim: number;
  alpha: number;
  modules: {
    name: string;
    lora_dim: number;
    scale: number;
    alpha_buffer: number;
    tucker: boolean;
    scalar_is_param: boolean;
    wd: boolean;
    wd_on_out: boolean;
    rs_lora: boolean;
    bypass_mode: boolean;
  }[];
}

/** The network of the fixture: a wide convolution, a pointwise one, and a linear layer. */
const network: Module[] = [
  { path: "0", class: "Conv2d", kernel: [3, 3, 8, 8] },
  { path: "1", class: "Conv2d", kernel: [1, 1, 8, 8] },
  { path: "2", class: "Linear", kernel: [8, 8] },
];

/** The arguments that are traps, each as the fixture has it. */
const TRAPS: [Arguments, RegExp][] = [
  [{ conv_dim: 0 }, /only the text "0" leaves wide kernels out/],
  [{ conv_alpha: 0 }, /only the text "0" stands for the rank/],
  [{ use_cp: true }, /use_cp is an old name: use use_tucker/],
  [{ use_conv_cp: true }, /use_conv_cp is an old name/],
  [{ disable_conv_cp: true }, /read the other way round/],
  [{ disable_conv_cp: false }, /read the other way round/],
  [{ disable_conv_cp: "False" }, /read the other way round/],
  [{ weight_decompose: true }, /use dora_wd/],
  [{ bypass_mode: null }, /bypass_mode is on/],
  [{ use_scalar: "0" }, /use_scalar is on/],
];

const from = suite("fromArguments()");
leakless(from);

if (hasGolden) {
  const cases = JSON.parse(readFileSync(golden("arg_semantics.json"), "utf8")) as Case[];
  for (const { fn, kwargs, dim, alpha, modules } of cases) {
    from(`means what ${fn} makes of ${JSON.stringify(kwargs)}`, () => {
      const args = { network_dim: dim, network_alpha: alpha, ...kwargs };
      const reader = fn === "create_lycoris" ? fn : "kohya";
      const { settings, warnings } = fromArguments(args, reader), { conv, rank } = settings;
      const told = pick(network, {}, settings).map(({ module, settings }) => {
        const { algorithm, rank, route, strength: _, ...options } = settings;
        const base = tf.ones([...module.kernel!]);
        const adapter = create(algorithm, module.kernel!, rank, { ...options, base });
        const { factors, dora } = adapter, factor = scale(adapter);
        dispose(adapter);
        base.dispose();
        return {
          name: module.path,
          lora_dim: rank,
          scale: factor,
          alpha_buffer: factor * rank,
          tucker: factors.core !== undefined,
          scalar_is_param: factors.scalar !== undefined,
          wd: dora !== false,
          rs_lora: adapter.rankScale !== "alpha/r",
          bypass_mode: route === "bypass",
          // LyCORIS has an axis without DoRA too
          wd_on_out: dora !== "input",
        };
      });
      const expected = modules.map((module) => ({ ...module, name: module.name.at(-1)! }));
      assert.equal(told, expected);
      assert.ok(conv === undefined || conv !== rank, "what is the default is not told");
      const trap = TRAPS.find(([args]) => JSON.stringify(args) === JSON.stringify(kwargs));
      const passed = kwargs.rs_lora && reader === "create_lycoris";
      assert.is(warnings.length > 0, Boolean(trap || passed), `${warnings}`);
      if (trap) assert.match(warnings[0], trap[1]);
    });
  }
}

for (
  const [args, settings] of [
    [{}, { algorithm: "lora", rank: 4, alpha: 1 }],
    [{ algo: "LoCon", conv_dim: "8", conv_alpha: "0" }, {
      algorithm: "lora",
      rank: 4,
      alpha: 1,
      conv: 8,
      convAlpha: 0,
    }],
    [{ algo: "lokr", factor: "8", conv_dim: "4", network_dim: "16" }, {
      algorithm: "lokr",
      rank: 16,
      alpha: 1,
      factor: 8,
      conv: 4,
    }],
    [{ algo: "dylora" }, { algorithm: "dylora", rank: 4, alpha: 1, block: 4 }],
    [{ algo: "diag-oft", constraint: "1e-3", rescaled: "True" }, {
      algorithm: "oft",
      rank: 4,
      constraint: 0.001,
      rescaled: true,
    }],
    [{ loraplus_lr_ratio: "16" }, { algorithm: "lora", rank: 4, alpha: 1, loraPlus: 16 }],
    [{ algo: "loha", dropout: "0.1", train_norm: "True", preset: "attn-mlp" }, {
      algorithm: "loha",
      rank: 4,
      alpha: 1,
      dropout: 0.1,
      norm: true,
      preset: "attn-mlp",
    }],
  ] as [Arguments, TrainerSettings][]
) {
  from(`reads ${JSON.stringify(args)} without a warning`, () => {
    assert.equal(fromArguments(args), { settings, warnings: [] });
  });
}

from("tells every trap that is in a value, a name, or an algorithm that does not read it", () => {
  const warned = (args: Arguments) => fromArguments(args).warnings.join("; ");
  assert.match(warned({ algo: "lokr", decompose_both: "False" }), /decompose_both is on/);
  assert.match(warned({ factor: 8 }), /factor is passed by: lora does not read it/);
  assert.match(warned({ linear: 8 }), /linear is passed by: LyCORIS does not read it/);
  assert.match(warned({ dora_wd: "True", bypass_mode: "True" }), /drops it in bypass_mode/);
  assert.match(warned({ preset: "ia3" }), /picks no module in LyCORIS/);
  assert.match(warned({ loraplus_unet_lr_ratio: 4 }), /models of their own/);
  assert.match(warned({ algo: "loha", loraplus_lr_ratio: 4 }), /for lora_up, loha has none/);
  assert.match(warned({ algo: "boft", constrain: 1 }), /constrain is an old name: use constraint/);
  assert.is(fromArguments({ algo: "boft", constrain: 1 }).settings.constraint, 1);
});

from("refuses algorithms, presets and numbers that are none", () => {
  assert.throws(() => fromArguments({ algo: "lorax" }), /algo must be one of/);
  assert.throws(() => fromArguments({ preset: "mine" }), /current preset is mine/);
  assert.throws(() => fromArguments({ conv_dim: "4.5" }), /conv_dim must be a whole number/);
  assert.throws(() => fromArguments({ network_alpha: "" }), /network_alpha must be a number/);
});

from.run();

/** A command line as kohya's trainer reads it. */
function parsed(line: string): Arguments {
  const own = [...line.matchAll(/--(network_dim|network_alpha)=(\S+)/g)];
  const args = [...line.matchAll(/"((?:\\.|[^"])*)"/g)].map(([, text]) =>
    text.replace(/\\(.)/g, "$1").match(/^(\w+)=(.*)$/)!
  );
  return Object.fromEntries([...own, ...args].map(([, name, value]) => [name, value]));
}

const to = suite("toArguments()");

for (
  const settings of [
    { algorithm: "lora", rank: 4, alpha: 1 },
    { algorithm: "lora", rank: 8, alpha: 4, conv: 0, tucker: true, scalar: true, dora: "input" },
    { algorithm: "lora", rank: 4, alpha: 1, loraPlus: 16 },
    { algorithm: "loha", rank: 2, alpha: 2, conv: 4, convAlpha: 0, rankScale: "alpha/sqrt(r)" },
    { algorithm: "lokr", rank: 64, alpha: 1, factor: 4, decomposeBoth: true, dropout: 0.25 },
    { algorithm: "lokr", rank: 64, alpha: 1, full: true, unbalanced: true, norm: true },
    { algorithm: "dylora", rank: 8, alpha: 8, block: 2, moduleDropout: 0.5 },
    { algorithm: "ia3", rank: 4, preset: "ia3" },
    { algorithm: "oft", rank: 4, constraint: 0.5, rescaled: true, route: "bypass" },
    { algorithm: "full", rank: 4, rankDropout: 0.1, preset: 'my "own" $set.toml' },
  ] as TrainerSettings[]
) {
  to(`is read back by fromArguments: ${JSON.stringify(settings)}`, () => {
    assert.equal(fromArguments(parsed(toArguments(settings))).settings, settings);
  });
}

to("says the alpha of each kind of kernel where it is left to be the rank", () => {
  const line = toArguments({ algorithm: "lora", rank: 8, conv: 4 });
  assert.match(line, /--network_alpha=8 .*"conv_dim=4" "conv_alpha=0"/);
});

to("refuses what kohya's trainer has no argument for", () => {
  const ia3 = { algorithm: "ia3", rank: 4, onInput: true } as const;
  assert.throws(() => toArguments(ia3), /none for onInput: write it into a preset/);
  assert.throws(
    () => toArguments({ algorithm: "lora", rank: 4, strength: 2 }),
    /none for strength 2/,
  );
  const loha = { algorithm: "loha", rank: 4, loraPlus: 2 } as const;
  assert.throws(
    () => toArguments(loha),
    /none for loraPlus of loha: it knows LoRA's lora_up alone/,
  );
  const born = { algorithm: "lora", rank: 4, init: "pissa" } as const;
  assert.throws(() => toArguments(born), /none for init pissa: it begins with random factors/);
  const where = { algorithm: "lora", rank: 4, where: /x/ } as TrainerSettings;
  assert.throws(() => toArguments(where), /none for where/);
});

to.run();
