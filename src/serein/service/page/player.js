// What is heard, where the cursor stands, and the keys that move it.

import {ruler} from "./figure.js";
import {clock} from "./segments.js";

const STEPS = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10};

export class Player {
  // `says` puts an answer at a time into words.
  constructor({sound, plot, figure, cursor}, says) {
    Object.assign(this, {sound, plot, figure, cursor, says, seconds: 0, time: 0, address: ""});
    for (const name of ["play", "pause", "seeked", "timeupdate", "ended"])
      sound.addEventListener(name, () => this.follow());
    plot.addEventListener("click", event => this.clicked(event));
    plot.addEventListener("keydown", event => this.pressed(event));
  }

  // Takes another recording, or none while somebody is still speaking.
  load(file, seconds) {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = file ? URL.createObjectURL(file) : "";
    if (file) this.sound.src = this.address;
    else this.sound.removeAttribute("src");
    this.seconds = seconds;
    this.move(0);
  }

  play(time) {
    this.move(time);
    if (this.address) this.sound.play().catch(() => {});  // a format that this browser cannot play
  }

  move(time) {
    this.time = Math.max(0, Math.min(time, this.seconds));
    if (this.address) this.sound.currentTime = this.time;
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
    this.plot.setAttribute("aria-valuetext", `${clock(this.time, 1)} of ${clock(this.seconds, 1)}${this.says(this.time)}`);
    if (!this.figure._fullLayout) return;
    const {left, top, height} = ruler(this.figure);
    Object.assign(this.cursor.style, {left: `${left(this.time)}px`, top: `${top}px`, height: `${height}px`});
    this.cursor.hidden = !this.address;
  }

  clicked(event) {
    this.plot.focus({preventScroll: true});
    if (!this.figure._fullLayout) return;
    const time = ruler(this.figure).time(event.clientX - this.figure.getBoundingClientRect().left);
    if (time >= 0 && time <= this.seconds) this.play(time);
  }

  pressed(event) {
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
