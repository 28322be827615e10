// Elements for an answer: the verdict, the legend, tables, and the list of several recordings.

import {agreement, formatPercent, formatTime, meanValue, mergeRuns} from "./segments.js";

const NO_SPEECH = "no speech";
const ENDS = {arousal: ["calm", "excited"], valence: ["unpleasant", "pleasant"]};
const BASES = {
  ratings: "the model's ratings from 1 to 5, on this scale",
  levels: "the model's levels of rated speech",
  "norm levels": "levels that stand for the emotions' names, not ratings of this voice",
  norms: "what people associate with the emotions' names, weighted by their probabilities; not ratings of this voice",
};

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A square in the colour of a class; hatched for a label that was withheld.
export function chip(colour) {
  const node = element("span", {class: colour ? "chip" : "chip none", "aria-hidden": "true"});
  if (colour) node.style.background = colour;
  return node;
}

// The answer of a model for a whole recording.
export function verdict({name, whole, headlines}, task, colours, several) {
  const {[task]: answer, ...rest} = whole.tasks;
  const others = Object.entries(rest).map(([other, its]) => `${other}: ${formatAnswer(its)}`);
  const values = Object.entries(whole.values).map(([value, number]) => `${value}: ${number.toFixed(2)}`);
  const node = element("div", {class: "says"});
  if (several) node.append(element("p", {class: "soft"}, name));
  if (whole.speech === false) node.append(element("p", {class: "answer"}, chip(null), NO_SPEECH));
  else if (headlines?.[task]) node.append(headline(headlines[task], colours));
  else if (answer) node.append(element("p", {class: "answer"}, chip(answer.label && colours[answer.label]), answer.label ?? "unsure", element("span", {class: "soft"}, ` ${formatConfidence(answer)}`)));
  else if (values.length) node.append(element("p", {class: "answer"}, values.splice(0).join(", ")));
  if (whole.speech !== false && answer && !headlines?.[task]) node.append(element("p", {class: "soft"}, describeSecond(answer)));
  if (whole.speech !== false && (others.length || values.length)) node.append(element("p", {class: "soft"}, [...others, ...values].join(", ")));
  const words = listWords(whole).filter(({time}) => time === null);  // those with a time are below the waveform
  if (words.length) node.append(element("p", {class: "soft"}, `recognized words: ${words.map(({word}) => word).join(" ")}`));
  return element("div", {class: "verdict"}, node, element("div", {}, ...scales(whole.dimensions ?? {})));
}

// The headline of a long recording, such as "neutral: 70 % of the speech, anger 30 %".
function headline(text, colours) {
  const [label, shares] = text.split(": ");
  return element("p", {class: "answer"}, chip(colours[label]), `${label} `, element("span", {class: "soft"}, shares));
}

// The headline of a recording, and all its values, in words.
export function describeTrack({whole, headlines}, task) {
  if (whole.speech === false || !headlines?.[task]) return describeAnswer(whole, task);
  return [headlines[task], ...formatValues(whole.values)].join(", ");
}

// The headline of each track for a file, in words.
export function describeResult({tracks, file, seconds}, task) {
  const answers = tracks.map(track => `${tracks.length > 1 ? `${track.name}: ` : ""}${describeTrack(track, task)}`);
  const hint = tracks.every(({segments}) => !segments.length) ? " No speech was detected: clear “Leave out pauses” in the settings for a timeline of the whole recording." : "";
  return `${file.name}, ${formatTime(seconds, 1)}: ${answers.join("; ")}.${hint}`;
}

// A file in the list of several: its name as a button, which is passed to onButton, and its answer or problem.
export function fileEntry({file, state, tracks, seconds, problem}, task, colours, onButton) {
  const button = element("button", {type: "button"}, file.name);
  onButton(button);
  const answer = {waiting: "waiting", failed: problem, done: tracks && describeTrack(tracks[0], task)}[state];
  return element("li", {}, button, element("span", {}, answer), ...(tracks ? [ribbon(tracks[0], task, colours, seconds)] : []));
}

// A timeline as a small row of colours.
export function ribbon({segments}, task, colours, seconds) {
  const row = element("span", {class: "ribbon", "aria-hidden": "true"});
  for (const {start, end, label} of mergeRuns(segments, task)) {
    const part = element("span", {});
    Object.assign(part.style, {left: `${100 * start / seconds}%`, width: `${100 * (end - start) / seconds}%`, background: label ? colours[label] : "var(--edge)"});
    row.append(part);
  }
  return row;
}

const describeSecond = ({top}) => `second: ${top[1].label} ${formatPercent(top[1].probability)}`;

const formatSigned = value => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;

// Arousal and valence, each as a mark on a line from -1 to 1, and what they are computed from.
function scales(dimensions) {
  const names = Object.keys(dimensions);
  if (!names.length) return [];
  const rows = names.flatMap(name => {
    const {value} = dimensions[name], [low, high] = ENDS[name] ?? ["low", "high"];
    const mark = element("span", {class: "mark"});
    mark.style.left = `${50 * (value + 1)}%`;
    const line = element("span", {class: "track", "aria-hidden": "true"}, mark);
    return [element("dt", {}, name), element("dd", {}, element("span", {class: "end low"}, low), line, element("span", {class: "end"}, high), element("b", {}, formatSigned(value)))];
  });
  const bases = [...new Set(names.map(name => dimensions[name].basis))].map(basis => BASES[basis] ?? basis);
  return [element("dl", {class: "scales"}, ...rows), element("p", {class: "soft scale-note"}, `From \u22121 to 1: ${bases.join("; ")}.`)];
}

// The second class, arousal and valence of a segment, in words.
export function describeDetails({tasks, dimensions = {}}, task) {
  const second = tasks[task]?.top ? [describeSecond(tasks[task])] : [];
  const numbers = Object.entries(dimensions).map(([name, {value}]) => `${name} ${formatSigned(value)}`);
  return [...second, ...numbers].join(", ");
}

// The words of an answer, without the mark of their end.
export const listWords = ({words}) => (words ?? []).filter(({word}) => word !== "</s>");

function formatConfidence({label, confidence, probabilities}) {
  if (label) return formatPercent(confidence);
  return `most likely ${mostLikely(probabilities)}, ${formatPercent(confidence)}`;
}

export const formatAnswer = answer => `${answer.label ?? "unsure"} ${formatPercent(answer.confidence)}`;

const formatValues = values => Object.entries(values).map(([name, value]) => `${name} ${value.toFixed(2)}`);

// The answer of a segment or a recording for a task, and all its values, in words.
export function describeAnswer({tasks, values, speech}, task) {
  if (speech === false) return NO_SPEECH;
  return [...(tasks[task] ? [formatAnswer(tasks[task])] : []), ...formatValues(values)].join(", ");
}

const mostLikely = probabilities => Object.keys(probabilities).reduce((best, name) => probabilities[name] > probabilities[best] ? name : best);

export function legend(colours, unsure) {
  const items = Object.entries(colours).map(([name, colour]) => element("li", {}, chip(colour), name));
  if (unsure) items.push(element("li", {}, chip(null), "unsure"));
  return items;
}

export function describeAgreement(tracks, task) {
  if (tracks.length < 2) return "";
  const share = agreement(tracks[0].segments, tracks[1].segments, task);
  return share === null ? "" : `The models give the same answer for ${formatPercent(share)} of the time in which both answer.`;
}

// The timeline as a table; each row has a button that plays it.
export function table({name, segments}, task, colours, play) {
  const values = Object.keys(segments[0]?.values ?? {});
  const labelled = !values.length || segments.some(({tasks}) => tasks[task]);
  const rows = (labelled ? mergeRuns(segments, task) : segments).map(({start, end, label, likeliest, confidence}) => {
    const numbers = values.map(value => meanValue(segments, value, start, end).toFixed(2));
    const description = labelled ? label ?? `unsure (${likeliest})` : values.map((value, index) => `${value} ${numbers[index]}`).join(", ");
    const button = element("button", {type: "button", class: "small", "aria-label": `Play from ${formatTime(start, 1)} to ${formatTime(end, 1)}: ${description}`}, "▶");
    button.addEventListener("click", event => play(start, end, event.shiftKey));
    const answer = labelled ? [element("th", {scope: "row"}, chip(label && colours[label]), description), element("td", {}, formatPercent(confidence))] : [];
    return element("tr", {}, element("td", {}, button), element("td", {}, formatTime(start, 1)), element("td", {}, formatTime(end, 1)),
      ...answer, ...numbers.map(number => element("td", {}, number)));
  });
  const headers = ["", "start", "end", ...(labelled ? [task, "confidence"] : []), ...values].map(text => text ? element("th", {scope: "col"}, text) : element("td"));
  return element("table", {}, element("caption", {}, name), element("thead", {}, element("tr", {}, ...headers)), element("tbody", {}, ...rows));
}
