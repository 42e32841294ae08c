import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parsePrompt } from "../../lib/files/prompt.ts";

const prompt = suite("parsePrompt");

prompt("reads what AUTOMATIC1111 reads: by place, by name, neither", () => {
  const { text, adapters } = parsePrompt(
    "<lora:one> a <lyco:two:0.5> b, <lora:three:0.5:-1>(c:1.2) <lora:four:unet=0:te=0.25>",
  );
  assert.is(text, "a b, (c:1.2)");
  assert.equal(adapters, [
    { name: "one", textEncoder: 1, unet: 1 },
    { name: "two", textEncoder: 0.5, unet: 0.5 },
    { name: "three", textEncoder: 0.5, unet: -1 },
    { name: "four", textEncoder: 0.25, unet: 0 },
  ]);
});

prompt("says which strength is none", () => {
  assert.throws(() => parsePrompt("<lora:a:much>"), /a strength is a number.*"much"/);
});

prompt.run();
