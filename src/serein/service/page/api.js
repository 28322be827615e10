// Requests to the service, and its errors.

const STORAGE_KEY = "serein-key";

export const key = {
  get: () => sessionStorage.getItem(STORAGE_KEY) ?? "",
  set: value => sessionStorage.setItem(STORAGE_KEY, value),
  forget: () => sessionStorage.removeItem(STORAGE_KEY),
};

const TITLES = {
  0: "The service cannot be reached",
  400: "The service rejected this request",
  401: "This service requires a key",
  408: "The upload took too long",
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

export const fetchModels = () => request("v1/models").then(response => response.json());

// One answer for a recording, or a timeline if the query has any of window, hop, smooth, speech, merge.
export function recognize(file, query, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  const parameters = Object.entries(query).filter(([, value]) => value !== undefined);
  return request(`v1/recognize?${new URLSearchParams(parameters)}`, {method: "POST", body: form, signal});
}

async function request(path, options = {}) {
  const headers = key.get() ? {Authorization: `Bearer ${key.get()}`} : {};
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "Check that it runs and that you are online, then try again.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && !key.get())
    throw new Problem(401, "Enter the key that you got from the operator of the service.");
  if (response.status === 401)
    throw new Problem(401, "Enter it again, or ask the operator of the service.", "This key is not known");
  throw new Problem(response.status, problem.detail ?? response.statusText);
}

function toSentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}
