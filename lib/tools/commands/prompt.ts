/** `lowrank prompt`: the adapters that a prompt asks for. */
import type { Command } from "commander";
import { parsePrompt } from "../../files/prompt.ts";
import { table } from "../../display/table.ts";
import { answer, command, type Common } from "../command.ts";

function run(prompt: string, options: Common): void {
  const found = parsePrompt(prompt);
  const rows = found.adapters.map(({ name, unet, textEncoder }) => ({
    adapter: name,
    unet,
    "text encoder": textEncoder,
  }));
  answer(options, found, [found.text, ...(rows.length > 0 ? [table(rows)] : [])].join("\n"));
}

export const prompt = (): Command =>
  command("prompt", "the adapters that a prompt asks for", 'prompt "a cat <lora:ink:0.8>, snow"')
    .argument("<prompt>", "a prompt as AUTOMATIC1111 reads it")
    .action(run);
