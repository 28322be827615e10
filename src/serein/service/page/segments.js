// Segments of a timeline: {start, end, tasks: {task: {label, confidence, probabilities}}, values: {task: number}}.

// Neighbours with one label as one, their probabilities by length; what a table shows.
export function runs(segments, task) {
  const found = [];
  for (const {start, end, tasks} of segments) {
    const answer = tasks[task];
    if (!answer) continue;
    const last = found.at(-1);
    if (last && last.label === answer.label && start - last.end < 0.005) {
      for (const [name, p] of Object.entries(answer.probabilities))
        last.weights[name] += p * (end - start);
      last.end = end;
    } else {
      const weights = Object.entries(answer.probabilities).map(([name, p]) => [name, p * (end - start)]);
      found.push({start, end, label: answer.label, weights: Object.fromEntries(weights)});
    }
  }
  return found.map(({start, end, label, weights}) => {
    const [likeliest, weight] = Object.entries(weights).reduce((best, one) => one[1] > best[1] ? one : best);
    return {start, end, label, likeliest, confidence: weight / (end - start)};
  });
}

// The mean of a value over the segments from one time to another, by length.
export function mean(segments, name, from, to) {
  let sum = 0, length = 0;
  for (const {start, end, values} of segments) {
    if (start < from - 0.005 || end > to + 0.005) continue;
    sum += values[name] * (end - start);
    length += end - start;
  }
  return sum / length;
}

// Stretches of speech: segments that follow each other without a pause.
export function stretches(segments) {
  const found = [];
  for (const segment of segments) {
    const last = found.at(-1);
    if (last && segment.start - last.at(-1).end < 0.005) last.push(segment);
    else found.push([segment]);
  }
  return found;
}

export function at(segments, time) {
  return segments.find(({start, end}) => start <= time && time < end);
}

// The share of the time for which two timelines have an answer that they give the same one.
export function agreement(one, other, task) {
  let both = 0, same = 0;
  for (const a of runs(one, task)) {
    for (const b of runs(other, task)) {
      const shared = Math.max(0, Math.min(a.end, b.end) - Math.max(a.start, b.start));
      both += shared;
      if (a.label === b.label) same += shared;
    }
  }
  return both ? same / both : null;
}

export function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}

export const percent = p => `${Math.round(100 * p)} %`;
