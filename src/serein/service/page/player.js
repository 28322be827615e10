// Playback, the cursor in the timeline, and its keys.

import {timeScale} from "./figure.js";
import {formatTime} from "./segments.js";

const STEPS = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10};

export class Player {
  // describe(time) returns the answer at a time in words; onMove is called with each new time.
  constructor({sound, plot, figure, cursor}, describe, onMove = () => {}) {
    Object.assign(this, {sound, plot, figure, cursor, describe, onMove, seconds: 0, time: 0, url: ""});
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
    this.move(0);
  }

  play(time) {
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
    this.show();
    if (!this.sound.paused) this.next = requestAnimationFrame(() => this.follow());
  }

  show() {
    this.plot.setAttribute("aria-valuemax", this.seconds.toFixed(1));
    this.plot.setAttribute("aria-valuenow", this.time.toFixed(1));
    this.plot.setAttribute("aria-valuetext", `${formatTime(this.time, 1)} of ${formatTime(this.seconds, 1)}${this.describe(this.time)}`);
    this.onMove(this.time);
    if (!this.figure._fullLayout) return;
    const {left, top, height} = timeScale(this.figure);
    Object.assign(this.cursor.style, {left: `${left(this.time)}px`, top: `${top}px`, height: `${height}px`});
    this.cursor.hidden = !this.url;
  }

  onClick(event) {
    this.plot.focus({preventScroll: true});
    if (!this.figure._fullLayout) return;
    const time = timeScale(this.figure).time(event.clientX - this.figure.getBoundingClientRect().left);
    if (time >= 0 && time <= this.seconds) this.play(time);
  }

  onKeydown(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const {key} = event;
    if (key in STEPS) this.move(this.time + STEPS[key]);
    else if (key === "Home") this.move(0);
    else if (key === "End") this.move(this.seconds);
    else if (key === " " || key === "Enter") this.sound.paused ? this.play(this.time) : this.sound.pause();
    else return;
    event.preventDefault();
  }
}
