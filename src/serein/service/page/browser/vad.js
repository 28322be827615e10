// Speech detection with silero-vad, as in `serein/inference/vad.py`; times are in milliseconds.

import {concatenate, roundHalfEven} from "./numbers.js";
import {Resampler} from "./resampling.js";

export const SAMPLE_RATE = 16000;
const BLOCK_SAMPLES = 512, CONTEXT_SAMPLES = 64, BLOCK_MS = 32;
const CHUNK_BLOCKS = 1000, WARM_UP_BLOCKS = 250, ENCODER_BATCH_SIZE = 64, STATE_SIZE = 128;
const THRESHOLD = 0.5, NEG_THRESHOLD = 0.35, MIN_SILENCE_MS = 500, MIN_SPEECH_MS = 250, SPEECH_PAD_MS = 100;
const MIN_SILENCE_BLOCKS = Math.ceil(MIN_SILENCE_MS / BLOCK_MS);
const OUTER_SILENCE_SECONDS = 1;  // that findSpeech leaves before and after the speech
const PRESENCE_THRESHOLD = 0.2, MIN_PRESENCE_BLOCKS = 2, BLOCKS_PER_EXTRA = 250, BLOCKS_PER_STEP = 16;

// The two graphs of silero-vad.
export class SileroModel {
  constructor(encoder, recurrence) {
    Object.assign(this, {encoder, recurrence});
  }

  // Encodes blocks with their context (N x 576) to N x 128, each block independently.
  async encode(blocks) {
    const size = BLOCK_SAMPLES + CONTEXT_SAMPLES, parts = [];
    for (let first = 0; first < blocks.length; first += ENCODER_BATCH_SIZE * size) {
      const part = blocks.slice(first, first + ENCODER_BATCH_SIZE * size);
      const {encoded} = await this.encoder.run({wave: [part, [part.length / size, size]]}, ["encoded"]);
      parts.push(encoded.data);
    }
    return concatenate(parts);
  }

  // Maps encoded blocks (T x 128) and a state to T probabilities and the next state.
  async step(encoded, {h, c}) {
    const state = [1, 1, STATE_SIZE];
    const inputs = {encoded: [encoded, [1, encoded.length / STATE_SIZE, STATE_SIZE]], h: [h, state], c: [c, state]};
    const found = await this.recurrence.run(inputs, ["probability", "next_h", "next_c"]);
    return {probabilities: found.probability.data, state: {h: found.next_h.data, c: found.next_c.data}};
  }
}

const zeroState = () => ({h: new Float32Array(STATE_SIZE), c: new Float32Array(STATE_SIZE)});

// The complete blocks of samples that begin with a context, each with its own: N x 576.
function cutBlocks(samples) {
  const size = BLOCK_SAMPLES + CONTEXT_SAMPLES;
  const count = Math.max(0, Math.floor((samples.length - CONTEXT_SAMPLES) / BLOCK_SAMPLES));
  const blocks = new Float32Array(count * size);
  for (let block = 0; block < count; block++)
    blocks.set(samples.subarray(block * BLOCK_SAMPLES, block * BLOCK_SAMPLES + size), block * size);
  return blocks;
}

// Zeros that complete the last block.
const padding = count => new Float32Array((BLOCK_SAMPLES - count % BLOCK_SAMPLES) % BLOCK_SAMPLES);

// The probability of speech of every block, for samples in blocks of any size. The recurrent state is reset at
// the start of every chunk of 32 s, after a warm-up on the blocks before it.
class ChunkedVAD {
  constructor(model) {
    Object.assign(this, {model, position: 0, rest: new Float32Array(CONTEXT_SAMPLES), before: new Float32Array(0), state: zeroState()});
  }

  async score(wave, last) {
    let samples = concatenate([this.rest, wave]);
    if (last) samples = concatenate([samples, padding(samples.length - CONTEXT_SAMPLES)]);
    const blocks = cutBlocks(samples), size = BLOCK_SAMPLES + CONTEXT_SAMPLES, count = blocks.length / size;
    this.rest = samples.slice(count * BLOCK_SAMPLES);
    const known = concatenate([this.before, await this.model.encode(blocks)]), offset = this.position - this.before.length / STATE_SIZE;
    const end = this.position + count, probabilities = [];
    while (this.position < end) {
      const start = this.position, isNewChunk = start % CHUNK_BLOCKS === 0;
      const stop = Math.min(end, (Math.floor(start / CHUNK_BLOCKS) + 1) * CHUNK_BLOCKS);
      const begin = isNewChunk ? Math.max(offset, start - WARM_UP_BLOCKS) : start;
      const part = known.slice((begin - offset) * STATE_SIZE, (stop - offset) * STATE_SIZE);
      const found = await this.model.step(part, isNewChunk ? zeroState() : this.state);
      probabilities.push(...found.probabilities.subarray(start - begin));
      Object.assign(this, {state: found.state, position: stop});
    }
    this.before = known.slice(-WARM_UP_BLOCKS * STATE_SIZE);
    return probabilities;
  }
}

// A detector that returns all audio as one segment.
export class NoVAD {
  constructor(rate) {
    Object.assign(this, {rate, count: 0, firstNeeded: 0});
  }

  async detect(wave, {last}) {
    this.count += wave.length;
    const end = this.count * 1000 / this.rate;
    return [{start: 0, end: last ? Math.ceil(end) : Math.floor(end), closed: last}];
  }

  nextUpdate(windowEnd) {
    return windowEnd ?? 0;
  }
}

// A detector of speech; samples are collected until they can end a segment or complete a window.
export class SileroVAD {
  constructor(model, windowMs) {
    Object.assign(this, {vad: new ChunkedVAD(model), windowMs, block: 0, pending: [], received: 0, start: null, end: 0});
  }

  // Time from which samples may belong to a segment that is not known yet.
  get firstNeeded() {
    return Math.max(0, (this.start ?? this.block) * BLOCK_MS - SPEECH_PAD_MS);
  }

  // Processes samples and returns the segments that ended, then the one that is still growing.
  async detect(wave, {last, windowEnd}) {
    this.pending.push(wave);
    this.received += wave.length;
    if (!last && Math.floor(this.received / BLOCK_SAMPLES) < this.nextUpdateBlock(windowEnd)) return this.currentSegments(false);
    const segments = [], samples = concatenate(this.pending.splice(0));
    for (const probability of await this.vad.score(samples, last)) {
      if (probability >= (this.start === null ? THRESHOLD : NEG_THRESHOLD)) {
        this.start ??= this.block;
        this.end = this.block + 1;
      } else if (this.start !== null && this.block + 1 - this.end >= MIN_SILENCE_BLOCKS) {
        segments.push(...this.currentSegments(true));
        this.start = null;
      }
      this.block++;
    }
    return [...segments, ...this.currentSegments(last)];
  }

  // The time up to which further samples cannot change the result.
  nextUpdate(windowEnd) {
    const scored = this.nextUpdateBlock(windowEnd) * BLOCK_MS, [growing] = this.currentSegments(false);
    return growing && windowEnd && windowEnd <= growing.end ? Math.min(scored, windowEnd) : scored;
  }

  nextUpdateBlock(windowEnd) {
    const silenceEnd = (this.start === null ? this.block + 1 : this.end) + MIN_SILENCE_BLOCKS;
    const end = windowEnd ?? (this.start ?? this.block) * BLOCK_MS - 2 * SPEECH_PAD_MS + this.windowMs;
    return Math.max(this.block + 1, Math.min(silenceEnd, Math.ceil((end - SPEECH_PAD_MS) / BLOCK_MS)));
  }

  currentSegments(closed) {
    if (this.start === null || (this.end - this.start) * BLOCK_MS < MIN_SPEECH_MS) return [];
    return [{start: Math.max(0, this.start * BLOCK_MS - SPEECH_PAD_MS), end: this.end * BLOCK_MS + SPEECH_PAD_MS, closed}];
  }
}

// Whether a window of a recording contains speech.
export async function containsSpeech(model, wave, rate) {
  const blocks = splitBlocks(wave, rate), size = BLOCK_SAMPLES + CONTEXT_SAMPLES, count = blocks.length / size;
  let speechBlocks = 0, state = zeroState();
  for (let first = 0; first < count; first += BLOCKS_PER_STEP) {
    const encoded = await model.encode(blocks.slice(first * size, (first + BLOCKS_PER_STEP) * size));
    const found = await model.step(encoded, state);
    state = found.state;
    speechBlocks += found.probabilities.filter(p => p >= PRESENCE_THRESHOLD).length;
    if (speechBlocks >= requiredBlocks(first + BLOCKS_PER_STEP)) return true;
  }
  return false;
}

// The first sample, and the one after the last, of a part with all speech of a recording and some silence around
// it; the whole recording without speech.
export async function findSpeech(model, wave, rate) {
  const blocks = splitBlocks(wave, rate), count = blocks.length / (BLOCK_SAMPLES + CONTEXT_SAMPLES);
  const {probabilities} = await model.step(await model.encode(blocks), zeroState());
  const speech = [...probabilities.keys()].filter(block => probabilities[block] >= PRESENCE_THRESHOLD);
  if (speech.length < requiredBlocks(count)) return [0, wave.length];
  const margin = roundHalfEven(OUTER_SILENCE_SECONDS * rate), size = rate * BLOCK_SAMPLES / SAMPLE_RATE;
  const first = roundHalfEven(speech[0] * size) - margin, last = roundHalfEven((speech.at(-1) + 1) * size) + margin;
  return [Math.max(0, first), Math.min(wave.length, last)];
}

const requiredBlocks = count => MIN_PRESENCE_BLOCKS + Math.floor(count / BLOCKS_PER_EXTRA);

// The blocks of a recording with their context; the last one is padded with zeros.
function splitBlocks(wave, rate) {
  const samples = new Resampler(rate, SAMPLE_RATE).add(wave, {last: true});
  return cutBlocks(concatenate([new Float32Array(CONTEXT_SAMPLES), samples, padding(samples.length)]));
}
