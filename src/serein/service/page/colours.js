// One colour for each class, told apart without red and green (Okabe & Ito, as in the reports).

const KNOWN = {
  anger: "#d55e00", boredom: "#56b4e9", disgust: "#009e73", fear: "#cc79a7", happiness: "#e69f00",
  joy: "#e69f00", neutral: "#8a8f98", sadness: "#0072b2", surprise: "#f0e442", excitement: "#f0e442",
  calm: "#56b4e9", frustration: "#7d4a9e", contempt: "#7d4a9e",
};
const OTHERS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7d4a9e"];

// Class -> colour; no two of one task are the same as long as there are enough.
export function colours(classes) {
  const free = OTHERS.filter(colour => !classes.some(name => KNOWN[name] === colour));
  const taken = new Set();
  return Object.fromEntries(classes.map(name => {
    const own = KNOWN[name];
    const colour = own && !taken.has(own) ? own : free.shift() ?? "#8a8f98";
    taken.add(colour);
    return [name, colour];
  }));
}

// What the style sheet says just now, light or dark.
export function shade(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
