// The rows of the timeline: {kind, title, gap, size, ticks, draw}; draw returns SVG elements.

import {textColour, themeColour} from "./colours.js";
import {differences, mergeRuns, splitAtPauses} from "./segments.js";
import {colourOfLevel, envelope, spectrogram} from "./spectrum.js";
import {svg} from "./svg.js";

const GAP = 24, CLOSE = 4;  // pixels above a row, with a title and without
const LETTER = 7;  // pixels
const PERCENT = [[0, "0"], [0.5, "50"], [1, "100 %"]];

export function buildRows(content, scale) {
  const {tracks, task, words} = content;
  const rows = [];
  if (content.sound && content.view === "spectrum") rows.push(spectrogramRow(content, scale));
  else if (content.sound) rows.push(waveformRow(content, scale));
  if (words?.length) rows.push({kind: "words", gap: CLOSE, size: 58, draw: () => []});
  const several = tracks.length > 1;
  const named = (text, {name}) => several ? `${text}, ${name}` : text;
  const labelled = task ? tracks.filter(({segments, isPending}) => isPending || segments.some(({tasks}) => tasks[task])) : [];
  labelled.forEach((track, index) => {
    const title = several ? track.name : task;
    rows.push({kind: "labels", track, title, gap: index ? GAP - 4 : GAP, size: 26, draw: size => labels(track, content, scale, size)});
  });
  if (labelled.length > 1)
    rows.push({kind: "differences", title: "where they differ", gap: GAP - 4, size: 10, draw: size => marks(labelled, task, scale, size)});
  for (const track of labelled)
    rows.push({kind: "probabilities", title: several ? track.name : null, gap: several ? GAP : CLOSE + 2, size: 130, ticks: PERCENT, draw: size => areas(track, content, scale, size)});
  if (labelled.length) {
    const both = several && labelled.length > 1 ? `: ${labelled[0].name} solid, ${labelled[1].name} dotted` : "";
    rows.push({kind: "confidence", title: `confidence${both}`, gap: GAP, size: 56, ticks: PERCENT, draw: size => confidence(labelled, task, scale, size)});
  }
  for (const track of tracks)
    for (const name of Object.keys(track.segments[0]?.values ?? {})) rows.push(valueRow(track, name, named(name, track), scale));
  for (const track of tracks.filter(({segments}) => segments.length))
    for (const [name, map] of Object.entries(track.attention ?? {})) {
      const title = name === task || Object.keys(track.attention).length === 1 ? "attention" : `attention: ${name}`;
      rows.push(attentionRow(map, named(title, track), content.seconds, scale));
    }
  return rows;
}

const points = pairs => pairs.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

// Samples of the visible part.
function slice({samples, rate}, {from, to}) {
  return samples.subarray(Math.max(0, Math.floor(from * rate)), Math.max(2, Math.ceil(to * rate)));
}

function waveformRow({sound}, scale) {
  sound.peak ??= Math.max(0.02, sound.samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
  const {peak, samples, rate} = sound;
  const draw = size => {
    const {low, high} = envelope(slice(sound, scale), Math.min(1400, Math.round(scale.width)));
    const until = Math.min(scale.width, scale.x(samples.length / rate));
    const y = sample => size / 2 * (1 - 0.95 * sample / peak);
    const x = column => (column + 0.5) * until / low.length;
    const edge = [...high.map((sample, column) => [x(column), y(sample) - 0.5]), ...low.map((sample, column) => [x(column), y(sample) + 0.5]).reverse()];
    return [svg("polygon", {points: points(edge), fill: themeColour("wave")})];
  };
  return {kind: "wave", gap: CLOSE, size: 84, draw};
}

function spectrogramRow({sound}, scale) {
  const {z, hz} = spectrogram(slice(sound, scale), sound.rate);
  const ticks = [200, 500, 1000, 2000, 5000].filter(one => one < hz.at(-1))
    .map(one => [hz.findIndex(edge => edge >= one) / z.length, one < 1000 ? String(one) : `${one / 1000}k`]);
  const draw = size => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, {width: z[0].length, height: z.length});
    const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
    z.forEach((row, band) => row.forEach((level, column) => {
      const place = 4 * ((z.length - 1 - band) * canvas.width + column);
      pixels.data.set([...colourOfLevel(level), 255], place);
    }));
    context.putImageData(pixels, 0, 0);
    const until = Math.min(scale.width, scale.x(sound.samples.length / sound.rate));
    return [svg("image", {href: canvas.toDataURL(), width: until, height: size, preserveAspectRatio: "none"})];
  };
  return {kind: "spectrum", gap: CLOSE + 2, size: 110, ticks, draw};
}

function* labels({segments}, {task, colours}, {x, width}, size) {
  for (const {start, end, label} of mergeRuns(segments, task)) {
    const left = Math.max(-2, x(start)), right = Math.min(width + 2, x(end));
    if (right <= left) continue;
    const text = label ?? "unsure";
    yield svg("rect", {
      x: left + 0.5, y: 0.5, width: Math.max(1, right - left - 1), height: size - 1, rx: 3, "data-label": text, "data-start": start,
      fill: label ? colours[label] : "url(#unsure)", stroke: themeColour(label ? "paper" : "edge"), "stroke-width": label ? 0 : 1,
    });
    const middle = (Math.max(0, left) + Math.min(width, right)) / 2;
    if (right - left >= LETTER * text.length + 6)
      yield svg("text", {x: middle, y: size / 2 + 4, "text-anchor": "middle", ...onColour(label && colours[label])}, text);
  }
}

// Text on a class colour; on the hatching of a withheld label it has an outline.
function onColour(colour) {
  if (colour) return {fill: textColour(colour)};
  return {fill: themeColour("ink"), stroke: themeColour("paper"), "stroke-width": 4, "paint-order": "stroke"};
}

function* marks([first, second], task, {x}, size) {
  for (const {start, end} of differences(first.segments, second.segments, task))
    yield svg("rect", {x: x(start), y: 0.5, width: Math.max(2, x(end) - x(start)), height: size - 1, fill: "url(#differs)", stroke: themeColour("stop")});
}

// Stacked probabilities, at the middle of their segments and extended to the ends of a group.
function* areas({segments}, {task, colours}, {from, to, x}, size) {
  for (const group of splitAtPauses(segments.filter(({tasks}) => tasks[task]))) {
    if (group.at(-1).end < from || group[0].start > to) continue;
    const first = group.findLastIndex(({end}) => end < from), last = group.findIndex(({start}) => start > to);
    const shown = group.slice(Math.max(0, first - 1), last < 0 ? undefined : last + 2);
    const answers = shown.map(({start, end, tasks}) => [x((start + end) / 2), tasks[task].probabilities]);
    const ends = [[x(shown[0].start), answers[0][1]], ...answers, [x(shown.at(-1).end), answers.at(-1)[1]]];
    let below = ends.map(() => 0);
    for (const [name, colour] of Object.entries(colours)) {
      const above = ends.map(([, p], place) => below[place] + (p[name] ?? 0));
      const edge = (heights, place) => [ends[place][0], size * (1 - heights[place])];
      const outline = [...ends.map((_, place) => edge(above, place)), ...ends.map((_, place) => edge(below, place)).reverse()];
      yield svg("polygon", {points: points(outline), fill: colour, stroke: themeColour("paper"), "stroke-width": 0.6, "data-class": name});
      below = above;
    }
  }
}

function* confidence(tracks, task, {x, width}, size) {
  const y = share => size * (1 - share);
  for (const {threshold} of tracks)
    if (threshold) yield svg("line", {x1: 0, x2: width, y1: y(threshold), y2: y(threshold), stroke: themeColour("edge"), "stroke-dasharray": "5 4", "data-threshold": threshold});
  for (const [index, {segments}] of tracks.entries()) {
    const look = index ? {stroke: themeColour("attention"), "stroke-dasharray": "2 3"} : {stroke: themeColour("ink")};
    yield* steps(segments.filter(({tasks}) => tasks[task]), ({tasks}) => y(tasks[task].confidence), x, look);
  }
}

// A line with a step for each segment, interrupted at pauses.
function* steps(segments, y, x, look) {
  for (const group of splitAtPauses(segments)) {
    const line = group.flatMap(segment => [[x(segment.start), y(segment)], [x(segment.end), y(segment)]]);
    yield svg("polyline", {points: points(line), fill: "none", "stroke-width": 1.75, ...look});
  }
}

function valueRow({segments}, name, title, {x}) {
  const values = segments.map(segment => segment.values[name]);
  const low = Math.min(...values), high = Math.max(...values), margin = 0.08 * (high - low) || 0.5;
  const share = value => (value - low + margin) / (high - low + 2 * margin);
  const ticks = [...new Set([low, high])].map(value => [share(value), value.toFixed(2)]);
  const draw = size => [...steps(segments, segment => size * (1 - share(segment.values[name])), x, {stroke: themeColour("ink"), "data-value": name})];
  return {kind: "value", title, gap: GAP, size: 72, ticks, draw};
}

// Attention, drawn from its lowest to its highest weight.
function attentionRow({times, weights}, title, seconds, {x}) {
  const mean = times.map((_, step) => weights.reduce((sum, head) => sum + head[step], 0) / weights.length);
  const low = Math.min(...mean), range = Math.max(...mean) - low || 1;
  const edges = [0, ...times.slice(1).map((time, step) => (time + times[step]) / 2), seconds];
  const draw = size => {
    const y = weight => size * (1 - 0.96 * (weight - low) / range);
    const line = mean.flatMap((weight, step) => [[x(edges[step]), y(weight)], [x(edges[step + 1]), y(weight)]]);
    const outline = [[x(0), size], ...line, [x(seconds), size]];
    return [
      svg("polygon", {points: points(outline), fill: themeColour("attention"), "fill-opacity": 0.25}),
      svg("polyline", {points: points(line), fill: "none", stroke: themeColour("attention"), "stroke-width": 1.25}),
    ];
  };
  return {kind: "attention", title, gap: GAP, size: 56, draw};
}
