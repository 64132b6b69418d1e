"use strict";
// The door: a key is tried on the list of models, which wakes no lane. What is behind it is shown only then.

/** Opens with `secret`, or says why not. */
async function enter(secret) {
  if (!key.likely(secret)) return say(secret ? "This can't be a key: keys are 16 to 128 letters, digits, - or _." : "");
  const began = Date.now();
  const clock = setInterval(() => {
    const passed = Math.round((Date.now() - began) / 1000);
    if (passed) say(`Asking for ${passed} s. An endpoint that slept needs some seconds to start.`, "calm");
  }, 1000);
  say("Asking.", "calm");
  $("#door button").disabled = true;
  try {
    const { data } = await (await ask("/v1/models", {}, secret)).json();
    key.set(secret);
    open(data[0].id);
  } catch (error) {
    if (error.status === 401) key.forget();
    say(error.status === 401 ? "This key opens nothing here." : `${error.message || "No answer."} (${error.status})`);
  } finally {
    clearInterval(clock);
    $("#door button").disabled = false;
  }
}

function open(model) {
  $("#key").value = "";
  say("");
  $("#door").hidden = true;
  $("#room").hidden = $("#forget").hidden = false;
  show($("#model"), model);
  showCode(model);
  begin(model);
  startWatching();
  $("#text").focus({ preventScroll: true });
}

/** Leaves nothing of what was behind the door. */
function leave() {
  key.forget();
  stopWatching();
  begin("");
  $("#lanes").replaceChildren();
  for (const id of ["model", "line", "pulse"]) show($(`#${id}`), "");
  for (const selector of ["#base", "#name", "#code code"]) $(selector).textContent = "";
  notice("");
  $("#room").hidden = $("#forget").hidden = true;
  $("#door").hidden = false;
  $("#key").focus();
}

/** The key that was good is good no more. */
function lockOut() {
  leave();
  say("This key opens nothing here any more.");
}

function say(text, tone = "bad") {
  $("#door-says").textContent = text;
  $("#door-says").dataset.tone = tone;
}

function on(selector, event, act) {
  $(selector).addEventListener(event, act);
}

on("#door form", "submit", (event) => {
  event.preventDefault();
  enter($("#key").value.trim());
});
on("#forget", "click", leave);
on("#notice button", "click", use);
on("#clear", "click", () => begin(chat.model));
on("#chat", "submit", (event) => {
  event.preventDefault();
  if (chat.going) stopAnswer();
  else send();
});
on("#text", "input", grow);
on("#text", "keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
on("#text", "paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) takePicture(file);
});
on("#file", "change", (event) => event.target.files[0] && takePicture(event.target.files[0]));
on("#picture button", "click", dropPicture);
on("#chat", "dragover", (event) => event.preventDefault());
on("#chat", "drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) takePicture(event.dataTransfer.files[0]);
});
on("#copy", "click", copyCode);
for (const tab of tabs()) tab.addEventListener("click", () => choose(tab));
on("[role=tablist]", "keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  const all = tabs();
  choose(all[(all.indexOf(document.activeElement) + step + all.length) % all.length]);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && stopAnswer());
document.addEventListener("visibilitychange", () => {
  if (!watch.on) return;
  if (document.hidden) return rest();
  watch.used = Date.now();
  look();
});
for (const event of ["pointerdown", "keydown", "wheel", "touchstart"]) document.addEventListener(event, use, { passive: true });

if (key.get()) enter(key.get());
else $("#key").focus();
