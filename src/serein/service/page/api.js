// Requests to the service, and its errors.

import {Problem} from "./problem.js";

export {Problem};

const STORAGE_KEY = "serein-key";
const STALL_MS = 30000;  // without a byte sent

export const key = {
  get: () => sessionStorage.getItem(STORAGE_KEY) ?? "",
  set: value => sessionStorage.setItem(STORAGE_KEY, value),
  forget: () => sessionStorage.removeItem(STORAGE_KEY),
};

export const fetchModels = () => request("v1/models").then(response => response.json());

// One of the two example recordings, as a file.
export async function fetchExample(name) {
  const response = await request(`page/${name}.mp3`);
  return new File([await response.blob()], `${name}.mp3`, {type: "audio/mpeg"});
}

// The answer of a recording, its timeline and its downloads, for one upload; onStatus is called with texts about
// the progress. Only a stall ends it: a slow connection may take as long as it needs.
export function fetchOverview(file, query, signal, onStatus) {
  const onProgress = share => onStatus(share < 1 ? `Sending ${file.name}: ${Math.round(100 * share)} % …` : `Processing ${file.name} …`);
  const form = new FormData();
  form.append("file", file, file.name);
  const upload = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    let timer = 0;
    const stop = () => { reject(stalled()); upload.abort(); };
    const restart = () => { clearTimeout(timer); timer = setTimeout(stop, STALL_MS); };
    upload.open("POST", `page/overview?${new URLSearchParams(Object.entries(query))}`);
    if (key.get()) upload.setRequestHeader("Authorization", `Bearer ${key.get()}`);
    upload.upload.onprogress = ({loaded, total}) => { restart(); onProgress(loaded / total); };
    upload.upload.onloadend = () => clearTimeout(timer);
    upload.onload = () => {
      if (upload.status === 200) return resolve(JSON.parse(upload.responseText));
      let detail = upload.statusText;
      try { detail = JSON.parse(upload.responseText).detail ?? detail; } catch { /* not a problem document */ }
      reject(toProblem(upload.status, detail));
    };
    upload.onerror = () => reject(unreachable());
    upload.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => { clearTimeout(timer); upload.abort(); });
    restart();
    upload.send(form);
  });
}

const unreachable = () => new Problem(0, "Check that it runs and that you are online, then try again.");

export const stalled = () => new Problem(408, `Nothing was sent for ${STALL_MS / 1000} s. Check the connection, then try again.`);

function toProblem(status, detail) {
  if (status === 401 && !key.get())
    return new Problem(401, "Enter the key that you got from the operator of the service.");
  if (status === 401)
    return new Problem(401, "Enter it again, or ask the operator of the service.", "This key is not known");
  return new Problem(status, detail);
}

async function request(path) {
  const headers = key.get() ? {Authorization: `Bearer ${key.get()}`} : {};
  const signal = AbortSignal.timeout(STALL_MS);
  const response = await fetch(path, {headers, signal}).catch(() => { throw unreachable(); });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw toProblem(response.status, problem.detail ?? response.statusText);
}
