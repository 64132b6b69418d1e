"use strict";
// The API as every caller has it, and the words that all parts of the page use.

const $ = (selector, within = document) => within.querySelector(selector);
const KEY = "pilotlight-key";

// Kept for the tab's life: a reload doesn't ask again, another tab does.
const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
  // What no key looks like isn't sent: some of it can't be a header.
  likely: (value) => /^[A-Za-z0-9_-]{16,128}$/.test(value),
};

/** An answer that is none: `status` 0 stands for no answer at all. */
class ApiError extends Error {
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** One request with the key; throws ApiError for all but 200. */
async function ask(path, options = {}, secret = key.get()) {
  const headers = { Authorization: `Bearer ${secret}`, ...options.headers };
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no_connection", "The endpoint can't be reached.");
  }
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  const told = parsed(text)?.error ?? {};
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  throw new ApiError(answer.status, told.code ?? "", told.message ?? text.slice(0, 300), retryAfter);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A copy of a template's one element. */
const copyOf = (id) => $(`#${id}`).content.firstElementChild.cloneNode(true);

/** Shows a text, or hides its element where there is none. */
function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/** Seconds as people say them, on one line: 0.42 s, 8.1 s, 75 s, 12 min, 3 h. */
function seconds(value) {
  return value < 10 ? `${value.toFixed(value < 1 ? 2 : 1)}\u00a0s` : span(value);
}

/** A longer time, in whole steps. */
function span(value) {
  if (value < 100) return `${Math.round(value)}\u00a0s`;
  if (value < 5400) return `${Math.round(value / 60)}\u00a0min`;
  if (value < 129600) return `${Math.round(value / 3600)}\u00a0h`;
  return `${Math.round(value / 86400)}\u00a0days`;
}
