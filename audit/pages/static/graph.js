// Draws a lineage as a graph: dagre places the nodes, everything else is SVG of our own. Every node and edge is a link to
// the events that it stands for.
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = { collected: 150, purpose: 150, recipient: 190 };
  const LINE = 17;
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

  function placed(graph, isNarrow) {
    const g = new dagre.graphlib.Graph({ multigraph: true });
    g.setGraph({ rankdir: isNarrow ? "TB" : "LR", ranksep: isNarrow ? 46 : 96, nodesep: 14, edgesep: 10, marginx: 14, marginy: 14 });
    g.setDefaultEdgeLabel(() => ({}));
    g.setNode("root", { width: 1, height: 1 });
    const given = new Set(graph.edges.map((edge) => edge.target));
    for (const node of graph.nodes) {
      const lines = linesOf(node).length;
      g.setNode(node.id, { width: WIDTH[node.kind], height: 40 + LINE * lines, node });
      // What was collected stands first, purposes behind it, recipients behind those.
      if (node.kind === "recipient" && given.has(node.id)) continue;
      g.setEdge("root", node.id, { weight: 0, minlen: { collected: 1, purpose: 2, recipient: 3 }[node.kind] });
    }
    for (const edge of graph.edges) {
      if (edge.source === edge.target) continue;
      g.setEdge(edge.source, edge.target, { weight: 1 + Math.log2(edge.events), edge, width: 46, height: 16, labelpos: "c" });
    }
    dagre.layout(g);
    return g;
  }

  const curve = (points) => {
    // Through the points that dagre gives, bent smoothly.
    let path = `M${points[0].x} ${points[0].y}`;
    for (let n = 1; n < points.length - 1; n++) {
      const [a, b] = [points[n], points[n + 1]];
      const end = n === points.length - 2 ? b : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
      path += `Q${a.x} ${a.y} ${end.x} ${end.y}`;
    }
    return points.length === 2 ? `${path}L${points[1].x} ${points[1].y}` : path;
  };

  function edgeOf(placedEdge, names, most) {
    const { edge, points } = placedEdge;
    const kind = edge.violations ? "bad" : edge.gaps ? "unsure" : "";
    const width = 1.5 + 8 * Math.sqrt(edge.events / most);
    const d = curve(points);
    const label = `${names.get(edge.source)} to ${names.get(edge.target)}: ${told(edge)}`;
    const link = element("a", { href: edge.href, class: `edge ${kind}`, "aria-label": label });
    link.append(element("title", {}, label));
    link.append(element("path", { d, class: "reach" }));
    link.append(element("path", { d, class: "flow all", "stroke-width": width }));
    if (kind) link.append(element("path", { d, class: `flow ${kind}`, "stroke-width": Math.max(2, width * 0.6) }));
    // Where it ends: an arrow, drawn apart so that wide edges have no huge ones.
    const [before, end] = points.slice(-2);
    const angle = (Math.atan2(end.y - before.y, end.x - before.x) * 180) / Math.PI;
    link.append(element("path", { d: "M-8 -5L0 0L-8 5Z", class: `tip ${kind}`, transform: `translate(${end.x} ${end.y}) rotate(${angle})` }));
    const middle = { x: placedEdge.x ?? points[0].x, y: placedEdge.y ?? points[0].y };
    const text = edge.violations ? `✕ ${number.format(edge.violations)}` : edge.gaps ? `? ${number.format(edge.gaps)}` : number.format(edge.events);
    const wide = 10 + 7 * text.length;
    link.append(element("rect", { x: middle.x - wide / 2, y: middle.y - 9, width: wide, height: 18, rx: kind === "bad" ? 2 : 9, class: `badge ${kind}` }));
    link.append(element("text", { x: middle.x, y: middle.y + 4, class: `count ${kind}`, "text-anchor": "middle" }, text));
    return link;
  }

  function nodeOf({ node, x, y, width, height }) {
    const kind = node.violations ? "bad" : node.gaps ? "unsure" : "";
    const erasure = erasureText(node);
    const label = [plain(node.kind), node.name, node.kind === "recipient" ? node.about : "", told(node), erasure.slice(2)].filter(Boolean).join(", ");
    const link = element("a", { href: node.href, class: `node ${node.kind} ${kind}`, "aria-label": label });
    link.append(element("title", {}, label));
    const [left, top] = [x - width / 2, y - height / 2];
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

  function draw(place) {
    const graph = JSON.parse(place.querySelector("script").textContent);
    const drawing = place.querySelector(".drawing");
    drawing.hidden = false;
    const isNarrow = drawing.clientWidth < 640;
    const g = placed(graph, isNarrow);
    // The helper at the root takes a rank of its own.
    const nodes = graph.nodes.map((node) => g.node(node.id));
    const edges = g.edges().map((key) => g.edge(key)).filter((one) => one.edge);
    const xs = [...nodes.flatMap((n) => [n.x - n.width / 2, n.x + n.width / 2]), ...edges.flatMap((e) => e.points.map((p) => p.x))];
    const ys = [...nodes.flatMap((n) => [n.y - n.height / 2, n.y + n.height / 2]), ...edges.flatMap((e) => e.points.map((p) => p.y))];
    const [left, top] = [Math.min(...xs) - 12, Math.min(...ys) - 12];
    const [width, height] = [Math.max(...xs) + 12 - left, Math.max(...ys) + 12 - top];
    const svg = element("svg", { viewBox: `${left} ${top} ${width} ${height}`, width, height, role: "group", "aria-label": "Graph of the lineage" });
    const names = new Map(graph.nodes.map((node) => [node.id, node.name]));
    const most = Math.max(1, ...graph.edges.map((edge) => edge.events));
    const flows = element("g", {}), boxes = element("g", {});
    // In the order of reading: a node, then what leads out of it.
    for (const edge of edges.sort((a, b) => a.points[0].x - b.points[0].x || a.points[0].y - b.points[0].y)) flows.append(edgeOf(edge, names, most));
    for (const node of nodes.sort((a, b) => a.x - b.x || a.y - b.y)) boxes.append(nodeOf(node));
    svg.append(flows, boxes);
    drawing.replaceChildren(svg);
    place.querySelector(".no-script").hidden = true;

    // What touches a node stands out while it is looked at.
    const mark = (id, on) => edges.forEach((one, n) => {
      const touches = one.edge.source === id || one.edge.target === id;
      flows.children[n].classList.toggle("far", on && !touches);
    });
    nodes.forEach((one, n) => {
      for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
        boxes.children[n].addEventListener(event, () => mark(one.node.id, on));
    });
  }

  document.addEventListener("lineage:shown", () => document.querySelectorAll("[data-graph]").forEach(draw));
})();
