// Recording from the microphone, as mono at 16 kHz.

import {Problem} from "./api.js";
import {decodeAudio, RATE, toPCM, toWAV} from "./wav.js";

const CONSTRAINTS = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};

const ERRORS = {
  NotAllowedError: ["The microphone was not allowed", "Allow it for this page, next to the address, and try again."],
  NotFoundError: ["There is no microphone", "Plug one in, or choose a file."],
  NotReadableError: ["The microphone cannot be used", "Another program may be using it; close that, and try again."],
};

// Starts a recording; onBlock is called with each block and its highest magnitude.
export async function record(onBlock) {
  const stream = await openMicrophone();
  const {context, source} = openContext(stream);
  await context.audioWorklet.addModule("page/pcm.js");
  const node = new AudioWorkletNode(context, "pcm", {numberOfInputs: 1, numberOfOutputs: 1, channelCount: 1, channelCountMode: "explicit"});
  const parts = [];
  let count = 0;
  node.port.onmessage = ({data}) => {
    parts.push(toPCM(data));  // half of the memory of the samples
    count += data.length;
    onBlock(data, data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
  };
  source.connect(node).connect(context.destination);  // silent; but a node without a destination may not run
  const {sampleRate: rate} = context;
  return {
    rate,
    seconds: () => count / rate,
    stop: async () => {
      node.port.onmessage = null;
      stream.getTracks().forEach(track => track.stop());
      await context.close();
      const recorded = toWAV(parts, rate, `recording ${timeOfDay()}.wav`);
      const sound = rate > RATE && count ? await decodeAudio(recorded) : null;
      return sound ? toWAV([toPCM(sound.samples)], RATE, recorded.name) : recorded;
    },
  };
}

// An audio context at 16 kHz, or at the microphone's rate in browsers that do not convert it.
function openContext(stream) {
  const context = new AudioContext({sampleRate: RATE});
  try {
    return {context, source: context.createMediaStreamSource(stream)};
  } catch {
    context.close();
    const other = new AudioContext();
    return {context: other, source: other.createMediaStreamSource(stream)};
  }
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
