"use strict";
// A conversation, streamed. What comes from a model is set as text, never as markup.

const SIDE = 1024;
const MOST_TOKENS = 2048;

const chat = { model: "", history: [], picture: "", going: null };

function begin(model) {
  stopAnswer();
  Object.assign(chat, { model, history: [], going: null });
  working(null, false);
  $("#messages").replaceChildren();
  $("#clear").hidden = true;
  dropPicture();
}

/** A turn: the text and picture of the form, and the answer as it comes. */
async function send() {
  const text = $("#text").value.trim();
  if (!text || chat.going) return;
  const picture = chat.picture;
  const content = picture
    ? [{ type: "text", text }, { type: "image_url", image_url: { url: picture } }]
    : text;
  bubble("user", text, picture);
  $("#text").value = "";
  grow();
  dropPicture();
  $("#clear").hidden = false;
  await answerTo({ role: "user", content });
}

async function answerTo(message) {
  const messages = [...chat.history, message];
  const item = bubble("assistant", "");
  const going = (chat.going = new AbortController());
  const began = performance.now();
  const turn = { lane: "", first: 0, text: "", thought: "", usage: null, end: "" };
  const clock = setInterval(() => waiting(item, turn, began), 100);
  waiting(item, turn, began);
  toEnd();
  working(item, true);
  try {
    const answer = await ask("/v1/chat/completions", {
      method: "POST",
      signal: going.signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        model: chat.model,
        messages,
        max_tokens: MOST_TOKENS,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    turn.lane = answer.headers.get("X-Served-By") ?? "";
    for await (const event of events(answer.body)) take(item, turn, event, began);
    if (!turn.end) throw new ApiError(0, "broken_stream", "The answer broke off: its lane went away.");
    chat.history = [...messages, { role: "assistant", content: turn.text }];
    meta(item, turn, began);
  } catch (error) {
    if (chat.going !== going) return;
    if (error.name === "AbortError") {
      meta(item, { ...turn, end: "stopped" }, began);
      if (turn.text) chat.history = [...messages, { role: "assistant", content: turn.text }];
    } else {
      failed(item, turn, error, message);
    }
  } finally {
    clearInterval(clock);
    if (chat.going === going) {
      chat.going = null;
      working(item, false);
    }
  }
}

/** The JSON of each server-sent event up to [DONE]. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        const data = line.startsWith("data:") ? line.slice(5).trim() : "";
        if (data === "[DONE]") return;
        const event = data && parsed(data);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "broken_stream", "The answer broke off: its lane went away.");
  }
}

function take(item, turn, event, began) {
  if (event.error) throw new ApiError(0, event.error.code ?? "", event.error.message ?? "The model server failed.");
  if (event.usage) turn.usage = event.usage;
  const choice = event.choices?.[0];
  if (!choice) return;
  turn.end ||= choice.finish_reason ?? "";
  const thought = choice.delta?.reasoning_content ?? choice.delta?.reasoning ?? "";
  const said = choice.delta?.content ?? "";
  if (!said && !thought) return;
  turn.first ||= performance.now() - began;
  turn.thought += thought;
  turn.text += said;
  const list = $("#messages");
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  show($(".thought", item), turn.thought);
  $(".said", item).textContent = turn.text.trimStart();
  meta(item, turn, began);
  if (follows) toEnd();
}

// --- what is said beside it -------------------------------------------------------------------------------------------

function waiting(item, turn, began) {
  if (turn.first) return;
  const passed = seconds((performance.now() - began) / 1000);
  const lanes = Object.entries(watch.seen?.lanes ?? {});
  const starting = lanes.filter(([, lane]) => lane.state === "warming").map(([name]) => `${name} is starting`);
  const who = turn.lane ? [`${turn.lane} reads`] : ["waiting for a lane", ...starting];
  $(".meta", item).textContent = `${who.join(", ")} · ${passed}`;
}

function meta(item, turn, began) {
  const whole = performance.now() - began;
  const parts = [];
  if (turn.first) parts.push(`first token ${seconds(turn.first / 1000)}`);
  if (turn.end) parts.push(turn.end === "stopped" ? "stopped" : `whole ${seconds(whole / 1000)}`);
  const tokens = turn.usage?.completion_tokens;
  if (tokens > 1 && whole > turn.first) {
    parts.push(`${tokens}\u00a0tokens`, `${rate(tokens - 1, whole - turn.first)}/s`);
  }
  if (turn.end === "length") parts.push("cut off at its longest");
  const lane = document.createElement("span");
  lane.className = "served";
  lane.textContent = turn.lane;
  $(".meta", item).replaceChildren(...(turn.lane ? [lane] : []), parts.join(" · "));
}

/** Tokens a second. */
function rate(tokens, ms) {
  const found = tokens / (ms / 1000);
  return found < 10 ? found.toFixed(1) : Math.round(found);
}

function failed(item, turn, error, message) {
  item.dataset.role = "error";
  item.setAttribute("role", "alert");
  const what = [error.status || "", error.code].filter(Boolean).join(" · ") || "error";
  $(".said", item).textContent = turn.text;
  const title = document.createElement("b");
  title.textContent = what;
  $(".meta", item).replaceChildren(title, ` ${error.message || "The endpoint said no more."}`);
  if (error.status === 401) return lockOut();
  const again = document.createElement("button");
  again.type = "button";
  again.className = "quiet";
  again.addEventListener("click", () => {
    if (chat.going) return;
    item.remove();
    answerTo(message);
  });
  item.append(again);
  const until = Date.now() + error.retryAfter * 1000;
  const count = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    again.disabled = left > 0;
    again.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0 && again.isConnected) setTimeout(count, 250);
  };
  count();
  toEnd();
}

function bubble(role, text, picture = "") {
  const item = copyOf("message");
  item.dataset.role = role;
  $(".said", item).textContent = text;
  const image = $("img", item);
  if (picture) Object.assign(image, { src: picture, hidden: false, alt: "Picture that was sent", onload: toEnd });
  $("#messages").append(item);
  toEnd();
  return item;
}

function toEnd() {
  $("#messages").scrollTop = $("#messages").scrollHeight;
}

function working(item, on) {
  item?.classList.toggle("working", on);
  // A screen reader gets the answer once, and not token by token.
  $("#messages").setAttribute("aria-busy", String(on));
  $("#send").textContent = on ? "Stop" : "Send";
}

function stopAnswer() {
  chat.going?.abort();
}

function grow() {
  const field = $("#text");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 240)}px`;
}

// --- a picture, made small before it leaves ---------------------------------------------------------------------------

async function takePicture(file) {
  const note = $("#picture .small");
  $("#picture").hidden = false;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const paper = canvas.getContext("2d");
    paper.fillStyle = "white";
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.imageSmoothingQuality = "high";
    paper.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    chat.picture = canvas.toDataURL("image/jpeg", 0.85);
    Object.assign($("#picture img"), { src: chat.picture, hidden: false });
    const kib = Math.round((chat.picture.length * 3) / 4 / 1024);
    note.textContent = `${canvas.width} × ${canvas.height}, ${kib} KiB`;
  } catch {
    dropPicture();
    $("#picture").hidden = false;
    note.textContent = "This file is no picture that the browser can read.";
  }
}

function dropPicture() {
  chat.picture = "";
  $("#file").value = "";
  $("#picture").hidden = true;
  $("#picture img").hidden = true;
  $("#picture img").removeAttribute("src");
}
