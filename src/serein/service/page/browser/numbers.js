// Numbers as Python rounds and writes them.

// The nearest integer; of two, the even one.
export function roundHalfEven(x) {
  const below = Math.floor(x), rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 ? below + 1 : below;
}

// All numbers in objects and arrays, rounded to six significant digits.
export function roundFloats(value) {
  if (typeof value === "number") return Number(value.toPrecision(6));
  if (Array.isArray(value)) return value.map(roundFloats);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, roundFloats(item)]));
}

// A number as Python's repr of a float.
export function formatFloat(x) {
  if (x !== 0 && Math.abs(x) < 1e-4) return x.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  return Number.isInteger(x) ? `${x}.0` : String(x);
}

export const formatPercent = share => `${roundHalfEven(100 * share)}%`;

export const sum = numbers => numbers.reduce((total, x) => total + x, 0);

// The mean of rows of numbers, with a weight for each row or without.
export function averageRows(rows, weights = rows.map(() => 1)) {
  const total = sum(weights);
  return rows[0].map((_, column) => sum(rows.map((row, index) => row[column] * weights[index])) / total);
}

export function concatenate(parts) {
  const joined = new Float32Array(sum(parts.map(({length}) => length)));
  let position = 0;
  for (const part of parts) {
    joined.set(part, position);
    position += part.length;
  }
  return joined;
}
