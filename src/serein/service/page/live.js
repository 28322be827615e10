// Live answers over the WebSocket at v1/stream: PCM out, segments in.

import {key, Problem} from "./api.js";
import {toPCM} from "./wav.js";

// Opens a stream; until its end, onSegments is called with each message that has segments, onError if the stream fails.
export function openStream(start, firstTask, onSegments, onError) {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  let ready = false, ended = false;
  const queued = [];
  const fail = problem => {
    if (ended) return;
    ended = true;
    socket.close();
    onError(problem);
  };
  socket.onopen = () => socket.send(JSON.stringify({type: "start", ...start, ...(key.get() && {key: key.get()})}));
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    if (message.type === "ready") {
      ready = true;
      queued.splice(0).forEach(block => socket.send(block));
    } else if (message.type === "problem") {
      fail(new Problem(message.status, message.detail));
    } else if (message.items && !ended) {
      onSegments({...message, items: message.items.map(item => completeItem(item, firstTask))});
    }
  };
  socket.onclose = () => fail(new Problem(0, "The recording so far is kept.", "The live answers were interrupted"));
  return {
    send: samples => {
      const block = toPCM(samples);
      if (ready && socket.readyState === WebSocket.OPEN) socket.send(block);
      else if (!ended) queued.push(block);
    },
    end: () => {
      ended = true;
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({type: "end"}));
      else socket.close();
    },
  };
}

// Completes an item that has only the answer of the first task.
function completeItem({start, end, tasks, values = {}, dimensions = {}, ...answer}, firstTask) {
  return {start, end, tasks: tasks ?? {[firstTask]: answer}, values, dimensions};
}
