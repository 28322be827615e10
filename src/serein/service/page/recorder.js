// The microphone.

import {Problem} from "./api.js";
import {wav} from "./wav.js";

const ASKED = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};

const REFUSED = {
  NotAllowedError: ["The microphone was refused", "Allow it for this page, beside the address, and press again."],
  NotFoundError: ["There is no microphone", "Plug one in, or choose a file."],
  NotReadableError: ["The microphone cannot be used", "Another program may hold it; end that, and press again."],
};

// Begins to listen; `heard` is told of each block and its loudest sample.
export async function listen(heard) {
  const stream = await opened();
  const context = new AudioContext();
  await context.audioWorklet.addModule("page/pcm.js");
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "pcm", {numberOfInputs: 1, numberOfOutputs: 1, channelCount: 1, channelCountMode: "explicit"});
  const chunks = [];
  let count = 0;
  node.port.onmessage = ({data}) => {
    chunks.push(data);
    count += data.length;
    heard(data, data.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0));
  };
  source.connect(node).connect(context.destination);  // it says nothing; but what leads nowhere may not run
  return {
    rate: context.sampleRate,
    seconds: () => count / context.sampleRate,
    chunks,
    stop: async () => {
      node.port.onmessage = null;
      stream.getTracks().forEach(track => track.stop());
      await context.close();
      return wav(chunks, context.sampleRate, `recording ${clock()}.wav`);
    },
  };
}

async function opened() {
  if (!navigator.mediaDevices?.getUserMedia)
    throw new Problem(null, "Browsers give it only to pages that come by https or from this machine itself.", "The microphone cannot be used here");
  try {
    return await navigator.mediaDevices.getUserMedia({audio: ASKED});
  } catch (error) {
    const [title, words] = REFUSED[error.name] ?? ["The microphone cannot be used", error.message];
    throw new Problem(null, words, title);
  }
}

function clock() {
  const now = new Date();
  return [now.getHours(), now.getMinutes(), now.getSeconds()].map(n => String(n).padStart(2, "0")).join("-");
}
