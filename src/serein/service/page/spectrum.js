// Waveform envelope and mel spectrogram, reduced to the resolution of a screen.

const SIZE = 512;  // samples of a Fourier transform
const BANDS = 72;  // mel bands
const FLOOR = -90;  // dB

// Lowest and highest sample in each of `count` equally long parts.
export function envelope(samples, count = 900) {
  const columns = Math.min(count, samples.length);
  const low = new Array(columns), high = new Array(columns);
  for (let column = 0; column < columns; column++) {
    const first = Math.floor(column * samples.length / columns);
    const last = Math.floor((column + 1) * samples.length / columns);
    let lowest = samples[first], highest = lowest;
    for (let index = first; index < last; index++) {
      lowest = Math.min(lowest, samples[index]);
      highest = Math.max(highest, samples[index]);
    }
    low[column] = lowest;
    high[column] = highest;
  }
  return {low, high};
}

// Level in dB relative to the maximum, by mel band and time, and the edges of the bands in Hz.
export function spectrogram(samples, rate, count = 700) {
  const columns = Math.max(1, Math.min(count, Math.floor(samples.length / (SIZE / 4))));
  const edges = bandEdges(rate);
  const z = Array.from({length: BANDS}, () => new Array(columns));
  for (let column = 0; column < columns; column++) {
    const power = powerSpectrum(samples, Math.round(column / columns * (samples.length - SIZE)));
    for (let band = 0; band < BANDS; band++) {
      const first = Math.floor(edges[band]), last = Math.max(first + 1, Math.floor(edges[band + 1]));
      let sum = 0;
      for (let bin = first; bin < last; bin++) sum += power[bin];
      z[band][column] = 10 * Math.log10(sum / (last - first) + 1e-12);
    }
  }
  const maximum = z.reduce((top, row) => Math.max(top, ...row), FLOOR);
  return {z: z.map(row => row.map(level => Math.max(level - maximum, FLOOR))), hz: edges.map(bin => bin * rate / SIZE)};
}

// Edges of the mel bands, in bins of the Fourier transform.
function bandEdges(rate) {
  const mel = hz => 2595 * Math.log10(1 + hz / 700);
  const top = mel(rate / 2), bottom = mel(50);
  return Array.from({length: BANDS + 1}, (_, band) => {
    const hz = 700 * (10 ** ((bottom + (top - bottom) * band / BANDS) / 2595) - 1);
    return hz * SIZE / rate;
  });
}

function powerSpectrum(samples, start) {
  const real = new Float64Array(SIZE), imaginary = new Float64Array(SIZE);
  for (let index = 0; index < SIZE; index++) {
    const hann = 0.5 - 0.5 * Math.cos(2 * Math.PI * index / SIZE);
    real[index] = (samples[start + index] ?? 0) * hann;
  }
  fft(real, imaginary);
  return real.slice(0, SIZE / 2 + 1).map((value, bin) => value ** 2 + imaginary[bin] ** 2);
}

// Fast Fourier transform (Cooley & Tukey), in place; the length is a power of two.
function fft(real, imaginary) {
  const count = real.length;
  for (let i = 1, j = 0; i < count; i++) {
    let bit = count >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let length = 2; length <= count; length <<= 1) {
    for (let step = 0; step < length / 2; step++) {
      const angle = -2 * Math.PI * step / length;
      const cosine = Math.cos(angle), sine = Math.sin(angle);
      for (let even = step; even < count; even += length) {
        const odd = even + length / 2;
        const a = real[odd] * cosine - imaginary[odd] * sine;
        const b = real[odd] * sine + imaginary[odd] * cosine;
        real[odd] = real[even] - a;
        imaginary[odd] = imaginary[even] - b;
        real[even] += a;
        imaginary[even] += b;
      }
    }
  }
}

const CIVIDIS = [[0, 32, 77], [65, 77, 107], [124, 123, 120], [187, 174, 113], [255, 234, 70]];  // Nuñez et al., 2018

// Red, green and blue of a level from -80 to 0 dB.
export function colourOfLevel(level) {
  const place = Math.max(0, Math.min(0.9999, (level + 80) / 80)) * (CIVIDIS.length - 1), below = Math.floor(place);
  return CIVIDIS[below].map((part, channel) => part + (place - below) * (CIVIDIS[below + 1][channel] - part));
}
