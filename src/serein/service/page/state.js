// State of the page, and what follows from its controls.

import {assignColours} from "./colours.js";

export const $ = id => document.getElementById(id);

// retry: what "Try again" does; pending: files that wait for a key; work: aborts the request in progress.
export const state = {
  models: [], file: null, pending: null, retry: null, work: null, microphone: null,
  tracks: [], sound: null, seconds: 0, finished: [],
};

export const findModel = name => state.models.find(model => model.name === name);
export const tasksOf = model => Object.keys(model.classes).filter(name => model.classes[name].length);
export const task = () => $("task").value;
export const selectedModels = () => [$("model").value, $("other").value].map(findModel).filter(Boolean);
export const classColours = () => assignColours([...new Set(selectedModels().flatMap(model => model.classes[task()] ?? []))]);
export const query = () => ({
  window: Number($("window").value), hop: Number($("hop").value), smooth: Number($("smooth").value), speech: $("speech").checked,
});
// Seconds of the longest recording: those of a request, or of a stream if that is longer.
export const longestSeconds = () => Math.max(state.models[0].max_seconds, state.models[0].max_stream_seconds);
