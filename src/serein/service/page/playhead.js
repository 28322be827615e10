// What the models say at the playhead: a bar for each class, and a point for arousal and valence.

import {themeColour} from "./colours.js";
import {element} from "./result.js";
import {findSegment, formatPercent, formatTime} from "./segments.js";
import {svg} from "./svg.js";

const SIZE = 220, EDGE = 26;  // of the plane, in pixels
const place = value => EDGE + (value + 1) / 2 * (SIZE - 2 * EDGE);

// Draws lists of bars into `bars`, the plane into `plane` and the time into `title`; the result is called
// with each new time.
export function showPlayhead({bars, plane, title}, tracks, task, colours) {
  const labelled = tracks.filter(({segments}) => segments.some(({tasks}) => tasks[task]));
  const lists = labelled.map(track => makeBars(track, labelled.length > 1, task, colours));
  bars.replaceChildren(...lists.map(({list}) => list));
  const placed = tracks.filter(({segments}) => segments.some(({dimensions}) => dimensions?.arousal && dimensions.valence));
  plane.hidden = !placed.length;
  const points = placed.length ? drawPlane(plane, placed) : [];
  return time => {
    const isPause = tracks.every(({segments}) => !findSegment(segments, time));
    title.textContent = `At ${formatTime(time, 1)}${isPause ? ": no speech" : ""}`;
    for (const {move} of [...lists, ...points]) move(time);
  };
}

function makeBars({name, segments}, isNamed, task, colours) {
  const list = element("ul", {class: "bars"});
  const rows = Object.entries(colours).map(([label, colour]) => {
    const fill = element("span", {class: "fill"}), number = element("b");
    fill.style.background = colour;
    list.append(element("li", {}, element("span", {}, label), element("span", {class: "track", "aria-hidden": "true"}, fill), number));
    return {label, fill, number};
  });
  const move = time => {
    list.setAttribute("aria-label", `${isNamed ? `${name}, ` : ""}at ${formatTime(time, 1)}`);
    const answer = findSegment(segments, time)?.tasks[task];
    for (const {label, fill, number} of rows) {
      const p = answer?.probabilities[label] ?? 0;
      fill.style.width = `${100 * p}%`;
      number.textContent = answer ? formatPercent(p) : "–";
    }
  };
  if (isNamed) list.prepend(element("li", {class: "soft name"}, name));
  return {list, move};
}

// The plane of valence (to the right) and arousal (upwards), with the path of each track.
function drawPlane(plane, tracks) {
  const ink = {fill: themeColour("soft"), "font-size": 11};
  const middle = SIZE / 2, last = SIZE - EDGE;
  const root = svg("svg", {viewBox: `0 0 ${SIZE} ${SIZE}`, width: SIZE, height: SIZE, role: "img"},
    svg("rect", {x: EDGE, y: EDGE, width: last - EDGE, height: last - EDGE, rx: 6, fill: themeColour("panel"), stroke: themeColour("rule")}),
    svg("line", {x1: middle, x2: middle, y1: EDGE, y2: last, stroke: themeColour("rule")}),
    svg("line", {x1: EDGE, x2: last, y1: middle, y2: middle, stroke: themeColour("rule")}),
    svg("text", {x: middle, y: EDGE - 9, "text-anchor": "middle", ...ink}, "excited"),
    svg("text", {x: middle, y: last + 18, "text-anchor": "middle", ...ink}, "calm"),
    svg("text", {x: EDGE - 9, y: middle, "text-anchor": "middle", transform: `rotate(-90 ${EDGE - 9} ${middle})`, ...ink}, "unpleasant"),
    svg("text", {x: last + 10, y: middle, "text-anchor": "middle", transform: `rotate(90 ${last + 10} ${middle})`, ...ink}, "pleasant"));
  const tone = index => themeColour(index ? "attention" : "accent");
  const at = ({dimensions}) => [place(dimensions.valence.value), place(-dimensions.arousal.value)];
  for (const [index, {segments}] of tracks.entries()) {
    const path = segments.filter(({dimensions}) => dimensions?.arousal).map(segment => at(segment).map(one => one.toFixed(1)).join(","));
    root.append(svg("polyline", {points: path.join(" "), fill: "none", stroke: tone(index), "stroke-opacity": 0.35, "stroke-linejoin": "round"}));
  }
  const moves = tracks.map(({segments}, index) => {
    const point = svg("circle", {r: 7, fill: tone(index), stroke: themeColour("paper"), "stroke-width": 2});
    root.append(point);
    return {move: time => {
      const segment = findSegment(segments, time);
      point.setAttribute("visibility", segment?.dimensions?.arousal ? "visible" : "hidden");
      if (!segment?.dimensions?.arousal) return;
      const [x, y] = at(segment);
      point.setAttribute("cx", x);
      point.setAttribute("cy", y);
      const {arousal, valence} = segment.dimensions;
      root.setAttribute("aria-label", `arousal ${arousal.value.toFixed(2)}, valence ${valence.value.toFixed(2)}`);
    }};
  });
  plane.replaceChildren(root);
  root.setAttribute("aria-label", "arousal and valence");
  return moves;
}
