// The downloads, as in `serein/inference/formats.py`, and the document that the page shows.

import {formatFloat, formatPercent, roundFloats, roundHalfEven} from "./numbers.js";
import {answerByTimeline, describeShares} from "./predictor.js";

// The document that the service answers with (`serein/service/overview.py`): `mean` is over the windows of the
// recording, `hops` its timeline without merging.
export function buildOverview(predictor, mean, hops) {
  const summary = summarizeHops(predictor, hops), merged = predictor.mergeHops(hops);
  const isLong = predictor.isLong(mean.end);
  const whole = isLong ? answerByTimeline(merged, mean) : mean;
  const timeline = {...whole, segments: merged.segments, attention: {}, shares: merged.shares};
  return {
    ...summary, whole: roundFloats(whole), hops: roundFloats(hops.segments), timeline: roundFloats(timeline),
    headlines: isLong ? summary.headlines : {},
  };
}

// The merged timeline of hops, its headline for each task, and the downloads.
export function summarizeHops(predictor, hops) {
  const timeline = predictor.mergeHops(hops);
  const headlines = Object.fromEntries(Object.entries(timeline.shares).map(([task, shares]) => [task, describeShares(shares)]));
  return {timeline: roundFloats(timeline), headlines, files: {csv: asCSV(timeline), vtt: asVTT(timeline)}};
}

// A line for each segment; times are in seconds.
function asCSV({source, segments}) {
  const rows = segments.map(segment => ({file: source, start: formatFloat(roundFloats(segment.start)), end: formatFloat(roundFloats(segment.end)), ...toColumns(segment)}));
  const names = [...new Set(["file", "start", "end", ...rows.flatMap(row => Object.keys(row))])];
  const lines = rows.map(row => names.map(name => quote(row[name] ?? "")).join(","));
  return [names.join(","), ...lines].map(line => `${line}\n`).join("");
}

function toColumns({tasks, values, dimensions}) {
  const number = x => formatFloat(roundFloats(x)), columns = {};
  for (const [task, {label, probabilities}] of Object.entries(tasks)) {
    columns[task] = label;
    for (const [name, p] of Object.entries(probabilities)) columns[`${task}_${name}`] = number(p);
  }
  for (const [name, value] of Object.entries(values)) columns[name] = number(value);
  for (const [task, {top}] of Object.entries(tasks))
    top.forEach(({label, probability}, index) => {
      const rank = ["first", "second"][index];
      columns[`${rank}_${task}`] = label;
      columns[`${rank}_${task}_probability`] = number(probability);
    });
  for (const [name, {value, basis}] of Object.entries(dimensions)) {
    columns[`scaled_${name}`] = number(value);
    columns[`scaled_${name}_basis`] = basis;
  }
  return columns;
}

const quote = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

// A cue for each segment: the label of the first task with its probability, and the values by name.
function asVTT({segments}) {
  const cues = segments.map(({start, end, tasks, values}) => {
    const [main] = Object.values(tasks), numbers = Object.entries(values).map(([name, value]) => `${name} ${value.toFixed(2)}`);
    const label = !main ? [] : [main.label === null ? "unsure" : `${main.label} ${formatPercent(main.confidence)}`];
    const text = [...label, ...numbers].join(", ").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
    return `\n${formatClock(start)} --> ${formatClock(end)}\n${text}\n`;
  });
  return ["WEBVTT\n", ...cues].join("");
}

function formatClock(seconds) {
  const milliseconds = roundHalfEven(1000 * seconds), whole = Math.floor(milliseconds / 1000);
  const pad = (number, digits) => String(number).padStart(digits, "0");
  return `${pad(Math.floor(whole / 3600), 2)}:${pad(Math.floor(whole / 60) % 60, 2)}:${pad(whole % 60, 2)}.${pad(milliseconds % 1000, 3)}`;
}
