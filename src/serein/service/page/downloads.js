// Downloads of what the page already has; nothing is sent again.

import {toPicture} from "./figure.js";
import {element} from "./result.js";

const KINDS = {json: "application/json", csv: "text/csv", vtt: "text/vtt"};

// Saves the answer of a track in a format, or the figure as "svg" or "png".
export async function saveAnswer(file, {timeline, files}, figure, format) {
  const name = `${file.name.replace(/\.\w+$/, "")}.${format}`;
  if (format in KINDS) save(format === "json" ? JSON.stringify(timeline, null, 1) : files[format], name, KINDS[format]);
  else save(await toPicture(figure, format), name);
}

// Saves the tables of several files as one; later tables come without their header.
export function saveTables(texts) {
  const tables = texts.map(text => text.trimEnd().split("\n"));
  if (tables.length) save([tables[0][0], ...tables.flatMap(([, ...rows]) => rows)].join("\n") + "\n", "recordings.csv", "text/csv");
}

function save(content, name, type) {
  const link = element("a", {download: name});
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], {type}));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
