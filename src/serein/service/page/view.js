// The answer of the current recording: headline, timeline, what is at the playhead, and tables.

import {drawFigure, findRow, timeScale} from "./figure.js";
import {Player} from "./player.js";
import {showPlayhead} from "./playhead.js";
import * as result from "./result.js";
import {findSegment, formatTime, mergeRuns} from "./segments.js";
import {$, classColours, state, task} from "./state.js";
import {placeWords} from "./words.js";
import {Zoom} from "./zoom.js";

const SECTIONS = ["result", "stage", "takeaway"];
let movePlayhead = () => {};

const describeAt = time => state.tracks.map(({name, segments}) => {
  const segment = findSegment(segments, time);
  return `, ${state.tracks.length > 1 ? `${name}: ` : ""}${segment && result.describeAnswer(segment, task()) || "no speech"}`;
}).join("");

// The segment at a time: of the row of labels that a click hit, or of the first track for keys.
function findPart(time, event) {
  const row = event && findRow($("figure"), event.clientY - $("figure").getBoundingClientRect().top);
  if (event && row?.kind !== "labels") return null;
  const {segments} = row?.track ?? state.tracks[0] ?? {segments: []};
  return findSegment(mergeRuns(segments, task()), time) ?? null;
}

export const player = new Player(
  {sound: $("sound"), plot: $("plot"), figure: $("figure"), cursor: $("cursor"), loop: $("loop")},
  {describe: describeAt, findPart, onMove: time => { movePlayhead(time); zoom.follow(time); }},
);
export const zoom = new Zoom(
  {plot: $("plot"), figure: $("figure"), map: $("map"), zoomIn: $("zoom-in"), zoomOut: $("zoom-out"), whole: $("zoom-all")},
  () => drawTimeline(),
);

export function hideResult() {
  for (const id of SECTIONS) $(id).hidden = true;
  $("tip").hidden = true;
  player.load(null, 0);
}

// Shows the tracks of `state`; without a headline while a long recording is still being processed.
export function showResult() {
  const {tracks, file} = state, colours = classColours(), isFinal = tracks.every(({isPending}) => !isPending);
  $("result").hidden = false;
  $("takeaway").hidden = !isFinal;
  document.body.classList.add("answered");
  $("result-title").textContent = file.name;
  $("download").textContent = tracks.length > 1 ? `Download the answer of ${tracks[0].name}` : "Download";
  $("verdicts").replaceChildren(...isFinal ? tracks.map(track => result.verdict(track, task(), colours, tracks.length > 1)) : []);
  $("agreement").textContent = isFinal ? result.describeAgreement(tracks, task()) : "";
  const play = (start, end, isLoop) => player.playPart(start, end, isLoop);
  $("tables").replaceChildren(...isFinal ? tracks.map(track => result.table(track, task(), colours, play)) : []);
  $("as-table").hidden = tracks.every(({segments}) => !segments.length);
  showTimeline();
}

// Draws what depends on tracks, task and theme.
export function showTimeline() {
  const {tracks, sound} = state, colours = classColours();
  const hasSegments = tracks.some(({segments}) => segments.length);
  $("stage").hidden = !hasSegments && !sound;
  if ($("stage").hidden) return;
  const isUnsure = tracks.some(({segments}) => segments.some(segment => segment.tasks[task()]?.label === null));
  $("legend").replaceChildren(...result.legend(colours, isUnsure));
  movePlayhead = showPlayhead({bars: $("bars"), plane: $("plane"), title: $("now-title")}, tracks.filter(({segments}) => segments.length), task(), colours);
  $("now-panel").hidden = !$("bars").children.length && $("plane").hidden;
  $("stage").classList.toggle("single", $("now-panel").hidden);
  zoom.update();
  zoom.drawMap(sound, tracks[0], task(), colours);
  drawTimeline();
}

// Draws the visible part.
export function drawTimeline() {
  const {tracks, sound, seconds} = state;
  if ($("stage").hidden || !seconds) return;
  const words = result.listWords(tracks[0]?.whole ?? {}).filter(({time}) => time !== null);
  drawFigure($("figure"), {
    seconds, range: zoom.range, sound, view: document.querySelector("[name=view]:checked").value, words,
    tracks: tracks.map(track => ({...track, threshold: track.thresholds[task()]})), task: task(), colours: classColours(),
  });
  placeWords($("words"), $("figure"), words, seconds, (start, end, isLoop) => player.playPart(start, end, isLoop));
  player.place();
  movePlayhead(player.time);
}

// The answers under the pointer, next to it.
export function showTip(event) {
  const scale = timeScale($("figure")), box = $("figure").getBoundingClientRect();
  const time = scale?.time(event.clientX - box.left);
  const isInside = event.pointerType === "mouse" && event.buttons === 0 && scale && time >= scale.from && time <= scale.to;
  $("tip").hidden = !isInside;
  if (!isInside) return;
  $("tip").textContent = `${formatTime(time, 1)}${describeAt(time)}`;
  const isRight = event.clientX - box.left > box.width / 2;
  Object.assign($("tip").style, {left: isRight ? "auto" : `${event.clientX - box.left + 14}px`, right: isRight ? `${box.right - event.clientX + 14}px` : "auto", top: `${event.clientY - box.top + 14}px`});
}

new ResizeObserver(() => {
  if ($("stage").hidden) return;
  zoom.drawMap(state.sound, state.tracks[0], task(), classColours());
  drawTimeline();
}).observe($("plot"));
