// The settings in the address of the page, so that it can be sent to others.

const $ = id => document.getElementById(id);
export const SETTINGS = ["model", "other", "window", "hop", "smooth", "speech", "task"];

export function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const name of SETTINGS) {
    const value = parameters.get(name), control = $(name);
    if (value === null || name === "task") continue;
    if (control.type === "checkbox") control.checked = value !== "false";
    else if (control.tagName !== "SELECT" || [...control.options].some(option => option.value === value)) control.value = value;
    if (control.type === "number" && !control.validity.valid) control.value = control.defaultValue;
  }
}

export function writeAddress() {
  const parameters = new URLSearchParams();
  for (const name of SETTINGS) {
    const control = $(name);
    const value = control.type === "checkbox" ? String(control.checked) : control.value;
    const usual = control.type === "checkbox" ? "true" : control.type === "number" ? control.defaultValue : control.options[0]?.value ?? "";
    if (value !== usual) parameters.set(name, value);
  }
  history.replaceState(null, "", parameters.size ? `#${parameters}` : location.pathname);
}
