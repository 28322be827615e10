// Streams that are computed in this browser: `live.js` of the service, samples in, segments out.

import {openPredictor, Problem} from "./api.js";
import {summarizeHops} from "./formats.js";
import {concatenate, roundFloats} from "./numbers.js";
import {Stream} from "./streaming.js";

const PROVISIONAL_BLOCK_SECONDS = 0.25;  // length of the blocks that are processed for provisional answers
const MAX_LAG_SECONDS = 0.5;  // of audio that may wait while provisional answers are computed
const BLOCK_SECONDS = 8;  // of a recording that is processed at a time

// Opens a stream of the settings in `start`. Until its end these are called: onSegments with each message
// that has segments, onProvisional with the segment that still grows or null, onDone at the end, onError if the
// stream fails.
export function openStream(start, firstTask, {onSegments, onProvisional = () => {}, onDone = () => {}, onError}) {
  const pending = [], {rate} = start;
  let count = 0, arrival = 0, isLast = false, ended = false, wake = () => {};
  const receive = () => new Promise(resolve => { wake = resolve; });

  async function run() {
    const stream = new Stream(await openPredictor(start.model), rate, start);
    let processed = 0, shown = null;
    while (!ended) {
      const needed = Math.min(stream.samplesNeeded, start.provisional ? PROVISIONAL_BLOCK_SECONDS * rate : Infinity);
      if (count < needed && !isLast) {
        await receive();
        continue;
      }
      const block = concatenate(pending.splice(0)), arrived = arrival, isEnd = isLast;
      count = 0;
      // A model that cannot keep up with the audio computes final answers only.
      stream.predictsProvisional = Boolean(start.provisional) && block.length < MAX_LAG_SECONDS * rate;
      const items = await stream.feed(block);
      if (isEnd) items.push(...await stream.close());
      processed += block.length;
      if (ended) return;
      const message = {processed_seconds: processed / rate, latency_ms: performance.now() - arrived};
      if (items.length) onSegments({...message, items: items.map(roundFloats)});
      if (stream.provisional !== shown) onProvisional(shown = stream.provisional);
      if (!isEnd) continue;
      ended = true;
      onDone(message);
    }
  }

  run().catch(error => {
    if (ended) return;
    ended = true;
    onError(error);
  });
  return {
    send: samples => {
      pending.push(samples);
      count += samples.length;
      arrival = performance.now();
      wake();
    },
    // No more audio follows; further segments are ignored unless awaited.
    end: ({isAwaited = false} = {}) => {
      ended ||= !isAwaited;
      isLast = true;
      wake();
    },
    close: () => { ended = true; wake(); },
  };
}

// Computes the segments of a recording, and resolves to its timeline, headlines and downloads.
export async function streamSamples({samples, rate}, start, firstTask, signal, onSegments) {
  const predictor = await openPredictor(start.model), stream = new Stream(predictor, rate, start), hops = [];
  const check = () => { if (signal.aborted) throw new DOMException("stopped", "AbortError"); };
  const size = BLOCK_SECONDS * rate;
  for (let first = 0; first < samples.length + size; first += size) {
    const isEnd = first >= samples.length;
    const items = isEnd ? await stream.close() : await stream.feed(samples.subarray(first, first + size));
    check();
    hops.push(...items);
    onSegments({items: items.map(roundFloats), processed_seconds: Math.min(first + size, samples.length) / rate});
  }
  return summarizeHops(predictor, predictor.joinSegments(start.summary, hops, samples.length / rate, stream.windows));
}

export {Problem};
