// Segments of a timeline: {start, end, tasks: {task: {label, confidence, probabilities}}, values: {task: number}}.

// Merges neighbours with the same label; probabilities are averaged by duration.
export function mergeRuns(segments, task) {
  const merged = [];
  for (const {start, end, tasks} of segments) {
    const answer = tasks[task];
    if (!answer) continue;
    const last = merged.at(-1);
    if (last && last.label === answer.label && start - last.end < 0.005) {
      for (const [name, p] of Object.entries(answer.probabilities))
        last.weights[name] += p * (end - start);
      last.end = end;
    } else {
      const weights = Object.entries(answer.probabilities).map(([name, p]) => [name, p * (end - start)]);
      merged.push({start, end, label: answer.label, weights: Object.fromEntries(weights)});
    }
  }
  return merged.map(({start, end, label, weights}) => {
    const [likeliest, weight] = Object.entries(weights).reduce((best, entry) => entry[1] > best[1] ? entry : best);
    return {start, end, label, likeliest, confidence: weight / (end - start)};
  });
}

// Mean of a value over the segments between two times, weighted by duration.
export function meanValue(segments, name, from, to) {
  let sum = 0, length = 0;
  for (const {start, end, values} of segments) {
    if (start < from - 0.005 || end > to + 0.005) continue;
    sum += values[name] * (end - start);
    length += end - start;
  }
  return sum / length;
}

// Groups segments that follow each other without a pause.
export function splitAtPauses(segments) {
  const groups = [];
  for (const segment of segments) {
    const last = groups.at(-1);
    if (last && segment.start - last.at(-1).end < 0.005) last.push(segment);
    else groups.push([segment]);
  }
  return groups;
}

export function findSegment(segments, time) {
  return segments.find(({start, end}) => start <= time && time < end);
}

// The parts of two timelines in which both have an answer: {start, end, isSame}.
function* overlaps(first, second, task) {
  const others = mergeRuns(second, task);
  let next = 0;
  for (const a of mergeRuns(first, task)) {
    while (next < others.length && others[next].end <= a.start) next++;
    for (let place = next; place < others.length && others[place].start < a.end; place++) {
      const b = others[place];
      yield {start: Math.max(a.start, b.start), end: Math.min(a.end, b.end), isSame: a.label === b.label};
    }
  }
}

// Share of time in which two timelines have the same label, of the time in which both have an answer.
export function agreement(first, second, task) {
  let both = 0, same = 0;
  for (const {start, end, isSame} of overlaps(first, second, task)) {
    both += end - start;
    if (isSame) same += end - start;
  }
  return both ? same / both : null;
}

// The parts in which two timelines have different labels; neighbours are joined.
export function differences(first, second, task) {
  const found = [];
  for (const {start, end, isSame} of overlaps(first, second, task)) {
    if (isSame) continue;
    if (found.length && start - found.at(-1).end < 0.005) found.at(-1).end = end;
    else found.push({start, end});
  }
  return found;
}

export function formatTime(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}

export const formatPercent = p => `${Math.round(100 * p)} %`;
