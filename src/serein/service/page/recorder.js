// Recording from the microphone.

import {Problem} from "./api.js";
import {toWAV} from "./wav.js";

const CONSTRAINTS = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};

const ERRORS = {
  NotAllowedError: ["The microphone was not allowed", "Allow it for this page, next to the address, and try again."],
  NotFoundError: ["There is no microphone", "Plug one in, or choose a file."],
  NotReadableError: ["The microphone cannot be used", "Another program may be using it; close that, and try again."],
};

// Starts a recording; onBlock is called with each block and its highest magnitude.
export async function record(onBlock) {
  const stream = await openMicrophone();
  const context = new AudioContext();
  await context.audioWorklet.addModule("page/pcm.js");
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "pcm", {numberOfInputs: 1, numberOfOutputs: 1, channelCount: 1, channelCountMode: "explicit"});
  const chunks = [];
  let count = 0;
  node.port.onmessage = ({data}) => {
    chunks.push(data);
    count += data.length;
    onBlock(data, data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
  };
  source.connect(node).connect(context.destination);  // silent; but a node without a destination may not run
  return {
    rate: context.sampleRate,
    seconds: () => count / context.sampleRate,
    chunks,
    stop: async () => {
      node.port.onmessage = null;
      stream.getTracks().forEach(track => track.stop());
      await context.close();
      return toWAV(chunks, context.sampleRate, `recording ${timeOfDay()}.wav`);
    },
  };
}

async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia)
    throw new Problem(null, "Browsers allow it only for https pages and pages of this machine.", "The microphone cannot be used here");
  try {
    return await navigator.mediaDevices.getUserMedia({audio: CONSTRAINTS});
  } catch (error) {
    const [title, detail] = ERRORS[error.name] ?? ["The microphone cannot be used", error.message];
    throw new Problem(null, detail, title);
  }
}

function timeOfDay() {
  const now = new Date();
  return [now.getHours(), now.getMinutes(), now.getSeconds()].map(n => String(n).padStart(2, "0")).join("-");
}
