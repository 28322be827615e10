// Recording, with live answers or without.

import {openStream} from "./live.js";
import {clearError, setStatus, showError} from "./messages.js";
import {record} from "./recorder.js";
import * as result from "./result.js";
import {Scope} from "./scope.js";
import {formatTime} from "./segments.js";
import {recognize} from "./answers.js";
import {$, classColours, findModel, longestSeconds, query, state, task, tasksOf} from "./state.js";
import {hideResult} from "./view.js";

const PAUSE = 0.7;  // seconds after which the end of speech is shown
const scope = new Scope($("scope"));

// Starts a recording, with live answers or without, or stops the current one.
export async function toggleMicrophone(button, isLive) {
  if (state.microphone) return state.microphone.stop();
  clearError();
  Object.assign(state, {file: null, retry: null});  // "Try again" must not process the recording before
  state.microphone = {stop: () => {}};  // until the user has allowed the microphone
  const longest = longestSeconds();
  const answers = {segments: [], growing: null, ended: 0};
  let stream = null, peak = 0;
  const recording = await record((block, level) => {
    stream?.send(block);
    scope.push(block);
    peak = Math.max(level, 0.8 * peak);
    $("level").value = peak;
    if (recording.seconds() > longest - 1) state.microphone?.stop();
  }).catch(error => { state.microphone = null; throw error; });
  state.work?.abort();
  hideResult();
  const clock = setInterval(() => {
    $("clock").textContent = formatTime(scope.seconds(), 1);
    if (stream) showNow(answers);
  }, 100);
  state.microphone = {
    stop: async () => {
      state.microphone = null;
      clearInterval(clock);
      scope.stop();
      stream?.end();
      setRecording(button, false, isLive);
      await recognize(await recording.stop());
    },
  };
  setRecording(button, true, isLive);
  scope.start(recording.rate, isLive, task(), classColours());
  if (!isLive) return;
  const name = $("model").value;
  const start = {rate: recording.rate, model: name, ...query(), merge: false, provisional: true};
  stream = openStream(start, tasksOf(findModel(name))[0], {
    onSegments: message => addSegments(message, answers),
    onProvisional: item => {
      answers.growing = scope.growing = item;
      if (item) answers.delay = Math.max(0, scope.seconds() - item.end);
    },
    onError: showError,
  });
}

function setRecording(button, isOn, isLive) {
  button.setAttribute("aria-pressed", String(isOn));
  button.lastElementChild.textContent = isOn ? "Stop" : isLive ? "Live" : "Record";
  for (const other of [$("record"), $("live"), $("choose")]) other.disabled = isOn && other !== button;
  $("listening").hidden = !isOn;
  $("scope").classList.toggle("plain", !isLive);
  document.body.classList.toggle("answered", isOn || document.body.classList.contains("answered"));
  $("now").textContent = isOn && isLive ? "Listening …" : "";
  $("latency").textContent = "";
  $("clock").textContent = "0:00.0";
  setStatus(isOn ? "The microphone is on." : "", false);
}

// Adds the segments of a message; they replace earlier ones from the start of the first.
function addSegments({items, latency_ms: latency}, answers) {
  const first = items[0].start;
  answers.segments.splice(answers.segments.findLastIndex(({end}) => end <= first + 0.005) + 1, Infinity, ...items);
  answers.latency = latency;
  scope.segments = answers.segments;
  const last = items.at(-1).end;
  if (answers.growing && answers.growing.end <= last + 0.005) answers.growing = scope.growing = null;
}

// The newest answer in words: of the speech that still grows, or of the last segment, or that there is a pause.
function showNow({segments, growing, latency, delay}) {
  const last = segments.at(-1), seconds = scope.seconds();
  if (!growing && !last) return void ($("now").textContent = seconds > 3 ? "no speech yet" : "Listening …");
  const isPause = !growing && seconds - last.end > PAUSE;
  if (isPause) return void ($("now").textContent = "no speech");
  const shown = growing ?? last, answer = shown.tasks[task()];
  const chips = answer ? [result.chip(answer.label && classColours()[answer.label])] : [];
  $("now").replaceChildren(...chips, result.describeAnswer(shown, task()), result.element("span", {class: "soft details"}, result.describeDetails(shown, task())));
  const ages = delay === undefined ? "" : `The newest answer covers all but the last ${delay.toFixed(1)} s. `;
  $("latency").textContent = latency === undefined ? ages : `${ages}Final answers took ${Math.round(latency)} ms.`;
}
