// Windows of speech, hops and segments, as in `serein/inference/windowing.py`; positions are samples.

import {Problem} from "../problem.js";
import {averageRows, concatenate, roundHalfEven} from "./numbers.js";

export const MIN_SECONDS = 0.025;

// Windows and hops in samples, rounded to whole frames.
export function toWindowing({window, hop, smooth}, rate, frameSeconds, maxWindow) {
  const frame = Math.max(1, roundHalfEven(frameSeconds * rate));
  const windowFrames = roundHalfEven(window * rate / frame), hopFrames = roundHalfEven(hop * rate / frame);
  const refuse = text => { throw new Problem(400, text, "These settings do not fit"); };
  if (window < MIN_SECONDS || windowFrames < 1 || hopFrames < 1)
    refuse(`windows of ${window} s every ${hop} s are too short for this model; choose longer ones, such as 4 s every 1 s`);
  if (maxWindow !== null && window > maxWindow)
    refuse(`windows of ${window} s; this model takes at most ${maxWindow} s. Choose shorter ones`);
  if (hop > window)
    refuse(`a hop of ${hop} s with windows of ${window} s leaves gaps between windows; choose a hop that is no longer than the window`);
  if (smooth < 1 || smooth % 2 !== 1)
    refuse(`smoothing over ${smooth} hops; expected an odd number. Choose 1, 3 or 5`);
  return {length: windowFrames * frame, hop: hopFrames * frame, frame, smooth, minLength: roundHalfEven(MIN_SECONDS * rate)};
}

// The samples that a stream still needs, by their position in the recording.
export class SampleBuffer {
  constructor() {
    Object.assign(this, {start: 0, end: 0, parts: []});
  }

  append(samples) {
    this.parts.push(samples);
    this.end += samples.length;
  }

  // Discards the samples before a position.
  discard(before) {
    while (this.parts.length && this.start + this.parts[0].length <= before) this.start += this.parts.shift().length;
    if (!this.parts.length || before <= this.start) return;
    this.parts[0] = this.parts[0].subarray(before - this.start);
    this.start = before;
  }

  slice(start, end) {
    if (this.parts.length > 1) this.parts = [concatenate(this.parts)];
    return this.parts[0].slice(start - this.start, end - this.start);
  }
}

// Cuts one speech segment into windows while it grows.
export class WindowCutter {
  constructor(config, start) {
    Object.assign(this, {config, start, nextStart: start});
  }

  *iterWindows(until, closed) {
    const {length, hop, frame, minLength} = this.config;
    for (; this.nextStart + length <= until; this.nextStart += hop) yield [this.nextStart, this.nextStart + length];
    const covered = this.nextStart > this.start ? this.nextStart - hop + length : this.start;
    if (!closed || until <= covered || until - this.start < minLength) return;
    const offset = Math.max(0, until - length - this.start);
    yield [this.start + Math.ceil(offset / frame) * frame, until];
  }

  // First sample of later windows; the last window may start before `nextStart`.
  get firstNeeded() {
    return Math.max(this.start, this.nextStart - this.config.hop);
  }
}

// Averages the predictions of the windows of one speech segment for each hop: spans {start, end, p}.
export class HopAverager {
  constructor(config, start) {
    Object.assign(this, {config, position: start, windows: [], unsmoothed: [], emitted: 0});
  }

  // Adds a window and returns the hops that become final.
  add(window) {
    this.windows.push(window);
    while (this.position + Math.floor(this.config.hop / 2) < window.start) this.averageHop(this.position + this.config.hop);
    return this.smoothHops(Math.floor(this.config.smooth / 2));
  }

  // Ends the speech segment and returns its remaining hops.
  close(end) {
    while (this.windows.length && this.position < end) this.averageHop(Math.min(this.position + this.config.hop, end));
    return this.smoothHops(0);
  }

  averageHop(end) {
    const centre = Math.floor((this.position + end) / 2);
    this.windows = this.windows.filter(window => window.end > centre);
    const rows = this.windows.filter(({start}) => start <= centre).map(({p}) => p);
    this.unsmoothed.push({start: this.position, end, p: averageRows(rows)});
    this.position = end;
  }

  // Smooths all hops but the last `pending`; hops at the ends have fewer neighbours.
  smoothHops(pending) {
    const reach = Math.floor(this.config.smooth / 2), smoothed = [];
    for (; this.emitted < this.unsmoothed.length - pending; this.emitted++) {
      const {start, end} = this.unsmoothed[this.emitted];
      const neighbours = this.unsmoothed.slice(Math.max(0, this.emitted - reach), this.emitted + reach + 1);
      smoothed.push({start, end, p: averageRows(neighbours.map(({p}) => p))});
    }
    return smoothed;
  }
}

// Merges neighbouring hops with the same label; hasMerging is false if every hop is a segment.
export class SegmentMerger {
  constructor(findLabel, hasMerging) {
    Object.assign(this, {findLabel, hasMerging, hops: [], label: null});
  }

  // Adds a hop and yields the segment that it ends, if any.
  *add(hop) {
    if (!this.hasMerging) return yield hop;
    const label = this.findLabel(hop.p);
    if (!this.hops.length || label !== this.label) yield* this.close();
    this.label = label;
    this.hops.push(hop);
  }

  // Ends the speech segment and yields the segment that is still growing, if any.
  *close() {
    const hops = this.hops.splice(0);
    if (!hops.length) return;
    const p = averageRows(hops.map(hop => hop.p), hops.map(({start, end}) => end - start));
    yield {start: hops[0].start, end: hops.at(-1).end, p};
  }
}
