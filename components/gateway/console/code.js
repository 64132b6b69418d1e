"use strict";
// The same request in three languages, with this endpoint's address and model.

const SNIPPETS = {
  curl: (base, model) => `curl ${base}/chat/completions \\
  -H "Authorization: Bearer $PILOTLIGHT_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "${model}",
    "messages": [{"role": "user", "content": "Hello"}]
  }'`,
  python: (base, model) => `import os
from openai import OpenAI

client = OpenAI(
    base_url="${base}",
    api_key=os.environ["PILOTLIGHT_KEY"],
    timeout=300,
)
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`,
  javascript: (base, model) => `import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "${base}",
  apiKey: process.env.PILOTLIGHT_KEY,
  timeout: 300_000,
});
const answer = await client.chat.completions.create({
  model: "${model}",
  messages: [{ role: "user", content: "Hello" }],
});
console.log(answer.choices[0].message.content);`,
};

const tabs = () => [...document.querySelectorAll("[role=tab]")];

function showCode(model) {
  const base = `${location.origin}/v1`;
  $("#base").textContent = base;
  $("#name").textContent = model;
  choose(tabs()[0], false);
}

function choose(tab, focus = true) {
  for (const each of tabs()) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
  }
  $("#code").setAttribute("aria-labelledby", tab.id);
  $("#code code").textContent = SNIPPETS[tab.id.slice(4)]($("#base").textContent, $("#name").textContent);
  if (focus) tab.focus();
}

async function copyCode() {
  const button = $("#copy");
  try {
    await navigator.clipboard.writeText($("#code code").textContent);
    button.textContent = "Copied";
  } catch {
    // Without leave to write, the text is selected for the hand.
    getSelection().selectAllChildren($("#code code"));
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
