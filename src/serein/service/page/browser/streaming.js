// Samples in, segments out as soon as they are final, as in `serein/inference/streaming.py`.

import {Resampler} from "./resampling.js";
import {NoVAD, SAMPLE_RATE as VAD_RATE, SileroVAD} from "./vad.js";
import {HopAverager, SampleBuffer, SegmentMerger, toWindowing, WindowCutter} from "./windowing.js";

const PROVISIONAL_SECONDS = 0.4;  // of further speech after which the provisional answer is predicted again

export class Stream {
  // config: {window, hop, smooth, speech, merge}; samples are at `rate`.
  constructor(predictor, rate, config) {
    Object.assign(this, {predictor, inputRate: rate, rate: predictor.rate});
    this.windowing = toWindowing(config, this.rate, predictor.hop, predictor.window);
    this.resampler = new Resampler(rate, this.rate);
    this.vadResampler = config.speech && this.rate !== VAD_RATE ? new Resampler(rate, VAD_RATE) : null;
    this.buffer = new SampleBuffer();
    this.detector = config.speech ? new SileroVAD(predictor.silero, Math.floor(this.windowing.length * 1000 / this.rate)) : new NoVAD(this.rate);
    const hasLabels = Object.values(predictor.classes).some(classes => classes.length);
    this.merger = new SegmentMerger(p => predictor.findLabel(p), config.merge && hasLabels);
    this.averager = new HopAverager(this.windowing, 0);
    this.cutter = this.provisional = null;
    this.received = this.provisionalEnd = 0;
    this.predictsProvisional = false;
    this.windows = [];  // start and end of each window in seconds
  }

  // Number of samples, at least one, without which no further segment becomes final.
  get samplesNeeded() {
    return Math.max(1, Math.floor(this.detector.nextUpdate(this.nextWindowEnd) / 1000 * this.inputRate) - this.received);
  }

  // Processes samples and returns the segments that become final.
  feed(samples) {
    return this.process(samples, false);
  }

  // Ends the stream and returns its last segments.
  close() {
    return this.process(new Float32Array(0), true);
  }

  async process(samples, last) {
    const steps = await this.prepareSteps(samples, last);
    for (const step of steps) {
      if (!step.window) continue;
      const {outputs} = await this.predictor.predictWindow(this.buffer.slice(...step.window), false);
      step.p = this.predictor.joinTasks(outputs);
    }
    return this.applyPredictions(steps);
  }

  // The steps to take: {averager, window, end}; one without an averager predicts the provisional answer.
  async prepareSteps(samples, last) {
    this.received += samples.length;
    const wave = this.resampler.add(samples, {last});
    this.buffer.append(wave);
    const vadWave = this.vadResampler ? this.vadResampler.add(samples, {last}) : wave;
    const speech = await this.detector.detect(vadWave, {last, windowEnd: this.nextWindowEnd});
    const steps = speech.flatMap(segment => [...this.iterSteps(segment)]);
    if (this.predictsProvisional || this.provisional) steps.push(...this.planProvisional(last ? null : speech.at(-1) ?? null));
    return steps;
  }

  applyPredictions(steps) {
    const spans = steps.flatMap(step => [...this.iterSpans(step)]);
    this.buffer.discard(this.cutter ? this.cutter.firstNeeded : this.frameStart(this.detector.firstNeeded));
    if (this.provisional) {
      const start = this.averager.position / this.rate, {provisional} = this;
      if (start >= provisional.end) this.provisional = null;
      else if (start !== provisional.start) this.provisional = {...provisional, start};
    }
    return spans.map(span => this.toSegment(span));
  }

  // End of the next window in ms; null outside speech.
  get nextWindowEnd() {
    return this.cutter && Math.floor((this.cutter.nextStart + this.windowing.length) * 1000 / this.rate);
  }

  *iterSteps(segment) {
    if (!this.cutter) {
      const start = this.frameStart(segment.start);
      this.cutter = new WindowCutter(this.windowing, start);
      this.averager = new HopAverager(this.windowing, start);
    }
    const until = Math.min(Math.floor(segment.end * this.rate / 1000), this.buffer.end);
    for (const window of this.cutter.iterWindows(until, segment.closed)) {
      yield {averager: this.averager, window, end: null};
      this.windows.push(window.map(sample => sample / this.rate));
    }
    if (!segment.closed) return;
    yield {averager: this.averager, window: null, end: until};
    this.cutter = null;
  }

  // The step that predicts the newest speech again, if enough has been added.
  planProvisional(segment) {
    if (!segment || segment.closed || !this.cutter) {
      Object.assign(this, {provisional: null, provisionalEnd: 0});
      return [];
    }
    if (!this.predictsProvisional) return [];
    const {length, frame, minLength} = this.windowing, first = this.cutter.start;
    const until = Math.min(Math.floor(segment.end * this.rate / 1000), this.buffer.end);
    const offset = Math.max(first, until - length) - first;
    const start = Math.max(first + Math.floor(offset / frame) * frame, this.buffer.start);
    const isNew = until - this.provisionalEnd >= PROVISIONAL_SECONDS * this.rate;
    if (!isNew || until - start < minLength) return [];
    this.provisionalEnd = until;
    return [{averager: null, window: [start, until], end: null}];
  }

  // The merged hops that become final with a step.
  *iterSpans({averager, window, end, p}) {
    if (!averager) {
      const span = {start: this.averager.position, end: this.provisionalEnd, p};
      if (window && span.start < span.end) this.provisional = this.toSegment(span);
      return;
    }
    const hops = window ? averager.add({start: window[0], end: window[1], p}) : averager.close(end ?? 0);
    for (const hop of hops) yield* this.merger.add(hop);
    if (end !== null) yield* this.merger.close();
  }

  // First sample of the frame at a time in ms.
  frameStart(milliseconds) {
    const {frame} = this.windowing;
    return Math.floor(Math.floor(milliseconds * this.rate / 1000) / frame) * frame;
  }

  toSegment({start, end, p}) {
    return this.predictor.toSegment(start / this.rate, end / this.rate, this.predictor.splitTasks(p));
  }
}
