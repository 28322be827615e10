// The page: what is pressed and dropped, and what is shown of it.

import * as api from "./api.js";
import {colours} from "./colours.js";
import {draw, resize} from "./figure.js";
import {stream} from "./live.js";
import {Player} from "./player.js";
import {listen} from "./recorder.js";
import * as result from "./result.js";
import {at, clock} from "./segments.js";
import {envelope, spectrogram} from "./spectrum.js";
import {decoded} from "./wav.js";

const LEAST = 15;  // seconds that the live timeline has place for from the start
const $ = id => document.getElementById(id);
const state = {models: [], file: null, tracks: [], microphone: null, work: null, seconds: 0};

const player = new Player({sound: $("sound"), plot: $("plot"), figure: $("figure"), cursor: $("cursor")}, time =>
  state.tracks.map(({name, segments}) => {
    const segment = at(segments, time);
    return `, ${state.tracks.length > 1 ? `${name}: ` : ""}${segment && result.words(segment, task()) || "no speech"}`;
  }).join(""));

const model = name => state.models.find(one => one.name === name);
const tasksOf = one => Object.keys(one.classes).filter(name => one.classes[name].length);
const task = () => $("task").value;
const palette = () => colours([...new Set(chosen().flatMap(one => one.classes[task()] ?? []))]);
const chosen = () => [$("model").value, $("other").value].map(model).filter(Boolean);
const query = () => ({
  window: Number($("window").value), hop: Number($("hop").value), smooth: Number($("smooth").value), speech: $("speech").checked,
});

async function begin() {
  try {
    state.models = await api.models();
  } catch (error) {
    return tell(error);
  }
  $("key-form").hidden = $("forget").hidden = !api.key.get();
  tell(null);
  const names = state.models.map(one => one.name);
  $("model").replaceChildren(...names.map(name => new Option(name)));
  $("other").replaceChildren(new Option("nothing", ""), ...names.map(name => new Option(name)));
  $("model-field").hidden = $("other-field").hidden = names.length < 2;
  const {max_seconds: seconds, max_bytes: bytes} = state.models[0];
  $("limits").textContent = `WAV, FLAC, MP3, Ogg, Opus, m4a, webm; at most ${clock(seconds)} minutes and ${Math.floor(bytes / 2 ** 20)} MB`;
  choose();
}

// After another model or task was chosen: what depends on it.
function choose() {
  for (const option of $("other").options) option.disabled = option.value === $("model").value;
  if ($("other").value === $("model").value) $("other").value = "";
  const tasks = tasksOf(model($("model").value));
  const before = task();
  $("task").replaceChildren(...tasks.map(name => new Option(name)));
  if (tasks.includes(before)) $("task").value = before;
  $("task-field").hidden = tasks.length < 2;
  $("about").hidden = false;
  $("card").replaceChildren(...chosen().flatMap(one => result.card(one.card)));
}

function tell(error) {
  if (error?.name === "AbortError") return;
  const box = $("problem");
  box.replaceChildren();
  say("");
  if (!error) return;
  const plain = error instanceof api.Problem;
  if (!plain) console.error(error);
  box.append(result.element("strong", {}, plain ? error.title : "Something went wrong in this page"), result.element("p", {}, error.message));
  if (error.status === 401) $("key-form").hidden = false;
  $("forget").hidden = !api.key.get();
  if (error.again && (state.file || !state.models.length)) {
    const button = result.element("button", {type: "button"}, "Try again");
    button.addEventListener("click", () => state.models.length ? hear(state.file) : begin());
    box.append(button);
  }
}

// A status is read aloud; it is seen only while there is nothing else that says the same.
function say(words, seen = true) {
  $("status").textContent = words;
  $("status").classList.toggle("unseen", !seen);
}

async function hear(file) {
  if (!file || !state.models.length) return;
  state.work?.abort();
  const work = state.work = new AbortController();
  state.file = file;
  for (const id of ["result", "timeline", "takeaway"]) $(id).hidden = true;
  player.load(null, 0);
  tell(null);
  say(`Listening to ${file.name} …`);
  try {
    const [sound, ...tracks] = await Promise.all([decoded(file), ...chosen().map(one => track(one, file, work.signal))]);
    if (work.signal.aborted) return;
    Object.assign(state, {tracks, sound, seconds: tracks[0].whole.end});
    player.load(file, state.seconds);
    $("sound").hidden = !sound;
    $("unplayed").hidden = Boolean(sound);
    $("view").hidden = !sound;
    await show();
    say(summary(), state.tracks.every(({segments}) => !segments.length));
    $("result").focus();
  } catch (error) {
    work.abort();
    if (state.work === work) tell(error);
  }
}

// What one model says: of all of it, and moment by moment.
async function track(one, file, signal) {
  const ask = more => api.recognize(file, {model: one.name, ...more}, signal).then(answer => answer.json());
  const [whole, timeline] = await Promise.all([ask({}), ask({...query(), merge: false})]);
  return {name: one.name, thresholds: one.thresholds, whole, segments: timeline.segments, attention: whole.attention};
}

function summary() {
  const words = state.tracks.map(({name, whole}) => {
    return `${state.tracks.length > 1 ? `${name}: ` : ""}${result.words(whole, task())}`;
  });
  const silent = state.tracks.every(({segments}) => !segments.length);
  const heard = silent ? " Nobody seems to speak: untick “Only where somebody speaks” for a timeline of everything." : "";
  return `${state.file.name}, ${clock(state.seconds, 1)}: ${words.join("; ")}.${heard}`;
}

async function show() {
  const {tracks, file} = state;
  const shades = palette();
  $("result").hidden = $("takeaway").hidden = false;
  $("result-title").textContent = file.name;
  $("download").textContent = tracks.length > 1 ? `Download ${tracks[0].name}’s answer` : "Download";
  $("verdicts").replaceChildren(...tracks.map(one => result.verdict(one, task(), shades, tracks.length > 1)));
  $("agreement").textContent = result.agreed(tracks, task());
  $("tables").replaceChildren(...tracks.map(one => result.table(one, task(), shades, time => player.play(time))));
  $("as-table").hidden = tracks.every(({segments}) => !segments.length);
  await picture();
}

async function picture() {
  const {tracks, sound, seconds} = state;
  const answered = tracks.some(({segments}) => segments.length);
  $("timeline").hidden = !answered && !sound;
  if ($("timeline").hidden) return;
  const wave = document.querySelector("[name=view]:checked").value === "wave";
  $("legend").replaceChildren(...result.legend(palette(), tracks.some(({segments}) => segments.some(one => one.tasks[task()]?.label === null))));
  await draw($("figure"), {
    seconds,
    envelope: sound && wave ? envelope(sound.samples) : null,
    spectrogram: sound && !wave ? spectrogram(sound.samples, sound.rate) : null,
    tracks: tracks.map(one => ({...one, threshold: one.thresholds[task()]})),
    task: task(), colours: palette(),
  });
  player.show();
}

async function microphone(button, lively) {
  if (state.microphone || !state.models.length) return state.microphone?.stop();
  tell(null);
  state.microphone = {stop: () => {}};  // while the visitor is asked for it
  const {max_seconds: longest} = state.models[0];
  let socket = null, loudest = 0;
  const answers = [];
  const recording = await listen((block, level) => {
    socket?.send(block);
    loudest = Math.max(level, 0.8 * loudest);
    $("level").value = loudest;
    $("clock").textContent = clock(Math.floor(recording.seconds()));
    if (recording.seconds() > longest - 1) state.microphone?.stop();
  }).catch(error => { state.microphone = null; throw error; });
  state.work?.abort();
  state.microphone = {
    stop: async () => {
      state.microphone = null;
      socket?.end();
      press(button, false, lively);
      await hear(await recording.stop());
    },
  };
  press(button, true, lively);
  if (!lively) return;
  const name = $("model").value;
  Object.assign(state, {sound: null, tracks: [{name, thresholds: model(name).thresholds, segments: answers, attention: {}}]});
  player.load(null, 0);
  const start = {rate: recording.rate, model: name, ...query(), merge: false};
  socket = stream(start, tasksOf(model(name))[0], message => told(message, answers, recording), tell);
}

function press(button, on, lively) {
  button.setAttribute("aria-pressed", String(on));
  button.lastElementChild.textContent = on ? "Stop" : lively ? "Live" : "Record";
  for (const other of [$("record"), $("live"), $("choose")]) other.disabled = on && other !== button;
  for (const id of ["result", "timeline", "takeaway"]) $(id).hidden = true;
  $("listening").hidden = !on;
  $("plot-hint").hidden = on;
  $("now").textContent = $("latency").textContent = "";
  say(on ? "The microphone is on." : "");
}

// A message of the live stream: what is new is added, what is told anew replaces what stood there.
async function told({items, latency_ms: latency}, answers, recording) {
  if (!items.length) return;
  const first = items[0].start;
  answers.splice(answers.findLastIndex(({end}) => end <= first + 0.005) + 1, Infinity, ...items);
  state.seconds = Math.max(LEAST, recording.seconds(), items.at(-1).end);
  const answer = items.at(-1).tasks[task()];
  $("now").replaceChildren(...(answer ? [result.chip(answer.label && palette()[answer.label])] : []), result.words(items.at(-1), task()));
  const behind = Math.max(0, recording.seconds() - items.at(-1).end);
  $("latency").textContent = `Answered in ${Math.round(latency)} ms; the newest answer ends ${behind.toFixed(1)} s before now.`;
  await picture();
}

async function download(format) {
  const own = {model: $("model").value, ...query(), format};
  try {
    const answer = await api.recognize(state.file, own);
    const link = result.element("a", {download: `${state.file.name.replace(/\.\w+$/, "")}.${format}`});
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    tell(error);
  }
}

function listenTo(target, name, act) {
  target.addEventListener(name, event => Promise.resolve(act(event)).catch(tell));
}

listenTo($("choose"), "click", () => $("file").click());
listenTo($("file"), "change", () => hear($("file").files[0]).finally(() => { $("file").value = ""; }));
listenTo(document, "dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
listenTo(document, "dragleave", event => event.relatedTarget || $("drop").classList.remove("over"));
listenTo(document, "drop", event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (!state.microphone) return hear(event.dataTransfer.files[0]);
});
for (const id of ["record", "live"]) listenTo($(id), "click", () => microphone($(id), id === "live"));
for (const id of ["model", "other"]) listenTo($(id), "change", () => { choose(); return state.microphone || hear(state.file); });
for (const id of ["window", "hop", "smooth", "speech"])
  listenTo($(id), "change", () => $(id).reportValidity() && !state.microphone && hear(state.file));
listenTo($("task"), "change", show);
listenTo($("view"), "change", picture);
for (const button of document.querySelectorAll("[data-format]")) listenTo(button, "click", () => download(button.dataset.format));
listenTo($("key-form"), "submit", event => {
  event.preventDefault();
  api.key.set($("key").value.trim());
  $("key").value = "";
  return begin().then(() => hear(state.file));
});
listenTo($("forget"), "click", () => { api.key.forget(); $("forget").hidden = true; return begin(); });
listenTo(matchMedia("(prefers-color-scheme: dark)"), "change", () => state.tracks.length && picture());
new ResizeObserver(() => { resize($("figure"))?.then(() => player.show()); }).observe($("plot"));
begin();
