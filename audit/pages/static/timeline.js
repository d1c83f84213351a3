// Draws a lineage over time with Observable Plot: consents as bars, events as marks in the lane of their recipient.
"use strict";

(() => {
  const number = new Intl.NumberFormat("en");
  const SIDES = { violation: 0.2, lawful: 0.5, gap: 0.8 };
  const SYMBOLS = { lawful: "circle", violation: "times", gap: "triangle" };

  function draw(place) {
    const data = JSON.parse(place.querySelector("script").textContent);
    const drawing = place.querySelector(".drawing");
    drawing.hidden = false;
    const when = (text) => new Date(text);
    const all = [...data.marks.flatMap((m) => [m.at, m.until ?? m.at]), ...data.consents.flatMap((c) => [c.since, c.until ?? c.since]), ...data.refusals.map((r) => r.at)].map(when);
    let [first, last] = [new Date(Math.min(...all)), new Date(Math.max(...all, data.until ? when(data.until) : -Infinity))];
    const room = Math.max((last - first) * 0.03, 3600000);
    [first, last] = [new Date(first - room), new Date(+last + room)];
    const consentLanes = [...new Set([...data.consents, ...data.refusals].map((one) => `◆ ${one.lane}`))];
    const lanes = [...consentLanes, ...data.lanes];
    const width = Math.max(drawing.clientWidth - 4, 300);
    const left = Math.min(260, Math.round(width * 0.36));
    const shownAt = (text) => (data.unit === "moment" ? text.replace("T", " ").replace(/\.000Z$|Z$/, "") : `${data.unit} of ${text.slice(0, 10)}`);
    // Marks of one time and lane, but of different verdicts, stand beside each other.
    const placed = (m) => new Date(+when(m.at) + (m.until ? (when(m.until) - when(m.at)) * SIDES[m.verdict] : 0));
    const told = (m) => `${m.lane}, ${shownAt(m.at)}: ${number.format(m.events)} ${m.verdict}`;
    const dots = (verdict) => ({
      marks: data.marks.filter((m) => m.verdict === verdict),
      options: {
        x: placed, y: "lane", r: (m) => Math.sqrt(m.events), symbol: SYMBOLS[verdict],
        href: "href", title: told, ariaLabel: told, className: `mark ${verdict}`,
      },
    });
    const svg = Plot.plot({
      width, marginLeft: left, marginTop: 36, marginRight: 14, marginBottom: 36,
      height: 76 + 26 * lanes.length,
      style: { background: "transparent", color: "inherit", fontSize: "12px", fontFamily: "inherit" },
      x: { type: "utc", domain: [first, last], axis: null },
      y: { domain: lanes, axis: null, label: null, padding: 0.25 },
      r: { range: [4, data.unit === "moment" ? 4 : 9] },
      marks: [
        Plot.gridX({ strokeOpacity: 0.12 }),
        Plot.axisX({ anchor: "top", ticks: Math.max(3, Math.floor((width - left) / 100)) }),
        Plot.axisX({ anchor: "bottom", ticks: Math.max(3, Math.floor((width - left) / 100)) }),
        Plot.axisY({ tickSize: 0, label: null, lineWidth: (left - 20) / 14, textOverflow: "ellipsis" }),
        Plot.ruleY(lanes, { strokeOpacity: 0.12 }),
        Plot.barX(data.consents, {
          x1: (c) => when(c.since), x2: (c) => (c.until ? when(c.until) : last), y: (c) => `◆ ${c.lane}`, href: "href", insetTop: 3, insetBottom: 3,
          title: (c) => `${c.lane}: from ${shownDay(c.since)} ${c.until ? `until ${shownDay(c.until)}` : "on; it stands"}`,
          ariaLabel: (c) => `Consent to ${c.lane}: from ${shownDay(c.since)} ${c.until ? `until ${shownDay(c.until)}` : "on; it stands"}`,
          className: "stood",
        }),
        Plot.dot(data.refusals, {
          x: (r) => when(r.at), y: (r) => `◆ ${r.lane}`, symbol: "times", r: 4, href: "href", className: "mark refused",
          title: (r) => `${r.lane}: not given, ${shownDay(r.at)}`, ariaLabel: (r) => `Consent to ${r.lane}: not given, ${shownDay(r.at)}`,
        }),
        ...["lawful", "gap", "violation"].map(dots).map(({ marks, options }) => Plot.dot(marks, options)),
      ],
    });
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", "Timeline");
    // Its own style element is not allowed here; pages.css has what it says.
    svg.querySelectorAll("style").forEach((style) => style.remove());
    svg.querySelectorAll("g[aria-label]").forEach((group) => group.removeAttribute("aria-label"));
    const links = [...svg.querySelectorAll("a")];
    for (const link of links) {
      const shape = link.firstElementChild;
      link.setAttribute("aria-label", shape.getAttribute("aria-label") ?? "");
      const XLINK = "http://www.w3.org/1999/xlink";
      const href = link.getAttribute("href") ?? link.getAttributeNS(XLINK, "href");
      // In this order: a browser forgets the one with the other.
      link.removeAttributeNS(XLINK, "href");
      link.setAttribute("href", href);
      shape.removeAttribute("aria-label");
      link.setAttribute("tabindex", "-1");
    }
    drawing.replaceChildren(svg);
    place.querySelector(".no-script").hidden = true;
    rove(drawing, links);
  }

  const shownDay = (text) => text.slice(0, 10);

  // One stop for Tab; the arrow keys go from mark to mark.
  function rove(drawing, links) {
    if (!links.length) return;
    let at = 0;
    links[0].setAttribute("tabindex", "0");
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || !links.includes(document.activeElement)) return;
      event.preventDefault();
      links[at].setAttribute("tabindex", "-1");
      at = Math.max(0, Math.min(links.length - 1, links.indexOf(document.activeElement) + step));
      links[at].setAttribute("tabindex", "0");
      links[at].focus();
    });
  }

  document.addEventListener("lineage:shown", () => document.querySelectorAll("[data-timeline]").forEach(draw));
})();
