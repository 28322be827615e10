// The service, and what it says when it cannot answer.

const KEPT = "serein-key";

export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: value => sessionStorage.setItem(KEPT, value),
  forget: () => sessionStorage.removeItem(KEPT),
};

const PLAIN = {
  0: "The service cannot be reached",
  400: "The service does not take this",
  401: "This service needs a key",
  408: "Sending took too long",
  413: "This recording is too large",
  422: "This cannot be read as a recording",
  429: "The service is busy",
  503: "The service could not answer in time",
};

export class Problem extends Error {
  constructor(status, detail, title = PLAIN[status] ?? "Something went wrong") {
    super(sentence(detail));
    Object.assign(this, {status, title, again: [0, 408, 429, 500, 503].includes(status)});
  }
}

export const models = () => ask("v1/models").then(answer => answer.json());

// A recording: all of it as one, or with any of window, hop, smooth, speech, merge a timeline.
export function recognize(file, query, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return ask(`v1/recognize?${new URLSearchParams(given)}`, {method: "POST", body: form, signal});
}

async function ask(path, options = {}) {
  const headers = key.get() ? {Authorization: `Bearer ${key.get()}`} : {};
  let answer;
  try {
    answer = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "Look whether it runs and whether you are online, then try again.");
  }
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !key.get())
    throw new Problem(401, "Type the key that you were given by whoever runs it.");
  if (answer.status === 401)
    throw new Problem(401, "Type it again, or ask whoever runs it.", "This key is not known here");
  throw new Problem(answer.status, document.detail ?? answer.statusText);
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
