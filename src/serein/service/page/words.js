// The words of a recording as buttons below its waveform; each plays its part.

import {timeScale} from "./figure.js";
import {element} from "./result.js";
import {formatTime} from "./segments.js";

const LANES = 2, LANE = 28, LETTER = 7.5, PADDING = 16;  // pixels

// Places the words of the visible part in lanes; a word without room is left out until there is more.
export function placeWords(box, figure, words, seconds, play) {
  const row = figure.timeline?.rows.find(({kind}) => kind === "words"), scale = timeScale(figure);
  box.hidden = !row;
  if (!row) return box.replaceChildren();
  box.style.top = `${row.top}px`;
  const ends = Array(LANES).fill(-Infinity), buttons = [];
  words.forEach(({word, time}, index) => {
    if (time < scale.from || time >= scale.to) return;
    const width = LETTER * word.length + PADDING, left = Math.max(scale.left(scale.from), scale.left(time) - width / 2);
    const lane = ends.findIndex(end => end + 3 < left);
    if (lane < 0 || left + width > scale.left(scale.to) + PADDING) return;
    ends[lane] = left + width;
    const next = words[index + 1]?.time ?? seconds, start = Math.max(0, time - 0.3);
    const button = element("button", {type: "button", class: "word", title: formatTime(time, 1)}, word);
    Object.assign(button.style, {left: `${left}px`, top: `${lane * LANE}px`, width: `${width}px`});
    button.addEventListener("click", event => play(start, Math.max(start + 0.3, next), event.shiftKey));
    buttons.push(button);
  });
  box.replaceChildren(...buttons);
}
