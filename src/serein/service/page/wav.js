// Samples, in and out of files.

const HEARD = 16000;

// Samples in [-1, 1] as 16-bit PCM.
export function pcm(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, place) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(2 * place, Math.round(clipped * 32767), true);
  });
  return bytes.buffer;
}

export function wav(chunks, rate, name) {
  const parts = chunks.map(pcm);
  const size = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const words = (place, text) => [...text].forEach((c, i) => head.setUint8(place + i, c.charCodeAt(0)));
  words(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  words(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  words(36, "data");
  head.setUint32(40, size, true);
  return new File([head.buffer, ...parts], name, {type: "audio/wav"});
}

// What the browser can decode, as the mean of all channels; null where it cannot.
export async function decoded(file) {
  try {
    const context = new OfflineAudioContext(1, 1, HEARD);
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    const count = buffer.numberOfChannels;
    const samples = buffer.getChannelData(0).slice();
    for (let channel = 1; channel < count; channel++)
      buffer.getChannelData(channel).forEach((sample, place) => { samples[place] += sample; });
    if (count > 1) samples.forEach((sample, place) => { samples[place] = sample / count; });
    return {samples, rate: HEARD};
  } catch {
    return null;
  }
}
