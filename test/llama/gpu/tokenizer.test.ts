/** The shipped tokenizer against the reference; no GPU in it, but the other suites here stand on it. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { openTokenizer } from '../../../src/node/text.js';
import { NodeFolder, STATESMAN } from '../node-folder.js';

interface Prompt {
  prompt: string;
  prompt_ids: number[];
  tokens: number[];
  text: string;
}

const { prompts } = JSON.parse(await readFile(`${STATESMAN}reference.json`, 'utf8')) as { prompts: Prompt[] };

describe('the shipped tokenizer', async () => {
  const tokenizer = await openTokenizer(new NodeFolder(STATESMAN));

  it.each(prompts)('encodes "$prompt" and decodes what follows', ({ prompt, prompt_ids, tokens, text }) => {
    expect(tokenizer.encode(prompt)).toEqual(prompt_ids);
    expect(tokenizer.decode(tokens)).toBe(text);
    expect(tokenizer.decode(prompt_ids)).toBe(prompt);
  });

  it('gives back any text it encodes', () => {
    for (const text of ['', ' ', 'a  b\n\n\tc', 'Übermut, naïve – “quoted” 鯨 🐋', '  leading'])
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });
});
