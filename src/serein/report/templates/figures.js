const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
function colours(layout) {
  const style = getComputedStyle(document.documentElement);
  const of = name => style.getPropertyValue(name).trim();
  const look = {"font.color": of("--ink"), "hoverlabel.bgcolor": of("--panel"), "hoverlabel.font.color": of("--ink"), "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": of("--soft"), "modebar.activecolor": of("--ink")};
  for (const axis of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key)))
    Object.assign(look, {[axis + ".gridcolor"]: of("--rule"), [axis + ".linecolor"]: of("--rule"), [axis + ".tickcolor"]: of("--rule")});
  return look;
}
const fit = new ResizeObserver(entries => entries.forEach(({target}) => Plotly.Plots.resize(target)));
const divs = [...document.querySelectorAll("[data-figure]")];
for (const div of divs) {
  const {data, layout} = figures[div.dataset.figure];
  layout.font = {family: getComputedStyle(document.body).fontFamily, size: innerWidth < 600 ? 11 : 13};
  Plotly.newPlot(div, data, layout, {displaylogo: false, modeBarButtons: [["toImage"]]})
    .then(() => Plotly.relayout(div, colours(layout)))
    .then(() => fit.observe(div));
}
dark.addEventListener("change", () => divs.forEach(div => Plotly.relayout(div, colours(div.layout))));
