import { suite } from "uvu";
import * as assert from "uvu/assert";
import { scaling } from "../../lib/files/peft_config.ts";
import { pattern } from "../../lib/files/peft_pattern.ts";

const patterns = suite("pattern()");

const whole = (source: string, text: string) => pattern(source)(text, new Set([0]));
const PATHS = [
  "model.layers.0.self_attn.q_proj",
  "model.layers.11.mlp.up_proj",
  "vision_tower.layers.3.self_attn.k_proj",
  "lm_head",
  "q_proj",
  "a-b.c",
  "aab",
  "",
];

patterns("agrees with RegExp on what it reads", () => {
  for (
    const source of [
      ".*\\.(q|k)_proj",
      ".*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?",
      "model\\.layers\\.\\d{1,2}\\..*",
      "model\\.layers\\.[0-9]\\.[\\w.]+",
      "(?!.*vision).*(?:q|k)_proj",
      "(model(?=\\.).*\\.(q_proj|up_proj))",
      ".*(?<=self_attn\\.)[qk]_proj",
      ".*(?<!self_attn\\.)[qk]_proj",
      "(?:.*\\.)?q_proj",
      "^lm_head$|\\bq_proj",
      "a{2}b|[^.]*-b\\.c",
      "a{1,}b?",
      "(a|aa|)a?b",
      "(q_proj|lm_head)",
      "",
    ]
  ) {
    const regular = new RegExp(`^(?:${source})$`);
    for (const path of PATHS) {
      assert.is(whole(source, path), regular.test(path), `${source} of "${path}"`);
    }
  }
});

patterns("compares names with dots, and lists of them, as they are", () => {
  assert.ok(whole("a.fc", "a.fc") && !whole("a.fc", "a_fc"));
  assert.ok(whole("^(a\\.fc|b\\+c)$", "b+c") && !whole("^(a\\.fc|b\\+c)$", "x.a.fc"));
  const many = Array.from({ length: 1000 }, (_, i) => `model\\.layers\\.${i}`).join("|");
  assert.ok(whole(`^(${many})$`, "model.layers.999"));
});

patterns("goes every way at once where going back would take years", () => {
  const a = "a".repeat(250);
  assert.not(whole("(a|a)".repeat(190) + "b", a));
  assert.not(whole("a?".repeat(250) + a + "b", a));
  assert.not(whole(".*".repeat(50) + "b", a));
  assert.ok(whole("a?".repeat(250) + a, a));
});

for (
  const [source, rule] of [
    ["(a+)+$", /"\(a\+\)\+\$"/],
    ["(?:.*\\.)*q", /must not repeat a group/],
    ["(a|b){2,}", /must not repeat a group/],
    ["((a?)b)*", /must not repeat a group/],
    ["(?=a(?=b))", /look around within a look around/],
    ["(a)\\1", /regular expression known here/],
    ["(?i)a", /regular expression/],
    ["(", /regular expression/],
    ["a)", /regular expression/],
    ["[z-a]", /regular expression/],
    ["a{2,1}", /regular expression/],
    ["a*".repeat(2000), /at most 1000 characters/],
  ] as const
) {
  patterns(`refuses ${source.slice(0, 12)}`, () => {
    for (const name of ["rank_pattern", "alpha_pattern"]) {
      const config = { peft_type: "LORA", r: 2, lora_alpha: 3, [name]: { [source]: 2 } };
      try {
        scaling(config);
        assert.unreachable();
      } catch (error) {
        assert.instance(error, SyntaxError);
        assert.match((error as Error).message, /^Cannot read a pattern of adapter_config.json as /);
        assert.match((error as Error).message, rule);
      }
    }
  });
}

patterns("refuses names far longer than any, but for plain names", () => {
  const long = "a".repeat(300);
  assert.throws(() => whole("a*", long), /at most 256 characters/);
  assert.ok(whole(long, long));
});

patterns.run();
