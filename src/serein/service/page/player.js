// Playback, the cursor in the timeline, and its keys.

import {timeScale} from "./figure.js";
import {formatTime} from "./segments.js";

const STEPS = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10};

export class Player {
  // describe(time) returns the answer at a time in words; findPart(time, event) the segment that a click
  // means, or null; onMove is called with each new time.
  constructor({sound, plot, figure, cursor, loop}, {describe, findPart, onMove}) {
    Object.assign(this, {sound, plot, figure, cursor, loop, describe, findPart, onMove, seconds: 0, time: 0, url: "", part: null});
    for (const name of ["play", "pause", "seeked", "timeupdate", "ended"])
      sound.addEventListener(name, () => this.follow());
    plot.addEventListener("click", event => this.onClick(event));
    plot.addEventListener("keydown", event => this.onKeydown(event));
  }

  // Loads a recording, or none while one is still being recorded.
  load(file, seconds) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = file ? URL.createObjectURL(file) : "";
    if (file) this.sound.src = this.url;
    else this.sound.removeAttribute("src");
    this.seconds = seconds;
    this.part = null;
    this.move(0);
  }

  play(time) {
    this.part = null;
    this.start(time);
  }

  // Plays from start to end, once or in a loop.
  playPart(start, end, isLoop = false) {
    this.part = {start, end, isLoop};
    this.start(start);
  }

  start(time) {
    this.move(time);
    if (this.url) this.sound.play().catch(() => {});  // a format that this browser cannot play
  }

  move(time) {
    this.time = Math.max(0, Math.min(time, this.seconds));
    if (this.url) this.sound.currentTime = this.time;
    this.show();
  }

  follow() {
    cancelAnimationFrame(this.next);
    this.time = this.sound.currentTime;
    if (this.part && !this.sound.paused && this.time >= this.part.end) {
      if (this.part.isLoop) this.sound.currentTime = this.time = this.part.start;
      else { this.sound.pause(); this.part = null; }
    }
    this.show();
    if (!this.sound.paused) this.next = requestAnimationFrame(() => this.follow());
  }

  show() {
    this.plot.setAttribute("aria-valuemax", this.seconds.toFixed(1));
    this.plot.setAttribute("aria-valuenow", this.time.toFixed(1));
    this.plot.setAttribute("aria-valuetext", `${formatTime(this.time, 1)} of ${formatTime(this.seconds, 1)}${this.describe(this.time)}`);
    this.onMove(this.time);
    this.place();
  }

  // Puts the cursor, and the mark of a loop, at their places in the figure.
  place() {
    const scale = timeScale(this.figure);
    const isVisible = time => scale && scale.from <= time && time <= scale.to;
    this.cursor.hidden = !this.url || !isVisible(this.time);
    this.loop.hidden = !this.part?.isLoop || !scale || this.part.end < scale.from || this.part.start > scale.to;
    if (!this.cursor.hidden) Object.assign(this.cursor.style, {left: `${scale.left(this.time)}px`, height: `${scale.height}px`});
    if (this.loop.hidden) return;
    const left = scale.left(Math.max(scale.from, this.part.start)), right = scale.left(Math.min(scale.to, this.part.end));
    Object.assign(this.loop.style, {left: `${left}px`, width: `${right - left}px`, height: `${scale.height}px`});
  }

  onClick(event) {
    this.plot.focus({preventScroll: true});
    const time = timeScale(this.figure)?.time(event.clientX - this.figure.getBoundingClientRect().left);
    if (time === undefined || time < 0 || time > this.seconds) return;
    const part = this.findPart(time, event);
    if (part) this.playPart(part.start, part.end, event.shiftKey);
    else this.play(time);
  }

  onKeydown(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const {key} = event, part = this.findPart(this.time, null);
    if (key in STEPS) this.move(this.time + STEPS[key]);
    else if (key === "Home") this.move(0);
    else if (key === "End") this.move(this.seconds);
    else if (key === " ") this.sound.paused ? this.start(this.time) : this.sound.pause();
    else if (key === "Enter" || key === "l" || key === "L") {
      if (part) this.playPart(part.start, part.end, key !== "Enter");
      else this.play(this.time);
    } else return;
    event.preventDefault();
  }
}
