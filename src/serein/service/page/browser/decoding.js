// Samples of a file at its own rate, decoded by the browser.

import {Problem} from "../problem.js";
import {MIN_SECONDS} from "./windowing.js";

const RATE_RANGE = [8000, 192000];  // in which every browser decodes without resampling
const OTHER_RATE = 48000;  // of formats whose rate is not read here
const AUDIBLE_POWER = 1e-8, CANCELLED_POWER = 1e-4, MAX_MAGNITUDE = 1e6;
const MP3_RATES = {3: [44100, 48000, 32000], 2: [22050, 24000, 16000], 0: [11025, 12000, 8000]};

export async function loadAudio(file) {
  const content = await file.arrayBuffer();
  if (!content.byteLength) throw unreadable(`${file.name} is empty (0 bytes); expected audio. Get it again`);
  const found = findRate(new Uint8Array(content));
  const rate = found >= RATE_RANGE[0] && found <= RATE_RANGE[1] ? found : OTHER_RATE;
  const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content).catch(() => {
    throw unreadable(`${file.name} is not audio that this browser reads; convert it to WAV, FLAC, MP3 or Ogg`);
  });
  const channels = Array.from({length: decoded.numberOfChannels}, (_, channel) => decoded.getChannelData(channel));
  const samples = toMono(channels, file.name);
  checkSamples(samples, rate, file.name);
  return {samples, rate};
}

// The sampling rate that the header of a WAV, FLAC, Ogg or MP3 file gives; 0 for others.
export function findRate(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (text(0, 4) === "RIFF") {
    for (let at = 12; at + 16 <= bytes.length; at += 8 + view.getUint32(at + 4, true) + view.getUint32(at + 4, true) % 2)
      if (text(at, 4) === "fmt ") return view.getUint32(at + 12, true);
    return 0;
  }
  if (text(0, 4) === "fLaC" && bytes.length > 20) return view.getUint32(18) >>> 12;
  if (text(0, 4) === "OggS") {
    const at = text(0, 100).indexOf("\x01vorbis");
    return at < 0 || at + 16 > bytes.length ? 0 : view.getUint32(at + 12, true);  // Opus is decoded at 48 kHz
  }
  const tag = text(0, 3) === "ID3" ? 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]) : 0;
  if (bytes[tag] !== 0xff || (bytes[tag + 1] & 0xe6) !== 0xe2) return 0;
  return MP3_RATES[bytes[tag + 1] >> 3 & 3]?.[bytes[tag + 2] >> 2 & 3] ?? 0;
}

// The mean of channels, which must not cancel each other.
export function toMono(channels, name) {
  if (channels.length < 2) return channels[0].slice();
  const mean = new Float32Array(channels[0].length), power = samples => samples.reduce((total, x) => total + x * x, 0);
  for (const channel of channels) channel.forEach((sample, index) => { mean[index] += sample; });
  mean.forEach((total, index) => { mean[index] = total / channels.length; });
  const energy = channels.reduce((total, channel) => total + power(channel), 0) / channels.length;
  if (energy > AUDIBLE_POWER * mean.length && power(mean) < CANCELLED_POWER * energy)
    throw unreadable(`the channels of ${name} cancel each other, and their mean is silence; expected channels in phase. Invert one of them`);
  return mean;
}

function checkSamples(samples, rate, name) {
  if (samples.length < Math.round(MIN_SECONDS * rate))
    throw unreadable(`${name} has ${Math.round(1000 * samples.length / rate)} ms of audio; expected at least ${1000 * MIN_SECONDS} ms. Leave it out`);
  if (samples.some(sample => !(Math.abs(sample) < MAX_MAGNITUDE)))
    throw unreadable(`${name} has samples that are NaN, infinite or far too large; expected numbers around [-1, 1]. Repair or leave it out`);
}

const unreadable = detail => new Problem(422, detail);
