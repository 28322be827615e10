// Encoding of samples as PCM and WAV, and decoding of audio files.

export const RATE = 16000;  // Hz, of decoded files and of recordings
const SILENT_SHARE = 0.01;  // power of the mean of channels that cancel, relative to the loudest channel

// Samples in [-1, 1] as 16-bit PCM.
export function toPCM(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, index) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(2 * index, Math.round(clipped * 32767), true);
  });
  return bytes.buffer;
}

// A WAV file of blocks of 16-bit PCM.
export function toWAV(parts, rate, name) {
  const size = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const writeText = (offset, text) => [...text].forEach((c, i) => head.setUint8(offset + i, c.charCodeAt(0)));
  writeText(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  writeText(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  writeText(36, "data");
  head.setUint32(40, size, true);
  return new File([head.buffer, ...parts], name, {type: "audio/wav"});
}

// Samples of a file as mono at 16 kHz; null if the browser cannot decode it.
export async function decodeAudio(file) {
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({length: buffer.numberOfChannels}, (_, channel) => buffer.getChannelData(channel));
    return {samples: mixChannels(channels), rate: RATE};
  } catch {
    return null;
  }
}

// The mean of channels; or the loudest one, if they cancel each other.
export function mixChannels(channels) {
  if (channels.length < 2) return channels[0].slice();
  const mean = new Float32Array(channels[0].length);
  for (const channel of channels) channel.forEach((sample, index) => { mean[index] += sample / channels.length; });
  const power = samples => samples.reduce((sum, sample) => sum + sample ** 2, 0);
  const powers = channels.map(power);
  const loudest = Math.max(...powers);
  return power(mean) < SILENT_SHARE * loudest ? channels[powers.indexOf(loudest)].slice() : mean;
}
