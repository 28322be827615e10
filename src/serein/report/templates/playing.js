for (const sound of document.querySelectorAll("[data-plays]")) {
  const div = document.querySelector(`[data-figure="${sound.dataset.plays}"]`);
  const head = document.createElement("div");
  head.className = "playhead";
  div.append(head);
  const begin = figures[sound.dataset.plays].layout.xaxis.range[0];
  let next = 0;
  const draw = () => {
    cancelAnimationFrame(next);
    const {xaxis, height} = div._fullLayout;
    const size = div._fullLayout._size;
    head.style.cssText = `left:${xaxis._offset + xaxis.l2p(begin + sound.currentTime)}px;top:${size.t}px;height:${height - size.t - size.b}px`;
    head.hidden = sound.currentTime === 0;
    if (!sound.paused) next = requestAnimationFrame(draw);
  };
  for (const name of ["play", "timeupdate", "seeked", "pause"]) sound.addEventListener(name, draw);
}
