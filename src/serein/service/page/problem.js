// A problem that the page shows: a title, a sentence, and whether trying again may help.

const TITLES = {
  0: "The service cannot be reached",
  400: "The service rejected this request",
  401: "This service requires a key",
  408: "The upload stalled",
  413: "This recording is too large",
  422: "This file cannot be read as a recording",
  429: "The service is busy",
  503: "The service did not answer in time",
};

export class Problem extends Error {
  constructor(status, detail, title = TITLES[status] ?? "Something went wrong") {
    super(toSentence(detail));
    Object.assign(this, {status, title, canRetry: [0, 408, 429, 500, 503].includes(status)});
  }
}

function toSentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}
