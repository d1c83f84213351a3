"""One person's lineage as a graph: what was collected, for which purpose, who received it, and who had it from them.

Pure. Sums up and never judges. Every node and edge names the filter (audit/event_filter.py) of the very events that it
stands for, so that a figure and the list behind it are the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.event_filter import UNKNOWN
from audit.exports.background import PUBLIC, UNNAMED, Background, Record, receiver
from audit.subject import DISCLOSURES
from processors.hops import SELF

VERDICTS = ("violation", "gap", "lawful")
# So many nodes of a kind are drawn; the others are drawn as one.
MOST: Mapping[str, int] = {"collected": 10, "purpose": 16, "recipient": 36}
_COLUMNS = ("collected", "purpose", "recipient")


@dataclass
class Node:
    """`kind`: collected, purpose or recipient. `about`: what a recipient is. `hop`: of a recipient; None: it is not
    seen to have got anything. `erasure`: state and evidence grade of the request that is newest, None: it is no target.
    `stands_for`: how many nodes are drawn as this one. `filter`: None where it stands for several."""

    id: str
    kind: str
    name: str
    about: str = ""
    hop: int | None = None
    events: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    erasure: Mapping[str, str] | None = None
    stands_for: int = 1
    filter: Mapping[str, str] | None = None


@dataclass
class Edge:
    """Events of a kind for a purpose, or disclosures: by the app for a purpose, or by one recipient to another."""

    source: str
    target: str
    events: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    purposes: set[str] = field(default_factory=set)
    categories: set[str] = field(default_factory=set)
    first_at: str = ""
    last_at: str = ""
    filter: Mapping[str, str] | None = None

    def take(self, event: Record) -> None:
        at = event["occurred_at"]
        self.events += 1
        self.verdicts[event["verdict"]] += 1
        self.purposes.add(event["purpose"] or UNKNOWN)
        self.categories.update(event["data_categories"])
        self.first_at = min(self.first_at or at, at)
        self.last_at = max(self.last_at, at)

    def merge(self, other: Edge) -> None:
        self.events += other.events
        self.verdicts += other.verdicts
        self.purposes |= other.purposes
        self.categories |= other.categories
        self.first_at = min(self.first_at or other.first_at, other.first_at)
        self.last_at = max(self.last_at, other.last_at)


@dataclass(frozen=True)
class Graph:
    """Nodes by column, the most telling first; edges likewise."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]

    def name(self, node: str) -> str:
        return next(one.name for one in self.nodes if one.id == node)


def lineage_graph(events: Iterable[Record], background: Background) -> Graph:
    """The whole graph. events: ready for JSON (`audit.subject`), each once; consents and erasures are left out."""
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    erasures = erasure_states(background.requests)
    for event in events:
        if event["activity"] not in DISCLOSURES and event["activity"] != "collect":
            continue
        purpose = _purpose(event, nodes)
        _count(purpose, event)
        if event["activity"] == "collect":
            source = _collected(event, nodes)
            _count(source, event)
            target, chosen = purpose, {**(source.filter or {}), **(purpose.filter or {})}
        else:
            target = _recipient(receiver(event), nodes, background, erasures)
            _count(target, event)
            discloser = event["discloser"] or SELF
            if discloser == SELF:
                source, chosen = purpose, {"discloser": SELF, **(purpose.filter or {}), **(target.filter or {})}
            else:
                source = _recipient(discloser, nodes, background, erasures)
                chosen = {"discloser": discloser, **(target.filter or {})}
            if event["hop"] is not None:
                target.hop = event["hop"] if target.hop is None else min(target.hop, event["hop"])
        edge = edges.setdefault((source.id, target.id), Edge(source.id, target.id, filter=chosen))
        edge.take(event)
    # A purpose of which only others disclosed leads nowhere; somebody who only disclosed is found by that.
    linked = {end for ends in edges for end in ends}
    for node in nodes.values():
        if not node.events:
            node.filter = {"discloser": node.id.removeprefix("recipient:")}
    return Graph(
        _sorted_nodes(node for node in nodes.values() if node.id in linked), sorted(edges.values(), key=_telling)
    )


def drawn(graph: Graph, most: Mapping[str, int] = MOST) -> Graph:
    """The graph with no more nodes of a kind than can be looked at: the others are one node, without a filter."""
    kept: list[Node] = []
    became: dict[str, str] = {}
    for kind in _COLUMNS:
        of_kind = [node for node in graph.nodes if node.kind == kind]
        limit = most[kind] if len(of_kind) > most[kind] else len(of_kind)
        # One place is that of the others.
        own, others = of_kind[: limit - (limit < len(of_kind))], of_kind[limit - (limit < len(of_kind)) :]
        kept += own
        became |= {node.id: node.id for node in own}
        if others:
            rest = Node(f"{kind}:*", kind, f"{len(others)} others", stands_for=len(others))
            for node in others:
                rest.events += node.events
                rest.verdicts += node.verdicts
                became[node.id] = rest.id
            kept.append(rest)
    edges: dict[tuple[str, str], Edge] = {}
    for edge in graph.edges:
        ends = (became[edge.source], became[edge.target])
        if ends == (edge.source, edge.target):
            edges[ends] = edge
        else:
            edges.setdefault(ends, Edge(*ends)).merge(edge)
    return Graph(kept, sorted(edges.values(), key=_telling))


def erasure_states(requests: Sequence[Record]) -> dict[str, dict[str, str]]:
    """Target → `state` and `grade` in the newest of these requests that has it. requests: by time."""
    return {
        target["id"]: {"state": target["state"], "grade": target["grade"]}
        for request in requests
        for target in request["targets"]
    }


def _collected(event: Record, nodes: dict[str, Node]) -> Node:
    kind = event["event_type"] or UNKNOWN
    name = "not named" if kind == UNKNOWN else kind
    return nodes.setdefault(
        f"collected:{kind}",
        Node(f"collected:{kind}", "collected", name, filter={"activity": "collect", "event_type": kind}),
    )


def _purpose(event: Record, nodes: dict[str, Node]) -> Node:
    purpose = event["purpose"] or UNKNOWN
    name = "no purpose named" if purpose == UNKNOWN else purpose
    return nodes.setdefault(
        f"purpose:{purpose}", Node(f"purpose:{purpose}", "purpose", name, filter={"purpose": purpose})
    )


def _recipient(name: str, nodes: dict[str, Node], background: Background, erasures: Mapping[str, Any]) -> Node:
    key = f"recipient:{name}"
    if key not in nodes:
        shown, about = _known(name, background)
        nodes[key] = Node(key, "recipient", shown, about, erasure=erasures.get(name), filter={"recipient": name})
    return nodes[key]


def _known(name: str, background: Background) -> tuple[str, str]:
    entry = background.newest_entry(name)
    if entry is not None:
        return entry["name"] or name, ", ".join(filter(None, (entry["kind"], entry["country"])))
    if name == PUBLIC:
        return "the public", "published"
    if name == UNNAMED:
        return "not named", "the source named nobody"
    return name, "not registered"


def _count(node: Node, event: Record) -> None:
    node.events += 1
    node.verdicts[event["verdict"]] += 1


def _sorted_nodes(nodes: Iterable[Node]) -> list[Node]:
    by_kind: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        by_kind[node.kind].append(node)
    return [node for kind in _COLUMNS for node in sorted(by_kind[kind], key=_telling)]


def _telling(one: Node | Edge) -> tuple[int, int, int, str]:
    """What stands out first: violations, gaps, then how many events."""
    name = one.id if isinstance(one, Node) else f"{one.source} {one.target}"
    return -one.verdicts["violation"], -one.verdicts["gap"], -one.events, name
