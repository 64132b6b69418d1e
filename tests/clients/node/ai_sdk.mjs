// Vercel's AI SDK, with its provider for endpoints that speak OpenAI's API. Scenarios and environment are those of
// openai.mjs; the AI SDK lists no models.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, RetryError, generateText, jsonSchema, streamText, tool } from "ai";

const MIB = 1024 * 1024;
const count = "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,";

function model(options) {
  const provider = createOpenAICompatible({
    name: "pilotlight",
    baseURL: process.env.OPENAI_BASE_URL,
    apiKey: process.env.OPENAI_API_KEY,
    ...options,
  });
  return provider.chatModel(process.env.MODEL);
}

async function ask(options) {
  const asked = { model: model(), prompt: count, maxOutputTokens: 20, temperature: 0, ...options };
  const { text, usage } = await generateText(asked);
  return { text, usage: usage.outputTokens };
}

// A stream reports its error to `onError`, and then ends.
async function read(options, onText) {
  let failed;
  const asked = { model: model(), prompt: count, temperature: 0, ...options };
  const result = streamText({ ...asked, onError: ({ error }) => (failed = error) });
  for await (const text of result.textStream) onText(text);
  if (failed) throw failed;
  return result;
}

const scenarios = {
  models: () => ({ error: "no call for it" }),

  plain: () => ask(),

  async stream() {
    const began = performance.now();
    const texts = [];
    let first = null;
    await read({ maxOutputTokens: 60 }, (text) => {
      first ??= (performance.now() - began) / 1000;
      texts.push(text);
    });
    return { text: texts.join(""), pieces: texts.length, first_s: first };
  },

  async usage() {
    const result = await read({ model: model({ includeUsage: true }), maxOutputTokens: 20 }, () => {});
    return { usage: (await result.usage).outputTokens };
  },

  async tools() {
    const inputSchema = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
    const { text, toolCalls } = await generateText({
      model: model(),
      prompt: "How is the weather in Oslo?",
      maxOutputTokens: 20,
      temperature: 0,
      tools: { weather: tool({ description: "The weather of a city.", inputSchema }) },
    });
    return { text, calls: toolCalls.length };
  },

  picture() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "file", data: readFileSync(process.env.PICTURE), mediaType: "image/png" },
    ];
    return ask({ prompt: undefined, messages: [{ role: "user", content }] });
  },

  wrong_key: () => ask({ model: model({ apiKey: "sk-nobody-has-this-key-0123456789" }) }),

  too_large: () => ask({ prompt: "x".repeat(31 * MIB) }),

  async abort() {
    let pieces = 0;
    const leaving = new AbortController();
    const options = { maxOutputTokens: 1500, abortSignal: leaving.signal };
    await read(options, () => {
      pieces += 1;
      if (pieces === 5) leaving.abort();
    });
    return { pieces };
  },

  impatient: () => ask({ timeout: 2000 }),
};

for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = await scenarios[line]();
  } catch (error) {
    // After the last retry the error of each try is kept in one that names none.
    const last = RetryError.isInstance(error) ? error.lastError : error;
    told = { error: last.name, status: APICallError.isInstance(last) ? last.statusCode ?? null : null };
  }
  console.log(JSON.stringify(told));
}
