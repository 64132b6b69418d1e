// The `openai` SDK for JavaScript. Reads the names of scenarios, one a line, and prints what came of each as a line of
// JSON. The SDK itself reads OPENAI_BASE_URL and OPENAI_API_KEY; MODEL is the model's name, PICTURE a PNG file.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import OpenAI, { OpenAIError } from "openai";

const model = process.env.MODEL;
const MIB = 1024 * 1024;
const count = [{ role: "user", content: "List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6," }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const client = new OpenAI();

async function list(client) {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return { models: ids };
}

async function ask(messages, options) {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 20, temperature: 0 }, options);
  return { text: answer.choices[0].message.content, usage: answer.usage?.completion_tokens };
}

const scenarios = {
  models: () => list(client),

  plain: () => ask(count),

  async stream() {
    const began = performance.now();
    const texts = [];
    let first = null;
    const chunks = await client.chat.completions.create({
      model,
      messages: count,
      max_tokens: 60,
      temperature: 0,
      stream: true,
    });
    for await (const chunk of chunks) {
      const text = chunk.choices[0]?.delta.content;
      if (text) {
        first ??= (performance.now() - began) / 1000;
        texts.push(text);
      }
    }
    return { text: texts.join(""), pieces: texts.length, first_s: first };
  },

  async usage() {
    const chunks = await client.chat.completions.create({
      model,
      messages: count,
      max_tokens: 20,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
    let last;
    for await (const chunk of chunks) last = chunk;
    return { usage: last?.usage?.completion_tokens };
  },

  async tools() {
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "How is the weather in Oslo?" }],
      max_tokens: 20,
      temperature: 0,
      tools: [weather],
    });
    const { content, tool_calls } = answer.choices[0].message;
    return { text: content, calls: tool_calls?.length ?? 0 };
  },

  picture() {
    const content = readFileSync(process.env.PICTURE, "base64");
    const parts = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${content}` } },
    ];
    return ask([{ role: "user", content: parts }]);
  },

  wrong_key: () => list(new OpenAI({ apiKey: "sk-nobody-has-this-key-0123456789" })),

  too_large: () => ask([{ role: "user", content: "x".repeat(31 * MIB) }]),

  async abort() {
    let pieces = 0;
    const chunks = await client.chat.completions.create({
      model,
      messages: count,
      max_tokens: 1500,
      temperature: 0,
      stream: true,
    });
    // Leaving the loop closes the connection, which ends the work on the model's server.
    for await (const _ of chunks) {
      pieces += 1;
      if (pieces === 5) break;
    }
    return { pieces };
  },

  impatient: () => ask(count, { timeout: 2000 }),
};

for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = await scenarios[line]();
  } catch (error) {
    if (!(error instanceof OpenAIError)) throw error;
    told = { error: error.constructor.name, status: error.status ?? null };
  }
  console.log(JSON.stringify(told));
}
