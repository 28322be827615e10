// The models of the page without a service: `api.js` of the service, computed in this browser.

import {showError} from "../messages.js";
import {Problem} from "../problem.js";
import {loadAudio} from "./decoding.js";
import {buildOverview} from "./formats.js";
import {loadFile} from "./loading.js";
import {checkBrowser, Session, startRuntime} from "./onnx.js";
import {Predictor} from "./predictor.js";
import {Resampler} from "./resampling.js";
import {Stream} from "./streaming.js";
import {SileroModel} from "./vad.js";

export {Problem};

const LIST = "models/models.json";
const BLOCK_SECONDS = 4;  // of a recording between two messages about the progress
const opened = new Map();  // by name of the model
let list = null, runtime = null, loadedBytes = 0;

// A model on this machine needs no key.
export const key = {get: () => "", set: () => {}, forget: () => {}};

// The models of the folder, in the form of the service; the first one is then loaded in the background.
export async function fetchModels() {
  checkBrowser();
  const response = await fetch(LIST).catch(() => null);
  const document = response?.ok ? await response.json().catch(() => null) : null;
  if (!document) throw new Problem(0, `The file ${LIST} could not be loaded. Check that the host has all files of the folder, then try again.`, "A file of this page is missing or damaged");
  list = document;
  openPredictor(list.models[0].name).catch(showError);
  return list.models;
}

// One of the two example recordings, as a file.
export async function fetchExample(name) {
  const response = await fetch(`page/${name}.mp3`).catch(() => null);
  if (!response?.ok) throw new Problem(0, `The file page/${name}.mp3 could not be loaded. Check that the host has all files of the folder.`, "A file of this page is missing or damaged");
  return new File([await response.blob()], `${name}.mp3`, {type: "audio/mpeg"});
}

// The answer of a recording, its timeline and its downloads; onStatus is called with texts about the progress.
export async function fetchOverview(file, {model, ...config}, signal, onStatus) {
  const predictor = await openPredictor(model, onStatus);
  const {samples, rate} = await loadAudio(file);
  const wave = new Resampler(rate, predictor.rate).add(samples, {last: true}), seconds = wave.length / predictor.rate;
  const stream = new Stream(predictor, predictor.rate, {...config, merge: false}), segments = [];
  const report = share => {
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    onStatus(`Processing ${file.name}: ${Math.floor(100 * share)} % …`);
  };
  const mean = await predictor.predict(file.name, wave, share => report(share / 2));
  const size = BLOCK_SECONDS * predictor.rate;
  for (let first = 0; first < wave.length; first += size) {
    segments.push(...await stream.feed(wave.subarray(first, first + size)));
    report(0.5 + first / wave.length / 2);
  }
  segments.push(...await stream.close());
  return buildOverview(predictor, mean, predictor.joinSegments(file.name, segments, seconds, stream.windows));
}

// Opens a model once; further calls wait for the same one.
export function openPredictor(name, onStatus = () => {}) {
  if (!opened.has(name)) {
    const opening = loadPredictor(findDescription(name));
    opened.set(name, opening);
    opening.catch(() => opened.delete(name));  // so that "Try again" loads it again
  }
  const timer = setInterval(() => onStatus(describeLoading(name)), 200);
  return opened.get(name).finally(() => clearInterval(timer));
}

function describeLoading(name) {
  const total = [...Object.values(list.runtime), findDescription(name).file].reduce((sum, {bytes}) => sum + bytes, 0);
  const share = Math.min(1, loadedBytes / total);
  return share < 1 ? `Loading the model: ${Math.floor(100 * share)} % of ${(total / 1e6).toFixed(0)} MB …` : "Opening the model …";
}

const findDescription = name => list.models.find(model => model.name === name);

async function loadPredictor(description) {
  const load = file => loadFile(file, count => { loadedBytes += count; });
  const content = load(description.file);
  runtime ??= openRuntime(load);
  runtime.catch(() => { runtime = null; });
  const [{ort, silero}, graph] = await Promise.all([runtime, content]);
  return new Predictor(description, await openSession(ort, graph, description.file.path), silero);
}

// onnxruntime-web, and the graphs of speech detection.
async function openRuntime(load) {
  const {wasm, encoder, recurrence} = list.runtime;
  const [binary, ...graphs] = await Promise.all([wasm, encoder, recurrence].map(load));
  const ort = await startRuntime(binary);
  const silero = [];
  for (const graph of graphs) silero.push(await openSession(ort, graph, encoder.path));
  return {ort, silero: new SileroModel(...silero)};
}

function openSession(ort, content, path) {
  return Session.open(ort, content).catch(error => {
    throw new Problem(null, `${path}: ${error.message}. Try another browser, or close other tabs.`, "The model cannot be opened");
  });
}
