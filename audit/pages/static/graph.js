// Draws a lineage as a graph: dagre places the nodes, everything else is SVG of our own. Every node and edge is a link to
// the events that it stands for.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = { collected: 180, purpose: 176, recipient: 200 };
  const LINE = 17, GAP = 14, MARGIN = 16, HEADING = 22, TIP = 9;
  // More numbers would hide what they stand at; all are in the titles and in the table.
  const NUMBERED = 20;
  const number = new Intl.NumberFormat("en");

  function element(name, attributes = {}, ...children) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const plain = (text) => text.replaceAll("_", " ");
  const counted = (n, one) => `${number.format(n)} ${one}${n === 1 ? "" : "s"}`;

  function told(one) {
    const parts = [counted(one.events, "event")];
    if (one.violations) parts.push(counted(one.violations, "violation"));
    if (one.gaps) parts.push(counted(one.gaps, "gap"));
    return parts.join(", ");
  }

  // Of a text what fits: letters of this font are about this wide.
  const fitted = (text, width, letter) => {
    const most = Math.floor(width / letter);
    return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
  };

  function erasureText(node) {
    if (!node.erasure) return "";
    const { state, grade } = node.erasure;
    const sign = { completed: "✓", exempt: "–", failed: "✕", unsupported: "✕" }[state] ?? "…";
    return `${sign} erasure ${plain(state)}${grade && grade !== "none" && grade !== state ? `, ${plain(grade)}` : ""}`;
  }

  function linesOf(node) {
    const about = node.kind === "recipient" ? node.about : "";
    return [about, erasureText(node)].filter(Boolean);
  }

  // Which column a node stands in, and which above which, is dagre's; where exactly is ours: columns as wide as the page
  // lets them be, each in the middle of the height.
  function columnsOf(graph) {
    const g = new dagre.graphlib.Graph();
    g.setGraph({ rankdir: "LR", ranksep: 60, nodesep: 12 });
    g.setDefaultEdgeLabel(() => ({}));
    g.setNode("root", { width: 1, height: 1 });
    const given = new Set(graph.edges.map((edge) => edge.target));
    for (const node of graph.nodes) {
      g.setNode(node.id, { width: WIDTH[node.kind], height: heightOf(node) });
      // What was collected stands first, purposes behind it, recipients behind those.
      if (node.kind !== "recipient" || !given.has(node.id))
        g.setEdge("root", node.id, { weight: 0, minlen: { collected: 1, purpose: 2, recipient: 3 }[node.kind] });
    }
    for (const edge of graph.edges)
      // Whole numbers: by fractions the placing may never end.
      if (edge.source !== edge.target) g.setEdge(edge.source, edge.target, { weight: 1 + Math.round(Math.log2(edge.events)) });
    dagre.layout(g);
    const columns = new Map();
    for (const node of graph.nodes) {
      const { x, y } = g.node(node.id);
      const rank = Math.round(x);
      if (!columns.has(rank)) columns.set(rank, []);
      columns.get(rank).push({ node, y, width: WIDTH[node.kind], height: heightOf(node), outs: [], ins: [] });
    }
    return [...columns].sort(([a], [b]) => a - b).map(([, column]) => column.sort((a, b) => a.y - b.y));
  }

  const heightOf = (node) => 42 + LINE * linesOf(node).length;

  function placed(graph, room) {
    const columns = columnsOf(graph);
    const heights = columns.map((column) => column.reduce((sum, one) => sum + one.height + GAP, -GAP));
    const tallest = Math.max(...heights);
    const widths = columns.map((column) => Math.max(...column.map((one) => one.width)));
    const spare = room - 2 * MARGIN - widths.reduce((sum, width) => sum + width, 0);
    const between = Math.max(84, Math.min(190, spare / Math.max(1, columns.length - 1)));
    const boxes = new Map();
    let x = MARGIN;
    columns.forEach((column, n) => {
      // Few nodes beside many stand apart, so that what leads to them does not bunch up.
      const apart = column.length > 1 ? Math.min(28, (tallest - heights[n]) / (column.length - 1)) : 0;
      let y = HEADING + MARGIN + (tallest - heights[n] - apart * (column.length - 1)) / 2;
      for (const one of column) {
        Object.assign(one, { x, y, column: n });
        boxes.set(one.node.id, one);
        y += one.height + GAP + apart;
      }
      x += widths[n] + between;
    });
    const edges = graph.edges.map((edge) => ({ edge, from: boxes.get(edge.source), to: boxes.get(edge.target) }));
    for (const one of edges) one.from.outs.push(one), one.to.ins.push(one);
    const spread = (box, ends, other, key) => ends
      .sort((a, b) => a[other].column - b[other].column || a[other].y - b[other].y)
      .forEach((one, n) => (one[key] = box.y + (box.height * (n + 1)) / (ends.length + 1)));
    for (const box of boxes.values()) spread(box, box.outs, "to", "y1"), spread(box, box.ins, "from", "y2");
    return { columns, boxes: [...boxes.values()], edges, width: x - between + MARGIN, height: tallest + HEADING + 2 * MARGIN };
  }

  // An edge as a curve that leaves and arrives level.
  function curveOf({ from, to, y1, y2 }) {
    const [x1, x2] = [from.x + from.width, to.x - TIP];
    const bend = to.column > from.column ? (x2 - x1) / 2 : 70;
    const at = (t) => {
      const u = 1 - t;
      const mix = (a, b, c, d) => u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
      return { x: mix(x1, x1 + bend, x2 - bend, x2), y: mix(y1, y1, y2, y2) };
    };
    return { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, at, end: { x: to.x, y: y2 } };
  }

  const overlaps = (a, b) => Math.abs(a.x - b.x) < (a.wide + b.wide) / 2 + 2 && Math.abs(a.y - b.y) < 20;

  function edgeOf(one, names, most, badges, isNumbered) {
    const { edge } = one;
    const { d, at, end } = curveOf(one);
    const kind = edge.violations ? "bad" : edge.gaps ? "unsure" : "";
    const width = 1.5 + 9 * Math.sqrt(edge.events / most);
    const label = `${names.get(edge.source)} to ${names.get(edge.target)}: ${told(edge)}`;
    const link = element("a", { href: edge.href, class: `edge ${kind}` });
    // It is the name of the link, too.
    link.append(element("title", {}, label));
    link.append(element("path", { d, class: "reach" }));
    link.append(element("path", { d, class: "flow all", "stroke-width": width }));
    if (kind) link.append(element("path", { d, class: `flow ${kind}`, "stroke-width": Math.max(1.75, 9 * Math.sqrt((edge.violations || edge.gaps) / most)) }));
    link.append(element("path", { d: `M${end.x - TIP} ${end.y - 5}L${end.x} ${end.y}L${end.x - TIP} ${end.y + 5}Z`, class: `tip ${kind}` }));
    if (isNumbered) {
      const text = edge.violations ? `✕ ${number.format(edge.violations)}` : edge.gaps ? `? ${number.format(edge.gaps)}` : number.format(edge.events);
      const wide = 10 + 7.5 * text.length;
      const places = [0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78].map((t) => ({ ...at(t), wide }));
      const { x, y } = places.find((place) => !badges.some((other) => overlaps(place, other))) ?? places[0];
      badges.push({ x, y, wide });
      link.append(element("rect", { x: x - wide / 2, y: y - 9, width: wide, height: 18, rx: kind === "bad" ? 2 : 9, class: `badge ${kind}` }));
      link.append(element("text", { x, y: y + 4, class: `count ${kind}`, "text-anchor": "middle" }, text));
    }
    return link;
  }

  function nodeOf({ node, x: left, y: top, width, height }) {
    const kind = node.violations ? "bad" : node.gaps ? "unsure" : "";
    const erasure = erasureText(node);
    const label = [plain(node.kind), node.name, node.kind === "recipient" ? node.about : "", told(node), erasure.slice(2)].filter(Boolean).join(", ");
    const link = element("a", { href: node.href, class: `node ${node.kind} ${kind}` });
    link.append(element("title", {}, label));
    link.append(element("rect", { x: left, y: top, width, height, rx: node.kind === "purpose" ? 20 : node.kind === "collected" ? 2 : 7, class: "box" }));
    const bad = node.violations ? `✕ ${number.format(node.violations)}` : node.gaps ? `? ${number.format(node.gaps)}` : "";
    const inset = node.kind === "purpose" ? 16 : 11;
    link.append(element("text", { x: left + inset, y: top + 17, class: "name" }, fitted(node.name, width - inset - 6, 7.2)));
    const amounts = element("text", { x: left + inset, y: top + 17 + LINE, class: "amount" }, counted(node.events, "event"));
    if (bad) amounts.append(element("tspan", { dx: 8, class: kind }, bad));
    link.append(amounts);
    linesOf(node).forEach((line, n) => {
      const isErasure = line === erasure;
      const y = top + 17 + LINE * (n + 2);
      link.append(element("text", { x: left + inset, y, class: isErasure ? `erasing ${node.erasure.state}` : "about" }, fitted(line, width - inset - 6, 6.3)));
    });
    return link;
  }

  const HEADINGS = { collected: "Collected", purpose: "For the purpose", recipient: "Received by" };

  function headingsOf(columns) {
    let recipients = 0;
    return columns.map(([first]) => {
      const text = first.node.kind === "recipient" && recipients++ ? "Passed on to" : HEADINGS[first.node.kind];
      return element("text", { x: first.x, y: MARGIN + 10, class: "heading" }, text);
    });
  }

  function draw(place) {
    const graph = JSON.parse(place.querySelector("script").textContent);
    const drawing = place.querySelector(".drawing");
    drawing.hidden = false;
    const { columns, boxes, edges, width, height } = placed(graph, drawing.clientWidth - 4);
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Graph of the lineage" });
    const names = new Map(graph.nodes.map((node) => [node.id, node.name]));
    const most = Math.max(8, ...graph.edges.map((edge) => edge.events));
    const flows = element("g"), nodes = element("g"), badges = [];
    // What stands out is drawn last, above the others, and has the first choice of a place for its number.
    const weight = ({ edge }) => (edge.violations ? 2 : edge.gaps ? 1 : 0);
    const telling = [...edges].sort((a, b) => weight(b) - weight(a) || b.edge.violations - a.edge.violations || b.edge.gaps - a.edge.gaps);
    const isFew = edges.length <= NUMBERED;
    const made = new Map(telling.map((one, n) => [one, edgeOf(one, names, most, badges, isFew || (n < NUMBERED && weight(one)))]));
    edges.sort((a, b) => weight(a) - weight(b) || a.from.column - b.from.column || a.y1 - b.y1).forEach((one) => flows.append(made.get(one)));
    boxes.forEach((box) => nodes.append(nodeOf(box)));
    svg.append(...headingsOf(columns), flows, nodes);
    drawing.replaceChildren(svg);
    place.querySelector(".no-script").hidden = true;

    // What touches a node stands out while it is looked at.
    const mark = (id, on) => edges.forEach((one, n) => {
      const touches = one.edge.source === id || one.edge.target === id;
      flows.children[n].classList.toggle("far", on && !touches);
    });
    boxes.forEach((one, n) => {
      for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
        nodes.children[n].addEventListener(event, () => mark(one.node.id, on));
    });
  }

  document.addEventListener("lineage:shown", () => document.querySelectorAll("[data-graph]").forEach((place) => {
    try {
      draw(place);
    } catch (error) {
      // The table has it all.
      place.querySelector(".drawing").hidden = true;
      document.querySelector("#graph-table details").open = true;
      console.error(error);
    }
  }));
})();
