// Streams over the WebSocket at v1/stream: PCM out, segments in.

import {key, Problem, stalled} from "./api.js";
import {toPCM} from "./wav.js";

const MAX_BUFFERED = 2 ** 18;  // bytes that wait in the browser before more are sent
const STALL_MS = 60000;  // without a message, or a byte sent
const POLL_MS = 50;

// Opens a stream of the settings in `start`. Until its end these are called: onSegments with each message
// that has segments, onProvisional with the segment that still grows or null, onDone with the last message,
// onError if the stream fails.
export function openStream(start, firstTask, {onSegments, onProvisional = () => {}, onDone = () => {}, onError}) {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  const queued = [];
  let ready = false, ended = false, lastMessage = performance.now();
  const fail = problem => {
    if (ended) return;
    ended = true;
    socket.close();
    onError(problem);
  };
  socket.onopen = () => socket.send(JSON.stringify({type: "start", ...start, ...(key.get() && {key: key.get()})}));
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    lastMessage = performance.now();
    if (message.type === "ready") {
      ready = true;
      queued.splice(0).forEach(block => socket.send(block));
    } else if (ended) {
      return;
    } else if (message.type === "problem") {
      fail(new Problem(message.status, message.detail));
    } else if (message.type === "done") {
      ended = true;
      onDone(message);
    } else if (message.type === "provisional") {
      onProvisional(message.item && completeItem(message.item, firstTask));
    } else if (message.items) {
      onSegments({...message, items: message.items.map(item => completeItem(item, firstTask))});
    }
  };
  socket.onclose = () => fail(new Problem(0, "What was recorded is kept.", "The answers were interrupted"));
  return {
    send: samples => {
      const block = toPCM(samples);
      if (ready && socket.readyState === WebSocket.OPEN) socket.send(block);
      else if (!ended) queued.push(block);
    },
    // Tells the service that no more audio follows; further messages are ignored unless awaited.
    end: ({isAwaited = false} = {}) => {
      ended ||= !isAwaited;
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({type: "end"}));
      else socket.close();
    },
    close: () => { ended = true; socket.close(); },
    isReady: () => ready,
    hasEnded: () => ended,
    buffered: () => socket.bufferedAmount,
    idle: () => performance.now() - lastMessage,
    fail,
  };
}

// Streams the samples of a recording as fast as the service answers, and resolves to the last message.
export function streamSamples({samples, rate}, start, firstTask, signal, onSegments) {
  return new Promise((resolve, reject) => {
    const stream = openStream({rate, ...start}, firstTask, {onSegments, onDone: resolve, onError: reject});
    const step = rate / 2;
    let sent = 0, buffered = 0, moved = performance.now();
    const timer = setInterval(() => {
      if (stream.hasEnded()) return clearInterval(timer);
      while (stream.isReady() && sent < samples.length && stream.buffered() < MAX_BUFFERED) {
        stream.send(samples.subarray(sent, sent += step));
        if (sent >= samples.length) stream.end({isAwaited: true});
        moved = performance.now();
      }
      if (stream.buffered() !== buffered) moved = performance.now();
      buffered = stream.buffered();
      if (Math.min(performance.now() - moved, stream.idle()) > STALL_MS) stream.fail(stalled());
    }, POLL_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      stream.close();
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}

// Completes an item that has only the answer of the first task.
function completeItem({start, end, tasks, values = {}, dimensions = {}, ...answer}, firstTask) {
  return {start, end, tasks: tasks ?? {[firstTask]: answer}, values, dimensions};
}
