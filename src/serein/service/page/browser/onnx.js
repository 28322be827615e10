// Graphs that onnxruntime-web computes in a worker, so that the page stays responsive.

import {Problem} from "../problem.js";

const MAX_THREADS = 4;
// A module with one instruction of 128-bit SIMD, which onnxruntime-web needs.
const SIMD_MODULE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// Checks that this browser can compute models.
export function checkBrowser() {
  const canCompute = typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD_MODULE));
  if (canCompute && typeof DecompressionStream === "function") return;
  throw new Problem(null, "It lacks WebAssembly with SIMD. Open this page in Chrome or Edge 91, Firefox 113, Safari 16.4, or a later one.", "This browser cannot compute the model");
}

// Starts onnxruntime-web from the bytes of its WebAssembly file.
export async function startRuntime(wasmBinary) {
  const ort = await import("../onnxruntime-web/ort.wasm.bundle.min.js");
  const {wasm} = ort.env;
  // Several threads need memory that pages share only if their host isolates them.
  const numThreads = self.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1) : 1;
  Object.assign(wasm, {wasmBinary: wasmBinary.buffer, numThreads, proxy: true});
  ort.env.logLevel = "error";
  return ort;
}

export class Session {
  constructor(ort, session) {
    Object.assign(this, {ort, session});
  }

  static async open(ort, content) {
    // "basic" evaluates what does not depend on the input, such as weights of fp16, when the graph is opened.
    const options = {executionProviders: ["wasm"], graphOptimizationLevel: "basic", enableMemPattern: false};
    return new Session(ort, await ort.InferenceSession.create(content, options));
  }

  // Computes the named outputs of inputs {name: [Float32Array, shape]}; each is {data, dims}.
  async run(inputs, names) {
    // The worker takes over the memory of its inputs, so it gets copies.
    const feeds = Object.entries(inputs).map(([name, [data, shape]]) => [name, new this.ort.Tensor("float32", data.slice(), shape)]);
    return this.session.run(Object.fromEntries(feeds), names);
  }
}
