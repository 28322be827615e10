// The live picture: the last 30 seconds of the microphone, with the answers under the waveform.

import {textColour, themeColour} from "./colours.js";
import {mergeRuns} from "./segments.js";

const SECONDS = 30;
const SLICE = 0.05;  // seconds of a column of the waveform
const BAND = 34, AXIS = 20, PAUSE = 1.2;  // pixels, pixels, seconds of a pause that is named
const FAINT = 0.4;

export class Scope {
  constructor(canvas) {
    Object.assign(this, {canvas, peaks: [], pending: 0, count: 0, rate: 1, segments: [], growing: null, task: "", colours: {}, arrival: 0});
  }

  // Without answers, only the waveform is drawn.
  start(rate, hasAnswers, task, colours) {
    Object.assign(this, {rate, hasAnswers, task, colours, peaks: [], pending: 0, count: 0, segments: [], growing: null, arrival: performance.now()});
    cancelAnimationFrame(this.next);
    const draw = () => { this.draw(); this.next = requestAnimationFrame(draw); };
    draw();
  }

  stop() {
    cancelAnimationFrame(this.next);
  }

  // Adds samples of the microphone.
  push(samples) {
    const length = Math.round(SLICE * this.rate);
    for (const sample of samples) {
      this.pending = Math.max(this.pending, Math.abs(sample));
      if (++this.count % length) continue;
      this.peaks.push(this.pending);
      this.pending = 0;
    }
    this.arrival = performance.now();
  }

  // Seconds of the recording, which grow smoothly between two blocks of samples.
  seconds() {
    return this.count / this.rate + Math.min(0.2, (performance.now() - this.arrival) / 1000);
  }

  draw() {
    const {canvas} = this, ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) Object.assign(canvas, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
    const context = canvas.getContext("2d");
    const to = Math.max(SECONDS, this.seconds()), from = to - SECONDS;
    this.x = time => (time - from) / SECONDS * width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
    context.textBaseline = "middle";
    this.drawWaveform(context, height - AXIS - 8 - (this.hasAnswers ? BAND : 0), from);
    if (this.hasAnswers) this.drawAnswers(context, height - BAND - AXIS, from);
    context.textAlign = "center";
    context.fillStyle = themeColour("soft");
    for (let tick = Math.ceil(from / 5) * 5; tick <= to; tick += 5) {
      context.fillRect(this.x(tick), height - AXIS, 1, 4);
      if (this.x(tick) > 14 && this.x(tick) < width - 14) context.fillText(`${tick} s`, this.x(tick), height - AXIS / 2 + 2);
    }
  }

  drawWaveform(context, height, from) {
    context.fillStyle = themeColour("wave");
    const first = Math.max(0, Math.floor(from / SLICE)), wide = Math.max(1, this.x(SLICE) - this.x(0) - 0.5);
    const loudest = Math.max(0.05, ...this.peaks.slice(first));
    for (let index = first; index < this.peaks.length; index++) {
      const tall = Math.max(1, this.peaks[index] / loudest * height);
      context.fillRect(this.x(index * SLICE), (height - tall) / 2, wide, tall);
    }
  }

  drawAnswers(context, top, from) {
    const final = this.task ? mergeRuns(this.segments, this.task) : this.segments.map(({start, end}) => ({start, end}));
    const growing = this.growing?.tasks[this.task];
    this.canvas.blocks = [];  // what is drawn
    let last = 0;
    for (const {start, end, label} of final) {
      this.drawPause(context, top, Math.max(last, from), start);
      if (end > from) this.drawBlock(context, top, start, end, label, 1);
      last = end;
    }
    if (this.growing) {
      this.drawPause(context, top, Math.max(last, from), this.growing.start);
      this.drawBlock(context, top, this.growing.start, this.growing.end, growing?.label, FAINT);
    } else this.drawPause(context, top, Math.max(last, from), this.seconds());
  }

  drawBlock(context, top, start, end, label, alpha) {
    this.canvas.blocks.push({start, end, label, isFinal: alpha === 1});
    const left = Math.max(0, this.x(start)), right = this.x(end);
    context.globalAlpha = label ? alpha : FAINT;
    context.fillStyle = label ? this.colours[label] : themeColour("edge");
    context.fillRect(left, top, Math.max(1, right - left - 1), BAND);
    context.globalAlpha = 1;
    if (alpha < 1) {
      context.setLineDash([4, 3]);
      context.strokeStyle = themeColour("edge");
      context.strokeRect(left + 0.5, top + 0.5, Math.max(1, right - left - 2), BAND - 1);
      context.setLineDash([]);
    }
    const text = label === undefined ? "" : label ?? "unsure";  // a model of numbers has no labels
    if (context.measureText(text).width + 8 > right - left) return;
    context.textAlign = "center";
    context.fillStyle = alpha < 1 || !label ? themeColour("ink") : textColour(this.colours[label]);
    context.fillText(text, (left + right) / 2, top + BAND / 2);
  }

  drawPause(context, top, start, end) {
    if (end - start < PAUSE) return;
    this.canvas.blocks.push({start, end, label: "no speech", isFinal: true});
    context.textAlign = "center";
    context.fillStyle = themeColour("soft");
    if (context.measureText("no speech").width + 8 < this.x(end) - this.x(start))
      context.fillText("no speech", (this.x(start) + this.x(end)) / 2, top + BAND / 2);
  }
}
