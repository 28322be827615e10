// The page: its controls.

import {readAddress, SETTINGS, writeAddress} from "./address.js";
import {recognize, recognizeAll} from "./answers.js";
import * as api from "./api.js";
import {describeModel} from "./card.js";
import {saveAnswer, saveTables} from "./downloads.js";
import {clearError, on, setStatus, showError} from "./messages.js";
import {toggleMicrophone} from "./microphone.js";
import {formatTime} from "./segments.js";
import {$, findModel, longestSeconds, selectedModels, state, task, tasksOf} from "./state.js";
import {drawTimeline, showResult, showTimeline, showTip} from "./view.js";

async function loadModels() {
  state.retry = loadModels;
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
  $("limits").textContent = `WAV, FLAC, MP3, Ogg, Opus, m4a, webm; at most ${formatTime(longestSeconds())} minutes`;
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
  $("card").replaceChildren(...selectedModels().flatMap(describeModel));
}

// Waits for the service's models, which may need a key; whether they are there.
async function haveModels() {
  if (!state.models.length) await loadModels();
  if (!state.models.length && !$("key-form").hidden) $("key").focus();
  return state.models.length > 0;
}

on($("choose"), "click", () => $("file").click());
on($("file"), "change", () => {
  const files = [...$("file").files];
  $("file").value = "";
  return files.length ? recognizeAll(files) : null;
});
for (const button of document.querySelectorAll("[data-example]"))
  on(button, "click", async () => {
    if (state.microphone) return;
    state.retry = () => button.click();
    setStatus("Loading the example …");
    await recognizeAll([await api.fetchExample(button.dataset.example)]);
  });
on(document, "dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
on(document, "dragleave", event => event.relatedTarget || $("drop").classList.remove("over"));
on(document, "drop", event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (state.microphone) throw new api.Problem(null, "Stop the recording, then drop the file again.", "A recording is in progress");
  const files = [...event.dataTransfer.files];
  if (files.length) return recognizeAll(files);
  state.retry = null;
  throw new api.Problem(null, "Drop audio files: WAV, FLAC, MP3, Ogg, Opus, m4a or webm.", "This is no file");
});
for (const id of ["record", "live"])
  on($(id), "click", async () => await haveModels() && toggleMicrophone($(id), id === "live"));
for (const id of ["model", "other"]) on($(id), "change", () => { updateModel(); return state.microphone || recognize(state.file); });
for (const id of ["window", "hop", "smooth", "speech"])
  on($(id), "change", () => $(id).reportValidity() && !state.microphone && recognize(state.file));
on($("task"), "change", () => state.tracks.length && !state.microphone && showResult());
on($("view"), "change", drawTimeline);
for (const id of SETTINGS) on($(id), "change", writeAddress);
on($("all-csv"), "click", () => saveTables(state.finished.flatMap(({tracks}) => tracks ? [tracks[0].files.csv] : [])));
for (const button of document.querySelectorAll("[data-format]"))
  on(button, "click", () => saveAnswer(state.file, state.tracks[0], $("figure"), button.dataset.format));
on($("key-form"), "submit", event => {
  event.preventDefault();
  api.key.set($("key").value.trim());
  $("key").value = "";
  return loadModels().then(() => state.pending || recognize(state.file));
});
on($("forget"), "click", () => { api.key.forget(); $("forget").hidden = true; return loadModels(); });
on($("plot"), "pointermove", showTip);
on($("plot"), "pointerleave", () => { $("tip").hidden = true; });
on(matchMedia("(prefers-color-scheme: dark)"), "change", () => state.tracks.length && showTimeline());
loadModels();
