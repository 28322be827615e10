// Answers while somebody speaks: PCM out, segments in, over the WebSocket at v1/stream.

import {key, Problem} from "./api.js";
import {pcm} from "./wav.js";

// Opens the stream; `told` gets each message with segments, `failed` what ended it too early.
export function stream(start, main, told, failed) {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  let ready = false, over = false;
  const waiting = [];
  const fail = problem => {
    if (over) return;
    over = true;
    socket.close();
    failed(problem);
  };
  socket.onopen = () => socket.send(JSON.stringify({type: "start", ...start, ...(key.get() && {key: key.get()})}));
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    if (message.type === "ready") {
      ready = true;
      waiting.splice(0).forEach(block => socket.send(block));
    } else if (message.type === "problem") {
      fail(new Problem(message.status, message.detail));
    } else if (message.items) {
      told({...message, items: message.items.map(item => segment(item, main))});
    }
  };
  socket.onclose = () => fail(new Problem(0, "The stream ended. What was heard so far is kept.", "The live answers broke off"));
  return {
    send: samples => {
      const block = pcm(samples);
      if (ready && socket.readyState === WebSocket.OPEN) socket.send(block);
      else if (!over) waiting.push(block);
    },
    end: () => {
      over = true;
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({type: "end"}));
      else socket.close();
    },
  };
}

// An item may hold the main task alone.
function segment({start, end, tasks, values = {}, ...answer}, main) {
  return {start, end, tasks: tasks ?? {[main]: answer}, values};
}
