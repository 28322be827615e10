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

// Share of time in which two timelines have the same label, of the time in which both have an answer.
export function agreement(first, second, task) {
  let both = 0, same = 0;
  for (const a of mergeRuns(first, task)) {
    for (const b of mergeRuns(second, task)) {
      const shared = Math.max(0, Math.min(a.end, b.end) - Math.max(a.start, b.start));
      both += shared;
      if (a.label === b.label) same += shared;
    }
  }
  return both ? same / both : null;
}

export function formatTime(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}

export const formatPercent = p => `${Math.round(100 * p)} %`;
