// Bars by period and series, from the data of a page's <script class="bars-data">. The table beside has the same numbers
// and links, so that the bars are for the eye and the pointer only.
"use strict";

const COLOURS = 10;
// So that few bars are not as wide as walls.
const FEWEST_PERIODS = 12;
const OF_VERDICTS = { violation: "var(--violation)", gap: "var(--gap)", lawful: "var(--lawful)" };

for (const figure of document.querySelectorAll("figure.bars")) {
  const { series, bars } = JSON.parse(figure.querySelector(".bars-data").textContent);
  if (bars.length) draw(figure, series, bars);
}

function draw(figure, series, bars) {
  const colours = series.map((name, n) => OF_VERDICTS[name] ?? `var(--series-${n % COLOURS})`);
  const data = bars.map((bar) => ({
    ...bar,
    start: new Date(bar.start),
    end: new Date(bar.end),
    told: `${bar.period}, ${bar.series}: ${bar.events.toLocaleString("en")}`,
  }));
  const last = d3.max(data, (bar) => bar.end);
  const most = d3.max(d3.rollup(data, (of) => d3.sum(of, (bar) => bar.events), (bar) => +bar.start).values());
  const longest = d3.max(data, (bar) => bar.end - bar.start);
  const first = Math.min(d3.min(data, (bar) => bar.start), last - FEWEST_PERIODS * longest);
  const plot = Plot.plot({
    width: 1000,
    height: 240,
    marginLeft: 60,
    marginTop: 24,
    x: { type: "utc", label: null, domain: [new Date(first), last] },
    y: { grid: true, label: "events", tickFormat: "~s", ticks: Math.min(5, most) },
    color: { domain: series, range: colours },
    marks: [
      Plot.rectY(
        data,
        Plot.stackY({
          x1: "start",
          x2: "end",
          y: "events",
          fill: "series",
          order: series,
          href: "href",
          title: "told",
          insetLeft: 1,
          insetRight: 1,
        }),
      ),
      Plot.ruleY([0]),
    ],
  });
  // The styles that come with it would be refused: pages have theirs in files. It is not part of the page yet.
  for (const style of plot.querySelectorAll("style")) style.remove();
  plot.setAttribute("aria-hidden", "true");
  for (const link of plot.querySelectorAll("a")) {
    link.setAttribute("tabindex", "-1");
    link.setAttribute("focusable", "false");
  }
  figure.append(legend(series, colours), plot);
  figure.classList.add("drawn");
}

function legend(series, colours) {
  const list = document.createElement("ul");
  series.forEach((name, n) => {
    const entry = document.createElement("li");
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    box.setAttribute("viewBox", "0 0 10 10");
    box.setAttribute("aria-hidden", "true");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("width", "10");
    rect.setAttribute("height", "10");
    rect.setAttribute("fill", colours[n]);
    box.append(rect);
    entry.append(box, name);
    list.append(entry);
  });
  return list;
}
