// From files to answers: one upload for each model, or a stream for a recording that is too long for that.

import * as api from "./api.js";
import {streamSamples} from "./live.js";
import {clearError, on, setStatus, showError} from "./messages.js";
import * as result from "./result.js";
import {formatTime} from "./segments.js";
import {$, classColours, longestSeconds, query, selectedModels, state, task, tasksOf} from "./state.js";
import {hideResult, player, showResult, showTimeline, zoom} from "./view.js";
import {decodeAudio, toPCM, toWAV} from "./wav.js";

const DRAW_MS = 500;  // between two drawings of a long recording

// Recognizes one file, or several one after the other with a list of their answers.
export async function recognizeAll(files) {
  if (!state.models.length) {
    state.pending = files;  // until there is a key
    setStatus(`${files.length > 1 ? `${files.length} files` : files[0].name} will be processed when the model is available.`);
    return;
  }
  const batch = state.finished = files.length > 1 ? files.map(file => ({file, state: "waiting"})) : [];
  showFiles(true);
  if (files.length < 2) return recognize(files[0]);
  for (const entry of batch) {
    await recognize(entry.file);
    if (state.finished !== batch) return;  // others were dropped meanwhile
    const isDone = state.tracks.length > 0 && !$("result").hidden;
    const problem = [...$("problem").querySelectorAll("strong, p")].map(node => node.textContent).join(": ");
    Object.assign(entry, isDone ? {state: "done", tracks: state.tracks, seconds: state.seconds, settings: describeSettings()} : {state: "failed", problem});
    showFiles(entry !== batch.at(-1));
  }
}

// While others wait, the entries of the list cannot be chosen, since that would interrupt them.
function showFiles(isWaiting) {
  $("files").hidden = !state.finished.length;
  $("all-csv").disabled = isWaiting;
  $("file-list").replaceChildren(...state.finished.map(entry => result.fileEntry(entry, task(), classColours(), button => {
    button.disabled = isWaiting;
    on(button, "click", () => recognize(entry.file, entry.settings === describeSettings() ? entry.tracks : null));
  })));
}

const describeSettings = () => JSON.stringify([query(), selectedModels().map(({name}) => name)]);

// Shows the answer of a file: `known`, the tracks from before, or those of new requests.
export async function recognize(file, known = null) {
  if (!file || !state.models.length) return;
  state.work?.abort();
  const work = state.work = new AbortController();
  state.retry = () => recognize(file);
  Object.assign(state, {file, tracks: []});
  hideResult();
  clearError();
  setStatus(`Processing ${file.name} …`);
  try {
    const sound = await decodeAudio(file);
    if (work.signal.aborted) return;
    const isLong = sound && sound.samples.length > sound.rate * state.models[0].max_seconds;
    const isStreamed = isLong && !known;
    const tracks = known ?? await (isLong ? streamTracks : uploadTracks)(file, sound, work.signal);
    if (work.signal.aborted) return;
    Object.assign(state, {tracks, sound});
    if (!isStreamed) startResult(file, sound, tracks[0].whole.end);
    showResult();
    setStatus(result.describeResult(state, task()), tracks.every(({segments}) => !segments.length));
    $("result").focus({preventScroll: isStreamed});
  } catch (error) {
    work.abort();
    if (state.work !== work) return;
    hideResult();
    showError(error);
  }
}

function startResult(file, sound, seconds) {
  state.seconds = seconds;
  zoom.reset(seconds);
  player.load(file, seconds);
  $("sound").hidden = !sound;
  $("unplayed").hidden = Boolean(sound);
  $("view").hidden = !sound;
}

function uploadTracks(file, sound, signal) {
  const sent = reduceFile(file, sound);
  return Promise.all(selectedModels().map(model => fetchTrack(model, sent, signal)));
}

// A file that is too large for the service is sent as mono at 16 kHz, if the browser can decode it.
function reduceFile(file, sound) {
  const isLarge = file.size > state.models[0].max_bytes;
  if (!isLarge || !sound || 2 * sound.samples.length >= file.size) return file;
  return toWAV([toPCM(sound.samples)], sound.rate, file.name);
}

// The answers of one model, for one upload: for the whole recording, and over time.
async function fetchTrack(model, file, signal) {
  const answer = await api.fetchOverview(file, {model: model.name, ...query()}, signal, setStatus);
  const {timeline, headlines, files, hops, whole: {attention, words}} = answer;
  const whole = Object.keys(headlines).length ? {...timeline, words} : answer.whole;  // one answer for one recording
  return {name: model.name, thresholds: model.thresholds, whole, segments: hops, attention, headlines, files, timeline};
}

// Streams a long recording to each model, and draws the answers as they come.
async function streamTracks(file, sound, signal) {
  const seconds = sound.samples.length / sound.rate;
  if (seconds > longestSeconds())
    throw new api.Problem(413, `It has ${formatTime(seconds)} minutes, and this service takes ${formatTime(longestSeconds())}; cut it into parts`);
  const models = selectedModels();
  const tracks = models.map(({name, thresholds}) => ({name, thresholds, segments: [], attention: {}, headlines: {}, isPending: true}));
  Object.assign(state, {tracks, sound});
  startResult(file, sound, seconds);
  let drawn = -Infinity;
  const draw = () => {
    if (signal.aborted || performance.now() - drawn < DRAW_MS) return;
    drawn = performance.now();
    const done = Math.min(...tracks.map(({processed = 0}) => processed));
    setStatus(`Processing ${file.name}: ${formatTime(done)} of ${formatTime(seconds)} …`);
    if ($("result").hidden) showResult();
    else showTimeline();
  };
  return Promise.all(models.map(async (model, index) => {
    const track = tracks[index];
    const start = {model: model.name, ...query(), merge: false, summary: file.name};
    const {timeline, headlines, files} = await streamSamples(sound, start, tasksOf(model)[0], signal, message => {
      track.segments.push(...message.items);
      track.processed = message.processed_seconds;
      draw();
    });
    return {...track, isPending: false, whole: timeline, timeline, headlines, files};
  }));
}
