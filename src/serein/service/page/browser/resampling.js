// Resampling, block by block: a low-pass filter like that of soxr's quality "HQ", with which Python resamples.

import {concatenate} from "./numbers.js";

// The filters of soxr, fitted to its responses to an impulse: the -6 dB point relative to the lower Nyquist frequency,
// Kaiser's parameter, and the half width in samples at the lower rate. soxr computes rates in a simple ratio in one
// stage, and others, such as 44.1 kHz, in two.
const ONE_STAGE = {cutoff: 0.95687, beta: 13.04, halfWidth: 97.1};
const TWO_STAGES = {cutoff: 0.95684, beta: 15.98, halfWidth: 109.7};
const MAX_SIMPLE = 8;  // largest number of a simple ratio
const MAX_PHASES = 2048;  // positions between two samples; rates that need more take the nearest one

export class Resampler {
  constructor(rate, targetRate) {
    this.ratio = rate / targetRate;  // input samples for each output sample
    this.isSame = rate === targetRate;
    if (this.isSame) return;
    const scale = Math.min(1, targetRate / rate), divisor = greatestDivisor(rate, targetRate);
    const shape = Math.max(rate, targetRate) / divisor <= MAX_SIMPLE ? ONE_STAGE : TWO_STAGES;
    this.phases = Math.min(MAX_PHASES, Math.round(targetRate / divisor));
    this.reach = Math.ceil(shape.halfWidth / scale);
    this.filters = Array.from({length: this.phases + 1}, (_, phase) => designFilter(shape, phase / this.phases, this.reach, scale));
    this.samples = new Float32Array(this.reach);  // zeros before the first sample
    this.start = -this.reach;  // position of the first of them
    this.received = this.produced = 0;
  }

  // Adds samples and returns those that are ready; `last` also returns the rest.
  add(samples, {last = false} = {}) {
    if (this.isSame) return samples;
    this.received += samples.length;
    const padding = new Float32Array(last ? this.reach + 1 : 0);
    this.samples = concatenate([this.samples, samples, padding]);
    const end = this.start + this.samples.length, ready = [];
    const count = last ? Math.floor(this.received / this.ratio + 0.5) : Infinity;
    while (this.produced < count) {
      const time = this.produced * this.ratio, at = Math.floor(time);
      if (at + this.reach >= end) break;
      const filter = this.filters[Math.round((time - at) * this.phases)], first = at - this.reach + 1 - this.start;
      let total = 0;
      for (let tap = 0; tap < filter.length; tap++) total += filter[tap] * this.samples[first + tap];
      ready.push(total);
      this.produced++;
    }
    const needed = Math.floor(this.produced * this.ratio) - this.reach;
    const unused = Math.max(0, Math.min(needed - this.start, this.samples.length));
    this.samples = this.samples.slice(unused);
    this.start += unused;
    return Float32Array.from(ready);
  }
}

function greatestDivisor(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

// Weights of the 2 x reach samples around a position, which is a fraction after the sample before it.
function designFilter({cutoff, beta, halfWidth}, fraction, reach, scale) {
  return Float64Array.from({length: 2 * reach}, (_, tap) => {
    const distance = scale * (tap - reach + 1 - fraction), place = distance / halfWidth;
    if (Math.abs(place) > 1) return 0;
    return scale * cutoff * sinc(cutoff * distance) * bessel(beta * Math.sqrt(1 - place ** 2)) / bessel(beta);
  });
}

const sinc = x => Math.abs(x) < 1e-12 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);

// The modified Bessel function of order 0.
function bessel(x) {
  let total = 1, term = 1;
  for (let k = 1; term > 1e-12 * total; k++) total += term *= (x / (2 * k)) ** 2;
  return total;
}
