// A loaded model: samples in, answers out, as in `serein/inference/predictor.py`.

import {averageRows, roundHalfEven, sum} from "./numbers.js";
import {containsSpeech, findSpeech} from "./vad.js";

const MIN_NORM_MASS = 0.5;
const MIDDLE_RATING = 3, RATING_SCALE = 2;
const LEADING_SHARE = 0.5;
const UNSURE = "unsure", MIXED = "mixed";
const LONGEST_UTTERANCE = 30;  // seconds up to which a recording is one utterance for a model without a longest window

export class Predictor {
  // description: of the model, from models.json; session: its graph; silero: the model of speech detection.
  constructor(description, session, silero) {
    Object.assign(this, {session, silero, ...description});
  }

  // The mean over the windows of a recording: samples at the model's rate; onWindow is called after each window.
  async predict(source, wave, onWindow) {
    const [start, end] = this.trims_silence ? await findSpeech(this.silero, wave, this.rate) : [0, wave.length];
    const maxLength = this.window === null ? end - start : roundHalfEven(this.window * this.rate), predictions = [];
    const bounds = splitEvenly(end - start, maxLength).map(edges => edges.map(edge => start + edge));
    for (const [first, last] of bounds) {
      const samples = wave.slice(first, last);
      const hasSpeech = await containsSpeech(this.silero, samples, this.rate);
      predictions.push({...await this.predictWindow(samples, true), hasSpeech, start: first / this.rate, end: last / this.rate});
      onWindow(predictions.length / bounds.length);
    }
    return this.aggregateWindows(source, wave.length / this.rate, predictions);
  }

  // Probabilities or the value of each task within the class set, and attention maps.
  async predictWindow(samples, hasAttention) {
    const tasks = Object.keys(this.classes), maps = hasAttention ? Object.keys(this.maps) : [];
    const names = [...tasks, ...maps.map(name => `attention.${name}`)];
    const found = await this.session.run({wave: [samples, [1, samples.length]]}, names);
    const outputs = Object.fromEntries(tasks.map(task => [task, this.restrict(task, [...found[task].data])]));
    return {outputs, attention: Object.fromEntries(maps.map(name => [name, found[`attention.${name}`]]))};
  }

  // Restricts the probabilities of a task to its class set: without their priors, and divided by their sum.
  restrict(task, p) {
    const set = this.class_set[task];
    if (!set) return p;
    const selected = set.columns.map((column, index) => p[column] / set.priors[index]), total = sum(selected);
    return selected.map(one => total > 0 ? one / total : 1 / selected.length);
  }

  // Windows without speech are left out; without any speech, labels are withheld.
  aggregateWindows(source, seconds, predictions) {
    const speech = predictions.some(({hasSpeech}) => hasSpeech);
    const used = predictions.filter(({hasSpeech}) => hasSpeech || !speech);
    const outputs = Object.fromEntries(Object.keys(this.classes).map(task => [task, averageRows(used.map(one => one.outputs[task]))]));
    const tasks = this.toAnswers(outputs, !speech), values = this.toValues(outputs);
    return completeRecognition({
      source, model: this.name, start: 0, end: seconds, windows: used.map(({start, end}) => [start, end]), tasks,
      attention: this.mergeAttention(used), values: speech ? values : {}, dimensions: speech ? this.toDimensions(tasks, values) : {},
      segments: null, speech,
    });
  }

  toAnswers(outputs, isWithheld = false) {
    const answers = {};
    for (const [task, classes] of Object.entries(this.classes)) {
      if (!classes.length || !(task in outputs)) continue;
      const p = outputs[task], confidence = Math.max(...p);
      const label = confidence >= this.thresholds[task] && !isWithheld ? classes[p.indexOf(confidence)] : null;
      const ranked = classes.map((name, index) => ({label: name, probability: p[index]})).sort((a, b) => b.probability - a.probability);
      answers[task] = {label, confidence, probabilities: Object.fromEntries(classes.map((name, index) => [name, p[index]])), top: ranked.slice(0, 2)};
    }
    return answers;
  }

  toValues(outputs) {
    return Object.fromEntries(Object.entries(outputs).filter(([task]) => !this.classes[task].length).map(([task, [value]]) => [task, value]));
  }

  // Arousal and valence from -1 to 1, as in `serein/inference/dimensions.py`.
  toDimensions(tasks, values) {
    const estimates = {};
    for (const [dimension, source] of Object.entries(this.dimensions)) {
      const value = estimateDimension(source, tasks[source.task], values[source.task]);
      if (value !== null) estimates[dimension] = {value, basis: source.basis};
    }
    return estimates;
  }

  // The attention maps of the windows as maps of the whole recording.
  mergeAttention(windows) {
    const merged = {};
    for (const [name, stride] of Object.entries(this.maps)) {
      const times = [], parts = [];
      for (const {attention, start, end} of windows) {
        const steps = attentionStepTimes(attention[name].dims.at(-1), stride, this.hop, end - start);
        times.push(...steps.map(step => start + step));
        parts.push(averageQueries(attention[name], steps.length));
      }
      const weights = parts[0].map((_, head) => parts.flatMap(part => part[head]).map(weight => weight / parts.length));
      merged[name] = {times, weights, queries: windows[0].attention[name].dims.length > 3, words: false};
    }
    return merged;
  }

  // The probabilities and values of all tasks in one row, and back.
  joinTasks(outputs) {
    return Object.keys(this.classes).flatMap(task => outputs[task]);
  }

  splitTasks(p) {
    let position = 0;
    return Object.fromEntries(Object.entries(this.classes).map(([task, classes]) => {
      const size = classes.length || 1;
      return [task, p.slice(position, position += size)];
    }));
  }

  findLabel(p) {
    return Object.values(this.toAnswers(this.splitTasks(p)))[0]?.label ?? null;
  }

  toSegment(start, end, outputs) {
    const tasks = this.toAnswers(outputs), values = this.toValues(outputs);
    return {start, end, tasks, values, dimensions: this.toDimensions(tasks, values)};
  }

  // The mean of segments by task, weighted by length; empty without segments.
  averageSegments(segments) {
    if (!segments.length) return {};
    const weights = segments.map(({start, end}) => end - start);
    return Object.fromEntries(Object.entries(this.classes).map(([task, classes]) => {
      const rows = segments.map(({tasks, values}) => classes.length ? Object.values(tasks[task].probabilities) : [values[task]]);
      return [task, averageRows(rows, weights)];
    }));
  }

  // Whether the answer to a recording is that of its timeline.
  isLong(seconds) {
    return seconds > (this.window ?? LONGEST_UTTERANCE);
  }

  // The answer of a recording with these segments: labels by their shares of the speech, and mean probabilities.
  joinSegments(source, segments, end, windows) {
    return this.setSegments({source, model: this.name, start: 0, end, windows, attention: {}}, segments);
  }

  // An answer with other segments, and with what follows from them.
  setSegments(answer, segments) {
    const {tasks, values, dimensions} = this.toSegment(0, answer.end, this.averageSegments(segments));
    for (const [task, shares] of Object.entries(computeShares(segments))) {
      const label = chooseLabel(shares), mean = tasks[task];
      tasks[task] = {...mean, label, confidence: label === null || label === MIXED ? mean.confidence : mean.probabilities[label]};
    }
    return completeRecognition({...answer, tasks, values, dimensions, segments, speech: segments.length > 0});
  }

  // Merges the hops of a timeline to the segments that it has with merging.
  mergeHops(timeline) {
    if (!Object.values(this.classes).some(classes => classes.length)) return timeline;
    const label = segment => Object.values(segment.tasks)[0]?.label ?? null;
    const groups = [];
    for (const hop of timeline.segments) {
      const last = groups.at(-1)?.at(-1);
      if (last && label(last) === label(hop) && hop.start - last.end < 1e-6) groups.at(-1).push(hop);
      else groups.push([hop]);
    }
    const segments = groups.map(hops => this.toSegment(hops[0].start, hops.at(-1).end, this.averageSegments(hops)));
    return this.setSegments(timeline, segments);
  }
}

// The one answer to a long recording; `mean`, over its windows, has the attention and the probabilities without speech.
export function answerByTimeline(timeline, mean) {
  const answer = {...timeline, attention: mean.attention};
  if (timeline.speech) return answer;
  return {...answer, windows: mean.windows, tasks: Object.fromEntries(Object.entries(mean.tasks).map(([task, one]) => [task, {...one, label: null}]))};
}

// Start and end of as few windows of at most so many samples as possible.
function splitEvenly(length, maxLength) {
  const count = Math.ceil(length / maxLength), edge = index => Math.floor(length * index / count);
  return Array.from({length: count}, (_, index) => [edge(index), edge(index + 1)]);
}

// The centre of each step of an attention map in seconds; steps that begin after the end are padding.
function attentionStepTimes(count, stride, hop, seconds) {
  const begins = Array.from({length: count}, (_, step) => step * stride * hop).filter(begin => begin <= seconds + 1e-6);
  return begins.map(begin => Math.min(begin + (stride - 1) / 2 * hop, seconds));
}

// A map of (1, heads, T), or the mean over the queries of (1, heads, T, T), as its first steps for each head.
function averageQueries({data, dims}, count) {
  const width = dims.at(-1), queries = dims.length > 3 ? count : 1, size = data.length / dims[1];
  return Array.from({length: dims[1]}, (_, head) => averageRows(Array.from({length: queries}, (_, query) => {
    const first = head * size + query * width;
    return [...data.slice(first, first + count)];
  })));
}

function estimateDimension({values}, answer, rating) {
  if (rating !== undefined) return Math.min(1, Math.max(-1, (rating - MIDDLE_RATING) / RATING_SCALE));
  if (!answer) return null;
  const known = Object.entries(answer.probabilities).filter(([name]) => name in values);
  const mass = sum(known.map(([, p]) => p)), total = sum(Object.values(answer.probabilities));
  if (!(mass >= MIN_NORM_MASS * total && total > 0)) return null;
  return sum(known.map(([name, p]) => p * values[name])) / mass;
}

// Adds the fields that the page's models do not use, and the shares of the classes.
function completeRecognition(found) {
  const {source, model, start, end, windows, tasks, attention, values, dimensions, segments, speech} = found;
  const shares = computeShares(segments ?? []);
  return {source, model, start, end, windows, tasks, attention, values, dimensions, channel: null, segments, words: [], speech, shares};
}

// For each task the share of the segments' time that each class has, the largest first.
function computeShares(segments) {
  const shares = {}, total = sum(segments.map(({start, end}) => end - start));
  for (const {start, end, tasks} of segments)
    for (const [task, answer] of Object.entries(tasks)) {
      const own = shares[task] ??= {}, label = answer.label ?? UNSURE;
      own[label] = (own[label] ?? 0) + (end - start) / total;
    }
  const order = own => Object.fromEntries(Object.entries(own).sort(([, a], [, b]) => b - a));
  return Object.fromEntries(Object.entries(shares).map(([task, own]) => [task, order(own)]));
}

// The label of a recording with these shares: the class that leads, "mixed" without one; null if withheld labels lead.
function chooseLabel(shares) {
  const [[first, share]] = Object.entries(shares);
  if (share < LEADING_SHARE) return MIXED;
  return first === UNSURE ? null : first;
}

// The headline of a timeline, and the shares of its classes.
export function describeShares(shares) {
  const percent = share => `${roundHalfEven(100 * share)} %`;
  const parts = Object.entries(shares).map(([name, share]) => `${name} ${percent(share)}`);
  const label = chooseLabel(shares) ?? UNSURE;
  if (label === MIXED) return `${MIXED}: ${parts.join(", ")}`;
  return [`${label}: ${percent(shares[label])} of the speech`, ...parts.slice(1)].join(", ");
}
