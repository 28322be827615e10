// The page: controls, state, and what is displayed.

import {readAddress, SETTINGS, writeAddress} from "./address.js";
import * as api from "./api.js";
import {assignColours} from "./colours.js";
import {saveAnswer, saveTables} from "./downloads.js";
import {drawFigure, resizeFigure} from "./figure.js";
import {openStream} from "./live.js";
import {Player} from "./player.js";
import {record} from "./recorder.js";
import * as result from "./result.js";
import {findSegment, formatTime} from "./segments.js";
import {envelope, spectrogram} from "./spectrum.js";
import {decodeAudio, toWAV} from "./wav.js";

const MIN_SECONDS = 15;  // length of the live timeline at its start
const $ = id => document.getElementById(id);
const state = {models: [], file: null, pending: null, tracks: [], finished: [], microphone: null, work: null, seconds: 0};

const showBars = time => {
  const tracks = state.tracks.filter(({segments}) => segments.length);
  $("now-bars").hidden = !tracks.length || Boolean(state.microphone);
  $("now-bars").replaceChildren(...result.bars(tracks, task(), classColours(), time));
};
const player = new Player({sound: $("sound"), plot: $("plot"), figure: $("figure"), cursor: $("cursor")}, time =>
  state.tracks.map(({name, segments}) => {
    const segment = findSegment(segments, time);
    return `, ${state.tracks.length > 1 ? `${name}: ` : ""}${segment && result.describeAnswer(segment, task()) || "no speech"}`;
  }).join(""), showBars);

const findModel = name => state.models.find(model => model.name === name);
const tasksOf = model => Object.keys(model.classes).filter(name => model.classes[name].length);
const task = () => $("task").value;
const selectedModels = () => [$("model").value, $("other").value].map(findModel).filter(Boolean);
const classColours = () => assignColours([...new Set(selectedModels().flatMap(model => model.classes[task()] ?? []))]);
const query = () => ({
  window: Number($("window").value), hop: Number($("hop").value), smooth: Number($("smooth").value), speech: $("speech").checked,
});

async function loadModels() {
  try {
    state.models = await api.fetchModels();
  } catch (error) {
    return showError(error);
  }
  $("key-form").hidden = $("forget").hidden = !api.key.get();
  clearError();
  const names = state.models.map(model => model.name);
  $("model").replaceChildren(...names.map(name => new Option(name)));
  $("other").replaceChildren(new Option("nothing", ""), ...names.map(name => new Option(name)));
  $("model-field").hidden = $("other-field").hidden = names.length < 2;
  const {max_seconds: seconds, max_bytes: bytes} = state.models[0];
  $("limits").textContent = `WAV, FLAC, MP3, Ogg, Opus, m4a, webm; at most ${formatTime(seconds)} minutes and ${Math.floor(bytes / 2 ** 20)} MB`;
  readAddress();
  updateModel();
  const pending = state.pending;
  state.pending = null;
  if (pending) await recognizeAll(pending);
}

// Updates what depends on the selected model.
function updateModel() {
  for (const option of $("other").options) option.disabled = option.value === $("model").value;
  if ($("other").value === $("model").value) $("other").value = "";
  const tasks = tasksOf(findModel($("model").value));
  const previous = task();
  $("task").replaceChildren(...tasks.map(name => new Option(name)));
  if (tasks.includes(previous)) $("task").value = previous;
  $("task-field").hidden = tasks.length < 2;
  $("about").hidden = false;
  $("card").replaceChildren(...selectedModels().flatMap(model => result.card(model.card)));
}

function clearError() {
  $("problem").replaceChildren();
  setStatus("");
}

function showError(error) {
  if (error.name === "AbortError") return;
  clearError();
  const isProblem = error instanceof api.Problem;
  if (!isProblem) console.error(error);
  const title = isProblem ? error.title : "Something went wrong in this page";
  $("problem").append(result.element("strong", {}, title), result.element("p", {}, error.message));
  if (error.status === 401) $("key-form").hidden = false;
  $("forget").hidden = !api.key.get();
  if (error.canRetry && (state.file || !state.models.length)) {
    const button = result.element("button", {type: "button"}, "Try again");
    button.addEventListener("click", () => state.models.length ? recognize(state.file) : loadModels());
    $("problem").append(button);
  }
}

// Screen readers read the status; it is visible only if nothing else on the page says the same.
function setStatus(text, visible = true) {
  $("status").textContent = text;
  $("status").classList.toggle("unseen", !visible);
}

// Recognizes one file, or several one after the other with a list of their answers.
async function recognizeAll(files) {
  if (!state.models.length) {
    state.pending = files;  // until there is a key
    setStatus(`${files.length > 1 ? `${files.length} files` : files[0].name} will be processed when the service answers.`);
    return;
  }
  state.finished = [];
  $("files").hidden = true;
  for (const file of files) {
    await recognize(file);
    if (files.length < 2) return;
    const isDone = state.file === file && state.tracks.length > 0 && !$("result").hidden;
    state.finished.push({file, tracks: isDone ? state.tracks : null, seconds: isDone ? state.seconds : 0, problem: isDone ? "" : $("problem").textContent});
    showFiles();
  }
}

function showFiles() {
  $("files").hidden = false;
  $("file-list").replaceChildren(...state.finished.map(entry => result.fileEntry(entry, task(), classColours(), button => on(button, "click", () => recognize(entry.file)))));
}

async function recognize(file) {
  if (!file || !state.models.length) return;
  state.work?.abort();
  const work = state.work = new AbortController();
  state.file = file;
  for (const id of ["result", "timeline", "takeaway"]) $(id).hidden = true;
  player.load(null, 0);
  clearError();
  setStatus(`Processing ${file.name} …`);
  try {
    const sound = await decodeAudio(file);
    const sent = reduceFile(file, sound);
    const tracks = await Promise.all(selectedModels().map(model => fetchTrack(model, sent, work.signal)));
    if (work.signal.aborted) return;
    Object.assign(state, {tracks, sound, seconds: tracks[0].whole.end});
    player.load(file, state.seconds);
    $("sound").hidden = !sound;
    $("unplayed").hidden = Boolean(sound);
    $("view").hidden = !sound;
    await showResult();
    setStatus(result.describeResult(state, task()), state.tracks.every(({segments}) => !segments.length));
    $("result").focus();
  } catch (error) {
    work.abort();
    if (state.work === work) showError(error);
  }
}

// A file that is too large for the service is sent as mono at 16 kHz, if the browser can decode it.
function reduceFile(file, sound) {
  const isLarge = file.size > state.models[0].max_bytes;
  if (!isLarge || !sound || 2 * sound.samples.length >= file.size) return file;
  return toWAV([sound.samples], sound.rate, file.name);
}

// The answers of one model, for one upload: for the whole recording, and over time.
async function fetchTrack(model, file, signal) {
  const answer = await api.fetchOverview(file, {model: model.name, ...query()}, signal, share => {
    setStatus(share < 1 ? `Sending ${file.name}: ${Math.round(100 * share)} % …` : `Processing ${file.name} …`);
  });
  const {timeline, headlines, files, hops, whole: {attention, words}} = answer;
  const whole = Object.keys(headlines).length ? {...timeline, words} : answer.whole;  // one answer for one recording
  return {name: model.name, thresholds: model.thresholds, whole, segments: hops, attention, headlines, files, timeline};
}

async function showResult() {
  const {tracks, file} = state;
  const colours = classColours();
  $("result").hidden = $("takeaway").hidden = false;
  document.body.classList.add("answered");
  $("result-title").textContent = file.name;
  $("download").textContent = tracks.length > 1 ? `Download the answer of ${tracks[0].name}` : "Download";
  $("verdicts").replaceChildren(...tracks.map(track => result.verdict(track, task(), colours, tracks.length > 1)));
  $("agreement").textContent = result.describeAgreement(tracks, task());
  $("tables").replaceChildren(...tracks.map(track => result.table(track, task(), colours, time => player.play(time))));
  $("as-table").hidden = tracks.every(({segments}) => !segments.length);
  await drawTimeline();
}

async function drawTimeline() {
  const {tracks, sound, seconds} = state;
  const hasSegments = tracks.some(({segments}) => segments.length);
  $("timeline").hidden = !hasSegments && !sound;
  if ($("timeline").hidden) return;
  const isWaveform = document.querySelector("[name=view]:checked").value === "wave";
  const isUnsure = tracks.some(({segments}) => segments.some(segment => segment.tasks[task()]?.label === null));
  $("legend").replaceChildren(...result.legend(classColours(), isUnsure));
  await drawFigure($("figure"), {
    seconds,
    envelope: sound && isWaveform ? envelope(sound.samples) : null,
    spectrogram: sound && !isWaveform ? spectrogram(sound.samples, sound.rate) : null,
    tracks: tracks.map(track => ({...track, threshold: track.thresholds[task()]})),
    task: task(), colours: classColours(),
  });
  player.show();
}

// Starts a recording, with live answers or without, or stops the current one.
async function toggleMicrophone(button, isLive) {
  if (state.microphone) return state.microphone.stop();
  if (!state.models.length) return loadModels().then(() => $("key-form").hidden || $("key").focus());
  clearError();
  state.file = null;  // "Try again" must not process the recording before
  state.microphone = {stop: () => {}};  // until the user has allowed the microphone
  const {max_seconds: maxSeconds} = state.models[0];
  let stream = null, peak = 0;
  const segments = [];
  const recording = await record((block, level) => {
    stream?.send(block);
    peak = Math.max(level, 0.8 * peak);
    $("level").value = peak;
    $("clock").textContent = formatTime(Math.floor(recording.seconds()));
    if (recording.seconds() > maxSeconds - 1) state.microphone?.stop();
  }).catch(error => { state.microphone = null; throw error; });
  state.work?.abort();
  state.microphone = {
    stop: async () => {
      state.microphone = null;
      stream?.end();
      setRecording(button, false, isLive);
      await recognize(await recording.stop());
    },
  };
  setRecording(button, true, isLive);
  if (!isLive) return;
  const name = $("model").value;
  Object.assign(state, {sound: null, tracks: [{name, thresholds: findModel(name).thresholds, segments, attention: {}}]});
  player.load(null, 0);
  const start = {rate: recording.rate, model: name, ...query(), merge: false};
  stream = openStream(start, tasksOf(findModel(name))[0], message => showLiveSegments(message, segments, recording).catch(showError), showError);
}

function setRecording(button, isOn, isLive) {
  button.setAttribute("aria-pressed", String(isOn));
  button.lastElementChild.textContent = isOn ? "Stop" : isLive ? "Live" : "Record";
  for (const other of [$("record"), $("live"), $("choose")]) other.disabled = isOn && other !== button;
  for (const id of ["result", "timeline", "takeaway"]) $(id).hidden = true;
  $("listening").hidden = !isOn;
  $("plot-hint").hidden = isOn;
  $("now").textContent = $("latency").textContent = "";
  setStatus(isOn ? "The microphone is on." : "");
}

// Adds the segments of a message; they replace earlier ones from the start of the first.
async function showLiveSegments({items, latency_ms: latency}, segments, recording) {
  if (!items.length) return;
  const first = items[0].start, last = items.at(-1);
  segments.splice(segments.findLastIndex(({end}) => end <= first + 0.005) + 1, Infinity, ...items);
  state.seconds = Math.max(MIN_SECONDS, recording.seconds(), last.end);
  const answer = last.tasks[task()];
  $("now").replaceChildren(...(answer ? [result.chip(answer.label && classColours()[answer.label])] : []), result.describeAnswer(last, task()), result.element("span", {class: "soft details"}, result.describeDetails(last, task())));
  const delay = Math.max(0, recording.seconds() - last.end);
  $("latency").textContent = `Answered in ${Math.round(latency)} ms; the newest segment ended ${delay.toFixed(1)} s ago.`;
  await drawTimeline();
}

function on(target, name, handle) {
  target.addEventListener(name, event => new Promise(resolve => resolve(handle(event))).catch(showError));
}

on($("choose"), "click", () => $("file").click());
on($("file"), "change", () => {
  const files = [...$("file").files];
  $("file").value = "";
  return files.length ? recognizeAll(files) : null;
});
on(document, "dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
on(document, "dragleave", event => event.relatedTarget || $("drop").classList.remove("over"));
on(document, "drop", event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (state.microphone) return;
  const files = [...event.dataTransfer.files];
  if (files.length) return recognizeAll(files);
  throw new api.Problem(null, "Drop audio files: WAV, FLAC, MP3, Ogg, Opus, m4a or webm.", "This is no file");
});
for (const id of ["record", "live"]) on($(id), "click", () => toggleMicrophone($(id), id === "live"));
for (const id of ["model", "other"]) on($(id), "change", () => { updateModel(); return state.microphone || recognize(state.file); });
for (const id of ["window", "hop", "smooth", "speech"])
  on($(id), "change", () => $(id).reportValidity() && !state.microphone && recognize(state.file));
on($("task"), "change", showResult);
on($("view"), "change", drawTimeline);
for (const id of SETTINGS) on($(id), "change", writeAddress);
on($("all-csv"), "click", () => saveTables(state.finished.flatMap(({tracks}) => tracks ? [tracks[0].files.csv] : [])));
for (const button of document.querySelectorAll("[data-format]")) on(button, "click", () => saveAnswer(state.file, state.tracks[0], $("figure"), button.dataset.format));
on($("key-form"), "submit", event => {
  event.preventDefault();
  api.key.set($("key").value.trim());
  $("key").value = "";
  return loadModels().then(() => state.pending || recognize(state.file));
});
on($("forget"), "click", () => { api.key.forget(); $("forget").hidden = true; return loadModels(); });
on(matchMedia("(prefers-color-scheme: dark)"), "change", () => state.tracks.length && drawTimeline());
new ResizeObserver(() => { resizeFigure($("figure"))?.then(() => player.show()); }).observe($("plot"));
loadModels();
