// The files of models and of onnxruntime-web: loaded, unpacked, and compared with the list in models.json.

import {Problem} from "../problem.js";

const GZIP = [0x1f, 0x8b];

// Loads a file of the list: {path, bytes, size, sha256}, of which `bytes` counts the file and `size` what it
// unpacks to. onProgress is called with the bytes that were added.
export async function loadFile({path, size, sha256}, onProgress = () => {}) {
  const response = await fetch(path).catch(() => { throw damaged(path, "could not be loaded", 0); });
  if (!response.ok) throw damaged(path, `could not be loaded (${response.status})`, 0);
  const parts = [], reader = response.body.getReader();
  for (let part = await read(reader, path); !part.done; part = await read(reader, path)) {
    parts.push(part.value);
    onProgress(part.value.length);
  }
  const content = await unpack(new Blob(parts), path);
  if (content.byteLength !== size || !await hasDigest(content, sha256)) throw damaged(path, "is not the file that was written", null);
  return new Uint8Array(content);
}

const read = (reader, path) => reader.read().catch(() => { throw damaged(path, "could not be loaded completely", 0); });

// Some hosts unpack .gz files on the way, so the content decides.
async function unpack(blob, path) {
  const head = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  if (!GZIP.every((byte, index) => head[index] === byte)) return blob.arrayBuffer();
  const stream = blob.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer().catch(() => { throw damaged(path, "is not the file that was written", null); });
}

// Browsers compute SHA-256 on https pages and pages of this machine only; elsewhere the size must do.
async function hasDigest(content, sha256) {
  if (!crypto.subtle) return true;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return [...hash].map(byte => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

// status 0: it may succeed later.
function damaged(path, fault, status) {
  const help = status === 0 ? "Check that the host has all files of the folder, then try again" : "Write the folder again with serein page, and copy all of it";
  return new Problem(status, `The file ${path} ${fault}. ${help}.`, "A file of this page is missing or damaged");
}
