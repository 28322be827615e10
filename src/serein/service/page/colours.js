// A colour for each class, distinct without red and green vision (Okabe & Ito, as in the reports).

const KNOWN = {
  anger: "#d55e00", boredom: "#56b4e9", disgust: "#009e73", fear: "#cc79a7", happiness: "#e69f00",
  joy: "#e69f00", neutral: "#8a8f98", sadness: "#0072b2", surprise: "#f0e442", excitement: "#f0e442",
  calm: "#56b4e9", frustration: "#7d4a9e", contempt: "#7d4a9e",
};
const OTHERS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7d4a9e"];

// Maps classes to colours, which differ as long as there are enough.
export function assignColours(classes) {
  const free = OTHERS.filter(colour => !classes.some(name => KNOWN[name] === colour));
  const taken = new Set();
  return Object.fromEntries(classes.map(name => {
    const preferred = KNOWN[name];
    const colour = preferred && !taken.has(preferred) ? preferred : free.shift() ?? "#8a8f98";
    taken.add(colour);
    return [name, colour];
  }));
}

// The current value of a colour of the style sheet, which differs in light and dark mode.
export function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Black or white, whichever has the higher contrast to a colour (WCAG 2, relative luminance).
export function textColour(colour) {
  const [red, green, blue] = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16) / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}
