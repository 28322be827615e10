// The timeline as an SVG: rows with a common time axis.

import {themeColour} from "./colours.js";
import {buildRows} from "./rows.js";
import {formatTime} from "./segments.js";
import {NAMESPACE, svg} from "./svg.js";

const RIGHT = 8, BELOW = 26;  // pixels
const TICK_PIXELS = 74;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

// Draws {seconds, range, sound, view, words, tracks: [{name, threshold, segments, attention}], task, colours}.
export function drawFigure(div, content) {
  const outer = Math.max(240, div.clientWidth), left = outer < 500 ? 40 : 52;
  const width = outer - left - RIGHT;
  const [from, to] = content.range;
  const scale = {from, to, left, width, x: time => (time - from) / (to - from) * width};
  const rows = buildRows(content, scale);
  const height = rows.reduce((sum, row) => sum + row.gap + row.size, BELOW);
  const root = svg("svg", {
    xmlns: NAMESPACE, width: outer, height, viewBox: `0 0 ${outer} ${height}`, "font-size": outer < 500 ? 11 : 12,
    "font-family": getComputedStyle(document.body).fontFamily, fill: themeColour("soft"),
  }, hatches());
  let top = 0;
  for (const row of rows) {
    top += row.gap;
    row.top = top;
    if (row.title) root.append(svg("text", {x: left, y: top - 5}, row.title));
    for (const [value, label] of row.ticks ?? []) {
      const y = top + row.size * (1 - value);
      root.append(svg("line", {x1: left, x2: left + width, y1: y, y2: y, stroke: themeColour("rule")}));
      root.append(svg("text", {x: left - 6, y: y + 4, "text-anchor": "end"}, label));
    }
    const area = svg("svg", {x: left, y: top, width, height: row.size, "data-row": row.kind});
    area.append(...row.draw(row.size));
    root.append(area);
    top += row.size;
  }
  root.append(...timeAxis(scale, top));
  div.replaceChildren(root);
  div.timeline = {...scale, rows, top: 0, height: top};
}

// Conversion between times and pixels from the left of the figure, and the height of its rows.
export function timeScale(div) {
  if (!div.timeline) return null;
  const {from, to, left, width, x, height} = div.timeline;
  return {from, to, width, height, left: time => left + x(time), time: pixels => from + (pixels - left) / width * (to - from)};
}

// The row at a distance from the top of the figure.
export const findRow = (div, y) => div.timeline?.rows.find(({top, size}) => top <= y && y < top + size);

function* timeAxis({from, to, left, width, x}, y) {
  const step = STEPS.find(one => one / (to - from) * width >= TICK_PIXELS) ?? STEPS.at(-1);
  const label = time => to < 60 ? `${Number(time.toFixed(1))} s` : formatTime(time, step < 1 ? 1 : 0);
  yield svg("line", {x1: left, x2: left + width, y1: y, y2: y, stroke: themeColour("edge")});
  for (let tick = Math.ceil(from / step - 1e-6); tick * step <= to + 1e-6; tick++) {
    const place = left + x(tick * step);
    const isLast = place > left + width - 16;
    yield svg("line", {x1: place, x2: place, y1: y, y2: y + 5, stroke: themeColour("edge")});
    yield svg("text", {x: isLast ? left + width : place, y: y + 19, "text-anchor": isLast ? "end" : place < left + 8 ? "start" : "middle"}, label(tick * step));
  }
}

// Patterns: "unsure" for labels that are withheld, "differs" where models disagree.
function hatches() {
  const hatch = (id, paper, ink, gap) => svg("pattern", {id, width: gap, height: gap, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"},
    svg("rect", {width: gap, height: gap, fill: paper}), svg("rect", {width: 1.5, height: gap, fill: ink}));
  return svg("defs", {}, hatch("unsure", themeColour("paper"), themeColour("edge"), 6), hatch("differs", themeColour("paper"), themeColour("stop"), 5));
}

// The figure as a picture, "svg" or "png", with the colours of the page.
export async function toPicture(div, format) {
  const root = div.firstElementChild.cloneNode(true);
  const width = Number(root.getAttribute("width")), height = Number(root.getAttribute("height"));
  root.prepend(svg("rect", {width, height, fill: themeColour("paper")}));
  const picture = new Blob([new XMLSerializer().serializeToString(root)], {type: "image/svg+xml"});
  if (format === "svg") return picture;
  const url = URL.createObjectURL(picture);
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, {width: 2 * width, height: 2 * height});
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}
