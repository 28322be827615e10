// Encoding of samples as PCM and WAV, and decoding of audio files.

const DECODE_RATE = 16000;  // Hz

// Samples in [-1, 1] as 16-bit PCM.
export function toPCM(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, index) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(2 * index, Math.round(clipped * 32767), true);
  });
  return bytes.buffer;
}

export function toWAV(chunks, rate, name) {
  const parts = chunks.map(toPCM);
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

// Samples of a file, averaged over channels; null if the browser cannot decode it.
export async function decodeAudio(file) {
  try {
    const context = new OfflineAudioContext(1, 1, DECODE_RATE);
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    const count = buffer.numberOfChannels;
    const samples = buffer.getChannelData(0).slice();
    for (let channel = 1; channel < count; channel++)
      buffer.getChannelData(channel).forEach((sample, index) => { samples[index] += sample; });
    if (count > 1) samples.forEach((sample, index) => { samples[index] = sample / count; });
    return {samples, rate: DECODE_RATE};
  } catch {
    return null;
  }
}
