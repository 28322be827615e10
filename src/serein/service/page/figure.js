// The timeline: rows with a common time axis, drawn by Plotly.

import {themeColour} from "./colours.js";
import {mergeRuns, splitAtPauses} from "./segments.js";

const GAP = 26;  // pixels above a row
const BELOW = 34;  // pixels for the time axis
const THRESHOLD_COLOUR = "#8a8f98";
const PERCENT = {tickvals: [0, 50, 100], ticktext: ["0", "50", "100 %"]};

const plotly = new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = "page/plotly.js";
  script.onload = () => resolve(window.Plotly);
  script.onerror = () => reject(new Error("plotly.js could not be loaded"));
  document.head.append(script);
});

// Draws the timeline of {seconds, envelope, spectrogram, tracks: [{name, threshold, segments, attention}], task, colours}.
export async function drawFigure(div, content) {
  const rows = [...buildRows(content)];
  const height = rows.reduce((sum, row) => sum + row.gap + row.size, BELOW);
  const layout = {...baseLayout(height), xaxis: {...axis(), range: [0, content.seconds], ticksuffix: " s", nticks: 8, showgrid: false}, annotations: []};
  const traces = [];
  let top = 0;
  rows.forEach((row, index) => {
    const name = index ? `y${index + 1}` : "y";
    const share = pixels => Math.max(0, 1 - pixels / (height - BELOW));
    const domain = [share(top + row.gap + row.size), share(top + row.gap)];
    layout[`yaxis${name.slice(1)}`] = {...axis(), ...row.axis, domain};
    traces.push(...row.traces.map(trace => ({...trace, xaxis: "x", yaxis: name})));
    if (row.title) layout.annotations.push(rowTitle(row.title, domain[1]));
    if (index === rows.length - 1) layout.xaxis.anchor = name;
    top += row.gap + row.size;
  });
  await (await plotly).react(div, traces, layout, {displayModeBar: false, doubleClick: false, showTips: false});
}

// The figure as a picture, "svg" or "png", with the colours of the page.
export async function toPicture(div, format) {
  const {width, height} = div.getBoundingClientRect();
  const library = await plotly;
  const picture = {data: div.data, layout: {...div.layout, paper_bgcolor: themeColour("paper")}};
  const url = await library.toImage(picture, {format, width, height, scale: format === "png" ? 2 : 1});
  if (format === "svg") return new Blob([decodeURIComponent(url.slice(url.indexOf(",") + 1))], {type: "image/svg+xml"});
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), letter => letter.charCodeAt(0));
  return new Blob([bytes], {type: "image/png"});
}

export const resizeFigure = div => div._fullLayout && plotly.then(({Plots}) => Plots.resize(div));

// Conversion between times and pixels from the left of the figure, and the height of its rows.
export function timeScale(div) {
  const {xaxis, _size: size} = div._fullLayout;
  return {
    left: time => xaxis._offset + xaxis.l2p(time),
    time: left => xaxis.p2l(left - xaxis._offset),
    top: size.t, height: size.h,
  };
}

function* buildRows({seconds, envelope, spectrogram, tracks, task, colours}) {
  if (spectrogram) yield spectrogramRow(spectrogram, seconds);
  else if (envelope) yield waveformRow(envelope, seconds);
  const labelled = task ? tracks.filter(({segments}) => !segments.length || segments.some(({tasks}) => tasks[task])) : [];
  for (const track of labelled) {
    yield {title: tracks.length > 1 ? track.name : task, gap: GAP, size: 24, traces: labelTraces(track, task, colours, seconds), axis: {visible: false, range: [-0.5, 0.5]}};
    yield {gap: 5, size: 130, traces: probabilityTraces(track, task, colours), axis: {range: [0, 100], ...PERCENT}};
  }
  const both = labelled.length > 1 ? `: ${labelled[0].name} solid, ${labelled[1].name} dotted` : "";
  if (labelled.length) yield {title: `confidence${both}`, gap: GAP, size: 56, traces: confidenceTraces(labelled, task), axis: {range: [0, 103], ...PERCENT}};
  for (const track of tracks)
    for (const name of Object.keys(track.segments[0]?.values ?? {}))
      yield {title: tracks.length > 1 ? `${name}, ${track.name}` : name, gap: GAP, size: 72, traces: [valueTrace(track, name)], axis: {nticks: 4}};
  for (const track of tracks)
    for (const [name, map] of Object.entries(track.attention ?? {})) {
      const label = name === task || Object.keys(track.attention).length === 1 ? "attention" : `attention: ${name}`;
      yield {title: tracks.length > 1 ? `${label}, ${track.name}` : label, gap: GAP, size: 56, traces: [attentionTrace(map, seconds)], axis: {rangemode: "tozero", showticklabels: false, showgrid: false}};
    }
}

function waveformRow({low, high}, seconds) {
  const x = low.map((_, place) => (place + 0.5) * seconds / low.length);
  const peak = Math.max(0.02, ...high, ...low.map(sample => -sample));
  const trace = {
    type: "scatter", mode: "lines", fill: "toself", fillcolor: themeColour("wave"), line: {color: themeColour("wave"), width: 0.5},
    x: [...x, ...x.toReversed()], y: [...high, ...low.toReversed()], hoverinfo: "skip", showlegend: false,
  };
  return {gap: 4, size: 90, traces: [trace], axis: {visible: false, range: [-1.05 * peak, 1.05 * peak]}};
}

function spectrogramRow({z, hz}, seconds) {
  const rows = z.length;
  const row = frequency => hz.findIndex(edge => edge >= frequency) - 0.5;
  const trace = {
    type: "heatmap", z, x0: seconds / z[0].length / 2, dx: seconds / z[0].length, zmin: -80, zmax: 0,
    colorscale: "Cividis", showscale: false, zsmooth: "fast", hoverinfo: "skip",
  };
  const kilohertz = [0.2, 0.5, 1, 2, 5].filter(khz => 1000 * khz < hz.at(-1));
  const axis = {range: [-0.5, rows - 0.5], tickvals: kilohertz.map(khz => row(1000 * khz)), ticktext: kilohertz.map(khz => khz < 1 ? `${1000 * khz}` : `${khz}k`), showgrid: false};
  return {gap: 4, size: 110, traces: [trace], axis};
}

function labelTraces({segments}, task, colours, seconds) {
  const merged = mergeRuns(segments, task);
  const letters = innerWidth < 1000 ? innerWidth / 9.5 : 105;  // that fit into a row
  return [{
    type: "bar", orientation: "h", y: merged.map(() => 0), width: 0.92, showlegend: false,
    base: merged.map(({start}) => start), x: merged.map(({start, end}) => end - start),
    text: merged.map(({start, end, label}) => (label ?? "unsure").length <= letters * (end - start) / seconds ? label ?? "unsure" : ""), textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "none",
    cliponaxis: true,
    marker: {
      color: merged.map(({label}) => label ? colours[label] : themeColour("panel")),
      line: {color: merged.map(({label}) => themeColour(label ? "paper" : "edge")), width: 1},
      pattern: {shape: merged.map(({label}) => label ? "" : "/"), fgcolor: themeColour("edge"), bgcolor: themeColour("paper"), size: 7, solidity: 0.2},
    },
    insidetextfont: {color: merged.map(({label}) => label ? textColour(colours[label]) : themeColour("ink")), size: 12},
    customdata: merged.map(({start, end, label, likeliest, confidence}) => [start, end, label ?? "unsure", likeliest, 100 * confidence]),
    hovertemplate: "%{customdata[0]:.1f} to %{customdata[1]:.1f} s: %{customdata[2]} (%{customdata[3]} %{customdata[4]:.0f} %)<extra></extra>",
  }];
}

// Probabilities are drawn at the middle of their segments, and extended to the ends of a group.
function probabilityTraces({segments}, task, colours) {
  const x = [];
  const points = [];
  for (const group of splitAtPauses(segments)) {
    const answers = group.map(({start, end, tasks}) => [(start + end) / 2, tasks[task].probabilities]);
    const first = group[0].start, last = group.at(-1).end;
    const extended = [[first, answers[0][1]], ...answers, [last, answers.at(-1)[1]]];
    x.push(first - 1e-3, ...extended.map(([time]) => time), last + 1e-3);
    points.push(null, ...extended.map(([, p]) => p), null);
  }
  return Object.entries(colours).map(([name, colour]) => ({
    type: "scatter", mode: "lines", stackgroup: "one", name, x, y: points.map(p => p ? 100 * p[name] : 0),
    line: {color: themeColour("paper"), width: 0.7}, fillcolor: colour, showlegend: false,
    hovertemplate: `${name} %{y:.0f} %<extra></extra>`, hoverlabel: {bgcolor: colour, font: {color: textColour(colour)}},
  }));
}

function confidenceTraces(tracks, task) {
  return tracks.flatMap(({name, segments, threshold}, index) => {
    const line = {
      ...lineTrace(segments, ({tasks}) => 100 * tasks[task].confidence),
      line: {color: index ? themeColour("attention") : themeColour("ink"), width: 1.75, dash: index ? "dot" : "solid"},
      hovertemplate: `${tracks.length > 1 ? `${name}: ` : ""}%{y:.0f} %<extra></extra>`,
    };
    if (!threshold) return [line];
    const thresholdLine = {
      type: "scatter", mode: "lines", x: [0, 1e6], y: [100 * threshold, 100 * threshold], showlegend: false, hoverinfo: "skip",
      line: {color: THRESHOLD_COLOUR, width: 1, dash: "dash"},
    };
    return [thresholdLine, line];
  });
}

function valueTrace({segments}, name) {
  return {
    ...lineTrace(segments, ({values}) => values[name]),
    line: {color: themeColour("ink"), width: 1.75},
    hovertemplate: `${escapeHTML(name)} %{y:.2f}<extra></extra>`,
  };
}

// A step line through the values of the segments, interrupted at pauses.
function lineTrace(segments, height) {
  const x = [], y = [];
  for (const group of splitAtPauses(segments)) {
    for (const segment of group) {
      x.push(segment.start, segment.end);
      y.push(height(segment), height(segment));
    }
    x.push(null);
    y.push(null);
  }
  return {type: "scatter", mode: "lines", x, y, connectgaps: false, showlegend: false};
}

function attentionTrace({times, weights}, seconds) {
  const mean = times.map((_, step) => weights.reduce((sum, head) => sum + head[step], 0) / weights.length);
  const edges = [0, ...times.slice(1).map((time, step) => (time + times[step]) / 2), seconds];
  return {
    type: "scatter", mode: "lines", x: edges, y: [...mean, mean.at(-1)].map(weight => 100 * weight), fill: "tozeroy",
    line: {color: themeColour("attention"), width: 1.25, shape: "hv"}, fillcolor: themeColour("attention-fill"), showlegend: false,
    hovertemplate: "%{y:.3~g} % of the attention<extra></extra>",
  };
}

function baseLayout(height) {
  const clear = "rgba(0,0,0,0)";
  const small = innerWidth < 600;
  return {
    template: {}, height, margin: {l: 48, r: 6, t: 0, b: BELOW}, paper_bgcolor: clear, plot_bgcolor: clear,
    dragmode: false, hovermode: "closest", bargap: 0, showlegend: false, barmode: "overlay",
    font: {family: getComputedStyle(document.body).fontFamily, size: small ? 11 : 12, color: themeColour("soft")},
    hoverlabel: {bgcolor: themeColour("panel"), bordercolor: themeColour("rule"), font: {color: themeColour("ink")}},
  };
}

const axis = () => ({fixedrange: true, zeroline: false, gridcolor: themeColour("rule"), linecolor: themeColour("rule"), tickcolor: themeColour("rule")});

const rowTitle = (text, y) => ({text: escapeHTML(text), x: 0, y, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, font: {color: themeColour("soft")}});

// Plotly interprets some HTML in labels.
const escapeHTML = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// Black or white, whichever has the higher contrast to a colour (WCAG 2, relative luminance).
export function textColour(colour) {
  const [red, green, blue] = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16) / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}
