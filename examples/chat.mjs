// `node --env-file=.env examples/chat.mjs "hello"`: one question, the answer streamed as it is generated. Node 20.6 or
// newer, and no package: `fetch` gives up after 300 s without a byte, as long as the gateway lets a request run.

const { OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL } = process.env;

const answer = await fetch(`${OPENAI_BASE_URL}/chat/completions`, {
  method: "POST",
  headers: { Authorization: `Bearer ${OPENAI_API_KEY}`, "Content-Type": "application/json" },
  body: JSON.stringify({
    model: OPENAI_MODEL,
    messages: [{ role: "user", content: process.argv.slice(2).join(" ") || "Say hello in one sentence." }],
    max_tokens: 200,
    stream: true,
  }),
});
if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);

let rest = "";
for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines.filter((line) => line.startsWith("data: {"))) {
    process.stdout.write(JSON.parse(line.slice("data: ".length)).choices[0]?.delta?.content ?? "");
  }
}
console.error(`\n(served by ${answer.headers.get("X-Served-By")})`);
