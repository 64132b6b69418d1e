"use strict";
// The lanes, live. Asking wakes no lane, but keeps the gateway awake: so only a tab that is seen and used asks.

const EVERY_MS = 2000;
const UNUSED_MS = 5 * 60 * 1000;
const SHOWN_S = 300;

// What a state means to the eye; its word is always there, too.
const TONE = { warm: "good", warming: "busy", slow: "busy", cold: "calm", down: "bad" };

const watch = {
  on: false,
  timer: 0,
  clock: 0,
  used: 0, // when this page was last touched
  asked: 0, // when the question under way was sent; 0: there is none
  seen: null,
  seenAt: 0,
  wait: null,
  history: new Map(),
};

function startWatching() {
  Object.assign(watch, { on: true, used: Date.now(), seen: null });
  watch.history.clear();
  $("#lanes").replaceChildren();
  clearInterval(watch.clock);
  watch.clock = setInterval(tick, 1000);
  look();
}

function stopWatching() {
  watch.on = false;
  clearTimeout(watch.timer);
  clearInterval(watch.clock);
  watch.wait?.abort();
}

const unused = () => Date.now() - watch.used > UNUSED_MS;
const paused = () => document.hidden || unused();
const stale = () => "stale" in $("#lanes").dataset;

function tick() {
  if (watch.timer && unused()) rest();
  const passed = Math.round((Date.now() - watch.asked) / 1000);
  if (watch.asked && passed > 2) pulse("busy", `asking for ${passed} s`);
  if (!stale()) for (const [name, lane] of Object.entries(watch.seen?.lanes ?? {})) since(name, lane);
}

/** Asks once, and again after a while. */
async function look() {
  clearTimeout(watch.timer);
  watch.timer = 0;
  watch.wait?.abort();
  if (!watch.on) return;
  if (paused()) return rest();
  const wait = (watch.wait = new AbortController());
  watch.asked = Date.now();
  if (!watch.seen) pulse("busy", "asking");
  try {
    const answer = await ask("/v1/lanes", { signal: wait.signal });
    watch.seen = await answer.json();
    watch.seenAt = Date.now();
    delete $("#lanes").dataset.stale;
    draw();
    pulse("good", "live");
    notice("");
  } catch (error) {
    if (wait.signal.aborted || !watch.on) return;
    if (error.status === 401) return lockOut();
    if (error.status === 404) return withoutStatus();
    lost(error);
  } finally {
    if (watch.wait === wait) watch.asked = 0;
  }
  if (watch.on && !wait.signal.aborted) watch.timer = setTimeout(look, EVERY_MS);
}

function rest() {
  clearTimeout(watch.timer);
  watch.timer = 0;
  watch.wait?.abort();
  pulse("calm", "paused");
  outdated();
  notice(`Paused: while this page asks, the gateway stays awake, and that costs money.${asOf()}`, true);
}

/** What is shown is no more than what was seen last. */
function outdated() {
  $("#lanes").dataset.stale = "";
}

function asOf() {
  return watch.seen ? ` Seen at ${new Date(watch.seenAt).toLocaleTimeString()}.` : "";
}

/** Input of any kind goes on with what was paused. */
function use() {
  const was = watch.on && !watch.timer && unused();
  watch.used = Date.now();
  if (was) look();
}

function withoutStatus() {
  pulse("calm", "no status");
  notice("This endpoint shows no lanes. The chat works.");
}

function lost(error) {
  const away = error.code === "no_status";
  const told = away
    ? "The program that watches the lanes is away. Requests are served without it: the chat works."
    : `${error.message || "No answer."} ${error.status ? `(${error.status}) ` : ""}Asked again every 2 s.`;
  pulse(away ? "busy" : "bad", away ? "no status" : "no connection");
  outdated();
  notice(told + asOf());
}

function pulse(tone, text) {
  const chip = $("#pulse");
  chip.dataset.tone = tone;
  show(chip, text);
}

function notice(text, resume = false) {
  const box = $("#notice");
  show($("p", box), text);
  box.hidden = !text;
  $("button", box).hidden = !resume;
}

// --- drawing ----------------------------------------------------------------------------------------------------------

function draw() {
  const { lanes, waiting, time } = watch.seen;
  show($("#line"), waiting ? `${waiting} waiting for a free lane` : "nobody waits");
  const list = $("#lanes");
  for (const item of [...list.children]) if (!(item.dataset.name in lanes)) item.remove();
  for (const [name, lane] of Object.entries(lanes)) {
    const past = watch.history.get(name) ?? [];
    watch.history.set(name, past);
    past.push({ time, value: lane.first_token_s });
    while (past[0].time < time - SHOWN_S) past.shift();
    card(list, name, lane, past, time);
  }
}

function itemOf(name) {
  return [...$("#lanes").children].find((item) => item.dataset.name === name);
}

function card(list, name, lane, past, now) {
  let item = itemOf(name);
  if (!item) {
    item = copyOf("lane");
    item.dataset.name = name;
    $("h3", item).textContent = name;
    list.append(item);
  }
  const chip = $(".chip", item);
  chip.dataset.tone = item.dataset.tone = TONE[lane.state] ?? "calm";
  since(name, lane);
  first($(".figure", item), lane);
  plot(item, past, now);
  const of = lane.capacity ? ` of ${lane.capacity}` : "";
  $(".flight", item).textContent = `${lane.in_flight ?? 0}${of} in flight`;
  show($(".expected", item), expectation(lane.expected_first_token_s));
  const troubled = lane.state === "down" || lane.state === "slow" || lane.state === "warming";
  show($(".why", item), troubled ? [...new Set([lane.reason, lane.error])].filter(Boolean).join(": ") : "");
  warmUp(item, lane);
}

/** The first token as it was seen, or else as a short text's is expected. */
function first(figure, lane) {
  const seen = lane.first_token_s;
  const expected = lane.expected_first_token_s?.short ?? null;
  figure.classList.toggle("unseen-yet", seen === null);
  $("b", figure).textContent = seen !== null ? seconds(seen) : expected !== null ? `~\u00a0${seconds(expected)}` : "–";
  $("span", figure).textContent = seen !== null || expected === null ? "first token" : "first token, expected";
}

/** State and age; the clock runs on between two answers. */
function since(name, lane) {
  const item = itemOf(name);
  if (!item) return;
  const passed = lane.seconds + (Date.now() - watch.seenAt) / 1000;
  show($(".chip", item), lane.state === "warming" ? `starting, ${span(passed)}` : `${lane.state}, ${span(passed)}`);
  const bar = $("progress", item);
  if (!bar.hidden && bar.max > 1) bar.value = Math.min(passed, bar.max * 0.97);
}

/** A cold start as it happens: against the last one's time, if there was one. */
function warmUp(item, lane) {
  const bar = $("progress", item);
  bar.hidden = lane.state !== "warming";
  if (bar.hidden) return;
  bar.setAttribute("aria-label", "Cold start");
  if (lane.wake_s > 1) {
    bar.max = lane.wake_s;
    bar.value = Math.min(lane.seconds, lane.wake_s * 0.97);
    show($(".why", item), `The start before took ${seconds(lane.wake_s)}.`);
  } else {
    bar.removeAttribute("value");
  }
}

function expectation(sizes) {
  const told = Object.entries(sizes ?? {}).filter(([, value]) => value !== null);
  return told.length ? `expected: ${told.map(([size, value]) => `${size} ${seconds(value)}`).join(" · ")}` : "";
}

/** First-token times of the last minutes, from 0 up; gaps where nothing was known. */
function plot(item, past, now) {
  const known = past.filter((each) => each.value !== null);
  const most = Math.max(...known.map((each) => each.value), 0.001) * 1.2;
  const at = (each) => `${(200 - ((now - each.time) / SHOWN_S) * 200).toFixed(1)} ${(47 - (each.value / most) * 46).toFixed(1)}`;
  const line = known.map((each, index) => `${index ? "L" : "M"}${at(each)}`).join("");
  const left = known[0] && at(known[0]).split(" ")[0];
  $(".stroke", item).setAttribute("d", line);
  $(".area", item).setAttribute("d", line && `${line}V48H${left}Z`);
  const values = known.map((each) => each.value);
  const told = known.length ? `${seconds(Math.min(...values))} to ${seconds(Math.max(...values))}` : "not seen yet";
  $(".plot", item).setAttribute("aria-label", `First token in the last five minutes: ${told}`);
}
