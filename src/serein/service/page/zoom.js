// The visible part of the timeline: buttons, keys, wheel, dragging, and a map of the whole recording.

import {themeColour} from "./colours.js";
import {timeScale} from "./figure.js";
import {mergeRuns} from "./segments.js";
import {envelope} from "./spectrum.js";

const MIN_SECONDS = 1;
const DRAG_PIXELS = 6;  // below, a drag is a click
const KEYS = {"+": 0.5, "=": 0.5, "-": 2};

export class Zoom {
  // onChange is called after each change of `range`, [from, to] in seconds.
  constructor({plot, figure, map, zoomIn, zoomOut, whole}, onChange) {
    Object.assign(this, {plot, figure, map, buttons: [zoomIn, zoomOut, whole], onChange, seconds: 0, range: [0, 0], time: 0});
    zoomIn.addEventListener("click", () => this.scale(0.5));
    zoomOut.addEventListener("click", () => this.scale(2));
    whole.addEventListener("click", () => this.show(0, this.seconds));
    plot.addEventListener("keydown", event => this.onKeydown(event));
    plot.addEventListener("wheel", event => this.onWheel(event), {passive: false});
    dragging(plot, event => this.range, (start, pixels) => {
      const scale = timeScale(this.figure);
      if (!scale || this.isWhole()) return;
      const shift = -pixels / scale.width * (start[1] - start[0]);
      this.show(start[0] + shift, start[1] + shift);
    });
    dragging(map, event => this.centre(event), (start, _, event) => this.centre(event), true);
  }

  // Starts with the whole of a recording.
  reset(seconds) {
    Object.assign(this, {seconds, range: [0, seconds], time: 0});
    this.update();
  }

  isWhole() {
    return this.range[0] <= 0 && this.range[1] >= this.seconds;
  }

  show(from, to) {
    const length = Math.min(this.seconds, Math.max(Math.min(MIN_SECONDS, this.seconds), to - from));
    const start = Math.max(0, Math.min(this.seconds - length, from));
    this.range = [start, start + length];
    this.update();
    this.onChange();
  }

  // Multiplies the visible length; the time at `centre`, or the playhead if it is visible, keeps its place.
  scale(factor, centre) {
    const [from, to] = this.range;
    const isVisible = from <= this.time && this.time <= to;
    const fixed = centre ?? (isVisible ? this.time : (from + to) / 2);
    this.show(fixed - (fixed - from) * factor, fixed + (to - fixed) * factor);
  }

  // Turns a page when the playhead leaves the visible part, unless it was left behind by scrolling.
  follow(time) {
    const [from, to] = this.range, length = to - from, previous = this.time;
    this.time = time;
    if (this.isWhole() || (from <= time && time <= to)) return;
    const isLeftBehind = (previous < from || previous > to) && Math.abs(time - previous) < 0.5;
    if (isLeftBehind) return;
    this.show(time - 0.1 * length, time + 0.9 * length);
  }

  centre(event) {
    const {left, width} = this.map.getBoundingClientRect();
    const time = (event.clientX - left) / width * this.seconds, half = (this.range[1] - this.range[0]) / 2;
    this.show(time - half, time + half);
  }

  update() {
    const [zoomIn, zoomOut, whole] = this.buttons;
    zoomIn.disabled = this.range[1] - this.range[0] <= MIN_SECONDS + 0.01;
    zoomOut.disabled = whole.disabled = this.isWhole();
    const frame = this.map.querySelector(".frame");
    frame.style.left = `${100 * this.range[0] / this.seconds}%`;
    frame.style.width = `${100 * (this.range[1] - this.range[0]) / this.seconds}%`;
    frame.hidden = this.isWhole();
  }

  onKeydown(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in KEYS) this.scale(KEYS[event.key]);
    else if (event.key === "0") this.show(0, this.seconds);
    else return;
    event.preventDefault();
  }

  onWheel(event) {
    const scale = timeScale(this.figure);
    if (!scale) return;
    const isZoom = event.ctrlKey || event.metaKey;
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (!isZoom && (this.isWhole() || Math.abs(sideways) <= Math.abs(event.shiftKey ? 0 : event.deltaY))) return;
    event.preventDefault();
    const [from, to] = this.range;
    if (!isZoom) return this.show(from + sideways / scale.width * (to - from), to + sideways / scale.width * (to - from));
    this.scale(Math.exp(0.003 * Math.max(-200, Math.min(200, event.deltaY))), scale.time(event.clientX - this.figure.getBoundingClientRect().left));
  }

  // Draws the whole recording: its waveform over the labels of the first track.
  drawMap(sound, track, task, colours) {
    const canvas = this.map.querySelector("canvas"), ratio = devicePixelRatio || 1;
    const width = Math.round(this.map.clientWidth * ratio), height = Math.round(this.map.clientHeight * ratio);
    if (!width || !this.seconds) return;
    Object.assign(canvas, {width, height});
    const context = canvas.getContext("2d");
    const band = sound ? Math.round(0.3 * height) : height;
    for (const {start, end, label} of track ? mergeRuns(track.segments, task) : []) {
      context.fillStyle = label ? colours[label] : themeColour("edge");
      const left = Math.round(start / this.seconds * width);
      context.fillRect(left, height - band, Math.max(1, Math.round(end / this.seconds * width) - left), band);
    }
    if (!sound) return;
    const {low, high} = envelope(sound.samples, Math.min(width, sound.samples.length));
    const peak = Math.max(0.02, ...high, ...low.map(sample => -sample)), middle = (height - band) / 2;
    context.fillStyle = themeColour("wave");
    const until = sound.samples.length / sound.rate / this.seconds * width;
    low.forEach((sample, column) => {
      const top = middle * (1 - 0.95 * high[column] / peak), bottom = middle * (1 - 0.95 * sample / peak);
      context.fillRect(column * until / low.length, top, Math.max(1, until / low.length), Math.max(1, bottom - top));
    });
  }
}

// Calls onMove(start, pixels, event) while a pointer drags an element; start is what onStart returned.
function dragging(target, onStart, onMove, isImmediate = false) {
  let start = null, from = 0, moved = false;
  target.addEventListener("pointerdown", event => {
    if (event.button || !event.isPrimary) return;
    [start, from, moved] = [onStart(event) ?? true, event.clientX, isImmediate];
  });
  target.addEventListener("pointermove", event => {
    if (start === null || !event.isPrimary) return;
    if (!moved && Math.abs(event.clientX - from) < DRAG_PIXELS) return;
    if (!target.hasPointerCapture(event.pointerId)) target.setPointerCapture(event.pointerId);
    moved = true;
    onMove(start, event.clientX - from, event);
  });
  for (const name of ["pointerup", "pointercancel"]) target.addEventListener(name, () => { start = null; });
  target.addEventListener("click", event => { if (moved) event.stopImmediatePropagation(); moved = false; }, true);
}
