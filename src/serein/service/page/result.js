// An answer in words: the verdict, the legend, tables, and a model's card.

import {agreement, clock, mean, percent, runs} from "./segments.js";

const NOBODY = "nobody speaks";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A square of a class's colour; empty for an answer that was withheld.
export function chip(colour) {
  const made = element("span", {class: colour ? "chip" : "chip none", "aria-hidden": "true"});
  if (colour) made.style.background = colour;
  return made;
}

// What a model says of all of a recording.
export function verdict({name, whole}, task, colours, several) {
  const {[task]: main, ...rest} = whole.tasks;
  const others = Object.entries(rest).map(([other, answer]) => `${other}: ${said(answer)}`);
  const values = Object.entries(whole.values).map(([value, number]) => `${value}: ${number.toFixed(2)}`);
  const made = element("div", {class: "verdict"});
  if (several) made.append(element("p", {class: "soft"}, name));
  if (whole.speech === false) made.append(element("p", {class: "answer"}, chip(null), NOBODY));
  else if (main) made.append(element("p", {class: "answer"}, chip(main.label && colours[main.label]), main.label ?? "unsure", element("span", {class: "soft"}, ` ${sure(main)}`)));
  else if (values.length) made.append(element("p", {class: "answer"}, values.splice(0).join(", ")));
  if (whole.speech !== false && (others.length || values.length)) made.append(element("p", {class: "soft"}, [...others, ...values].join(", ")));
  const words = (whole.words ?? []).filter(({word}) => word !== "</s>");
  if (words.length) made.append(element("p", {class: "soft"}, "words, as recognised: ", ...words.map(spoken)));
  return made;
}

const spoken = ({word, time}) => element("span", time === null ? {} : {title: clock(time, 1)}, `${word} `);

function sure({label, confidence, probabilities}) {
  if (label) return percent(confidence);
  return `likeliest ${likeliest(probabilities)} ${percent(confidence)}, too little to say so`;
}

export const said = answer => `${answer.label ?? "unsure"} ${percent(answer.confidence)}`;

// What is said of a task at a time, and every value.
export function words({tasks, values, speech}, task) {
  if (speech === false) return NOBODY;
  const numbers = Object.entries(values).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  return [...(tasks[task] ? [said(tasks[task])] : []), ...numbers].join(", ");
}

const likeliest = probabilities => Object.keys(probabilities).reduce((best, name) => probabilities[name] > probabilities[best] ? name : best);

export function legend(colours, unsure) {
  const items = Object.entries(colours).map(([name, colour]) => element("li", {}, chip(colour), name));
  if (unsure) items.push(element("li", {}, chip(null), "unsure"));
  return items;
}

export function agreed(tracks, task) {
  if (tracks.length < 2) return "";
  const share = agreement(tracks[0].segments, tracks[1].segments, task);
  return share === null ? "" : `The two give the same answer for ${percent(share)} of the time in which both answer.`;
}

// The timeline for those who do not see it; each row has a button that plays it.
export function table({name, segments}, task, colours, play) {
  const values = Object.keys(segments[0]?.values ?? {});
  const labelled = !values.length || segments.some(({tasks}) => tasks[task]);
  const rows = (labelled ? runs(segments, task) : segments).map(({start, end, label, likeliest, confidence}) => {
    const numbers = values.map(value => mean(segments, value, start, end).toFixed(2));
    const what = labelled ? label ?? `unsure (${likeliest})` : values.map((value, place) => `${value} ${numbers[place]}`).join(", ");
    const button = element("button", {type: "button", class: "small", "aria-label": `Play from ${clock(start, 1)}: ${what}`}, "▶");
    button.addEventListener("click", () => play(start));
    const answer = labelled ? [element("th", {scope: "row"}, chip(label && colours[label]), what), element("td", {}, percent(confidence))] : [];
    return element("tr", {}, element("td", {}, button), element("td", {}, clock(start, 1)), element("td", {}, clock(end, 1)),
      ...answer, ...numbers.map(number => element("td", {}, number)));
  });
  const heads = ["", "start", "end", ...(labelled ? [task, "confidence"] : []), ...values].map(text => text ? element("th", {scope: "col"}, text) : element("td"));
  return element("table", {}, element("caption", {}, name), element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
}

// A model's card comes as headings and paragraphs of Markdown.
export function card(markdown) {
  return markdown.split(/\n{2,}/).filter(text => text.trim()).map(text => {
    const heading = /^(#+) (.*)$/.exec(text.trim());
    return heading ? element(heading[1].length > 1 ? "h3" : "h2", {}, heading[2]) : element("p", {}, text.trim());
  });
}
