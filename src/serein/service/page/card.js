// The card of a model, for people: what it answers, what it is good for, where it fails.

import {element} from "./result.js";

// Headings of the card that are shown, in this order, and what they are called here. The others (recipe,
// calibration, training) are for those who train models; `serein card` prints them.
const SECTIONS = {
  "Answers": "What it answers",
  "Use and misuse": "What it is good for, and what not",
  "Limits": "Where it fails",
  "Scores": "How often it is right",
  "Words": "Words",
  "Data": "What it learned from",
  "Licence": "Licence",
};
const LISTS = ["Answers", "Scores", "Data"];

export function describeModel({name, card}) {
  const texts = parseCard(card);
  const shown = Object.keys(SECTIONS).filter(heading => texts[heading] && texts[heading] !== "not stated");
  const sections = shown.map(heading => {
    const text = texts[heading], parts = LISTS.includes(heading) ? text.split(/; (?=\S)/) : [text];
    const body = parts.length > 1 ? element("ul", {}, ...parts.map(part => element("li", {}, part))) : element("p", {}, text);
    return element("section", {}, element("h3", {}, SECTIONS[heading]), body);
  });
  const more = element("p", {class: "soft"}, "The recipe and the training settings: ", element("code", {}, `serein card ${name}`));
  return [element("h2", {}, name), element("div", {class: "card"}, ...sections), more];
}

// The paragraphs of a card in Markdown, by the heading above them.
export function parseCard(markdown) {
  const texts = {};
  let heading = "";
  for (const part of markdown.replaceAll("`", "").split(/\n{2,}/).map(text => text.trim()).filter(Boolean)) {
    const found = /^## (.*)$/.exec(part);
    if (found) heading = found[1];
    else if (!part.startsWith("# ")) texts[heading] = [texts[heading], part].filter(Boolean).join("\n\n");
  }
  return texts;
}
