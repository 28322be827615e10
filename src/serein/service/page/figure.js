// The picture: rows above each other on one axis of time, drawn by Plotly.

import {shade} from "./colours.js";
import {runs, stretches} from "./segments.js";

const GAP = 26;
const BELOW = 34;
const INK = "#8a8f98";
const PERCENT = {tickvals: [0, 50, 100], ticktext: ["0", "50", "100 %"]};

const plotly = new Promise((done, failed) => {
  const script = document.createElement("script");
  script.src = "page/plotly.js";
  script.onload = () => done(window.Plotly);
  script.onerror = () => failed(new Error("plotly.js did not come"));
  document.head.append(script);
});

// Draws {seconds, envelope, spectrogram, tracks: [{name, threshold, segments, attention}], task, colours}.
export async function draw(div, shown) {
  const rows = [...rowsOf(shown)];
  const height = rows.reduce((sum, row) => sum + row.gap + row.size, BELOW);
  const layout = {...frame(height), xaxis: {...axis(), range: [0, shown.seconds], ticksuffix: " s", nticks: 8, showgrid: false}, annotations: []};
  const traces = [];
  let top = 0;
  rows.forEach((row, index) => {
    const name = index ? `y${index + 1}` : "y";
    const share = pixels => Math.max(0, 1 - pixels / (height - BELOW));
    const domain = [share(top + row.gap + row.size), share(top + row.gap)];
    layout[`yaxis${name.slice(1)}`] = {...axis(), ...row.axis, domain};
    traces.push(...row.traces.map(trace => ({...trace, xaxis: "x", yaxis: name})));
    if (row.title) layout.annotations.push(title(row.title, domain[1]));
    if (index === rows.length - 1) layout.xaxis.anchor = name;
    top += row.gap + row.size;
  });
  await (await plotly).react(div, traces, layout, {displayModeBar: false, doubleClick: false, showTips: false});
}

export const resize = div => div._fullLayout && plotly.then(({Plots}) => Plots.resize(div));

// Where a time lies in the picture, in pixels from its left and top; and the time at a pixel.
export function ruler(div) {
  const {xaxis, _size: size} = div._fullLayout;
  return {
    left: time => xaxis._offset + xaxis.l2p(time),
    time: left => xaxis.p2l(left - xaxis._offset),
    top: size.t, height: size.h,
  };
}

function* rowsOf({seconds, envelope, spectrogram, tracks, task, colours}) {
  if (spectrogram) yield spectrum(spectrogram, seconds);
  else if (envelope) yield wave(envelope, seconds);
  const labelled = task ? tracks.filter(({segments}) => !segments.length || segments.some(({tasks}) => tasks[task])) : [];
  for (const track of labelled) {
    yield {title: tracks.length > 1 ? track.name : task, gap: GAP, size: 24, traces: ribbon(track, task, colours, seconds), axis: {visible: false, range: [-0.5, 0.5]}};
    yield {gap: 5, size: 130, traces: stack(track, task, colours), axis: {range: [0, 100], ...PERCENT}};
  }
  const both = labelled.length > 1 ? `: ${labelled[0].name} solid, ${labelled[1].name} dotted` : "";
  if (labelled.length) yield {title: `confidence${both}`, gap: GAP, size: 56, traces: confidence(labelled, task), axis: {range: [0, 103], ...PERCENT}};
  for (const track of tracks)
    for (const name of Object.keys(track.segments[0]?.values ?? {}))
      yield {title: tracks.length > 1 ? `${name}, ${track.name}` : name, gap: GAP, size: 72, traces: [value(track, name)], axis: {nticks: 4}};
  for (const track of tracks)
    for (const [name, map] of Object.entries(track.attention ?? {})) {
      const words = name === task || Object.keys(track.attention).length === 1 ? "attention" : `attention: ${name}`;
      yield {title: tracks.length > 1 ? `${words}, ${track.name}` : words, gap: GAP, size: 56, traces: [attention(map, seconds)], axis: {rangemode: "tozero", showticklabels: false, showgrid: false}};
    }
}

function wave({low, high}, seconds) {
  const x = low.map((_, place) => (place + 0.5) * seconds / low.length);
  const most = Math.max(0.02, ...high, ...low.map(one => -one));
  const trace = {
    type: "scatter", mode: "lines", fill: "toself", fillcolor: shade("wave"), line: {color: shade("wave"), width: 0.5},
    x: [...x, ...x.toReversed()], y: [...high, ...low.toReversed()], hoverinfo: "skip", showlegend: false,
  };
  return {gap: 4, size: 90, traces: [trace], axis: {visible: false, range: [-1.05 * most, 1.05 * most]}};
}

function spectrum({z, hz}, seconds) {
  const rows = z.length;
  const row = wanted => hz.findIndex(edge => edge >= wanted) - 0.5;
  const trace = {
    type: "heatmap", z, x0: seconds / z[0].length / 2, dx: seconds / z[0].length, zmin: -80, zmax: 0,
    colorscale: "Cividis", showscale: false, zsmooth: "fast", hoverinfo: "skip",
  };
  const kilohertz = [0.2, 0.5, 1, 2, 5].filter(one => 1000 * one < hz.at(-1));
  const axis = {range: [-0.5, rows - 0.5], tickvals: kilohertz.map(one => row(1000 * one)), ticktext: kilohertz.map(one => one < 1 ? `${1000 * one}` : `${one}k`), showgrid: false};
  return {gap: 4, size: 110, traces: [trace], axis};
}

function ribbon({segments}, task, colours, seconds) {
  const found = runs(segments, task);
  const letters = innerWidth < 1000 ? innerWidth / 9.5 : 105;  // that a row has place for
  return [{
    type: "bar", orientation: "h", y: found.map(() => 0), width: 0.92, showlegend: false,
    base: found.map(({start}) => start), x: found.map(({start, end}) => end - start),
    text: found.map(({start, end, label}) => (label ?? "unsure").length <= letters * (end - start) / seconds ? label ?? "unsure" : ""), textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "none",
    cliponaxis: true,
    marker: {
      color: found.map(({label}) => label ? colours[label] : shade("panel")),
      line: {color: found.map(({label}) => shade(label ? "paper" : "edge")), width: 1},
      pattern: {shape: found.map(({label}) => label ? "" : "/"), fgcolor: shade("edge"), bgcolor: shade("paper"), size: 7, solidity: 0.2},
    },
    insidetextfont: {color: found.map(({label}) => label ? ink(colours[label]) : shade("ink")), size: 12},
    customdata: found.map(({start, end, label, likeliest, confidence}) => [start, end, label ?? "unsure", likeliest, 100 * confidence]),
    hovertemplate: "%{customdata[0]:.1f} to %{customdata[1]:.1f} s: %{customdata[2]} (%{customdata[3]} %{customdata[4]:.0f} %)<extra></extra>",
  }];
}

// Probabilities lie at the middle of what they answer for, and reach to the ends of each stretch.
function stack({segments}, task, colours) {
  const x = [];
  const points = [];
  for (const stretch of stretches(segments)) {
    const answers = stretch.map(({start, end, tasks}) => [(start + end) / 2, tasks[task].probabilities]);
    const first = stretch[0].start, last = stretch.at(-1).end;
    const course = [[first, answers[0][1]], ...answers, [last, answers.at(-1)[1]]];
    x.push(first - 1e-3, ...course.map(([time]) => time), last + 1e-3);
    points.push(null, ...course.map(([, p]) => p), null);
  }
  return Object.entries(colours).map(([name, colour]) => ({
    type: "scatter", mode: "lines", stackgroup: "one", name, x, y: points.map(p => p ? 100 * p[name] : 0),
    line: {color: shade("paper"), width: 0.7}, fillcolor: colour, showlegend: false,
    hovertemplate: `${name} %{y:.0f} %<extra></extra>`, hoverlabel: {bgcolor: colour, font: {color: ink(colour)}},
  }));
}

function confidence(tracks, task) {
  return tracks.flatMap(({name, segments, threshold}, index) => {
    const line = {
      ...course(segments, ({tasks}) => 100 * tasks[task].confidence),
      line: {color: index ? shade("look") : shade("ink"), width: 1.75, dash: index ? "dot" : "solid"},
      hovertemplate: `${tracks.length > 1 ? `${name}: ` : ""}%{y:.0f} %<extra></extra>`,
    };
    if (!threshold) return [line];
    const least = {
      type: "scatter", mode: "lines", x: [0, 1e6], y: [100 * threshold, 100 * threshold], showlegend: false, hoverinfo: "skip",
      line: {color: INK, width: 1, dash: "dash"},
    };
    return [least, line];
  });
}

function value({segments}, name) {
  return {
    ...course(segments, ({values}) => values[name]),
    line: {color: shade("ink"), width: 1.75},
    hovertemplate: `${escaped(name)} %{y:.2f}<extra></extra>`,
  };
}

// A line that is as high as each segment says, and broken in pauses.
function course(segments, height) {
  const x = [], y = [];
  for (const stretch of stretches(segments)) {
    for (const segment of stretch) {
      x.push(segment.start, segment.end);
      y.push(height(segment), height(segment));
    }
    x.push(null);
    y.push(null);
  }
  return {type: "scatter", mode: "lines", x, y, connectgaps: false, showlegend: false};
}

function attention({times, weights}, seconds) {
  const mean = times.map((_, step) => weights.reduce((sum, head) => sum + head[step], 0) / weights.length);
  const edges = [0, ...times.slice(1).map((time, step) => (time + times[step]) / 2), seconds];
  return {
    type: "scatter", mode: "lines", x: edges, y: [...mean, mean.at(-1)].map(weight => 100 * weight), fill: "tozeroy",
    line: {color: shade("look"), width: 1.25, shape: "hv"}, fillcolor: shade("look-fill"), showlegend: false,
    hovertemplate: "%{y:.3~g} % of the attention<extra></extra>",
  };
}

function frame(height) {
  const clear = "rgba(0,0,0,0)";
  const small = innerWidth < 600;
  return {
    template: {}, height, margin: {l: 48, r: 6, t: 0, b: BELOW}, paper_bgcolor: clear, plot_bgcolor: clear,
    dragmode: false, hovermode: "closest", bargap: 0, showlegend: false, barmode: "overlay",
    font: {family: getComputedStyle(document.body).fontFamily, size: small ? 11 : 12, color: shade("soft")},
    hoverlabel: {bgcolor: shade("panel"), bordercolor: shade("rule"), font: {color: shade("ink")}},
  };
}

const axis = () => ({fixedrange: true, zeroline: false, gridcolor: shade("rule"), linecolor: shade("rule"), tickcolor: shade("rule")});

const title = (text, high) => ({text: escaped(text), x: 0, y: high, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, font: {color: shade("soft")}});

// Plotly reads some HTML in labels.
const escaped = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// Black or white, whichever is easier to read on a colour (WCAG 2, relative luminance).
export function ink(colour) {
  const [red, green, blue] = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16) / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}
