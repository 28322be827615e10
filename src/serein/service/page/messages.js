// Problems and the status line.

import * as api from "./api.js";
import {element} from "./result.js";
import {$, state} from "./state.js";

export function clearError() {
  $("problem").replaceChildren();
  setStatus("");
}

export function showError(error) {
  if (error.name === "AbortError") return;
  clearError();
  const isProblem = error instanceof api.Problem;
  if (!isProblem) console.error(error);
  const title = isProblem ? error.title : "Something went wrong in this page";
  $("problem").append(element("strong", {}, title), element("p", {}, error.message));
  if (error.status === 401) $("key-form").hidden = false;
  $("forget").hidden = !api.key.get();
  if (!error.canRetry || !state.retry) return;
  const button = element("button", {type: "button"}, "Try again");
  on(button, "click", state.retry);
  $("problem").append(button);
}

// Screen readers read the status; it is visible only if nothing else on the page says the same.
export function setStatus(text, visible = true) {
  $("status").textContent = text;
  $("status").classList.toggle("unseen", !visible);
}

// Listens to an event; errors of the handler are shown.
export function on(target, name, handle) {
  target.addEventListener(name, event => new Promise(resolve => resolve(handle(event))).catch(showError));
}
