"""A lineage as a graph and over time: every figure is that of the events behind its link."""

from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.event_filter import DISCLOSURE, UNKNOWN, EventFilter
from audit.exports.background import Background
from audit.lineage_graph import Graph, drawn, lineage_graph
from audit.lineage_timeline import COLLECTED, lineage_timeline
from audit.pages.person import mark_filter
from audit.subject import DISCLOSURES
from tests import audit_world as world

Event = dict[str, Any]
_NAMES = ["lumen-analytics", "glacier-backup", "brightlane-ads", "nobody-knows"]
_PURPOSES = ["service", "development", None]


@st.composite
def events(draw: st.DrawFn) -> Event:
    activity = draw(st.sampled_from(["collect", "share", "transfer", "publish", "consent", "erase"]))
    is_judged = activity in ("collect", *DISCLOSURES)
    is_given = activity in DISCLOSURES
    discloser = draw(st.sampled_from([None, "self", *_NAMES])) if is_given else None
    day, hour = draw(st.integers(1, 28)), draw(st.integers(0, 23))
    return {
        "event_id": str(draw(st.uuids())),
        "activity": activity,
        "occurred_at": f"2026-0{draw(st.integers(1, 9))}-{day:02d}T{hour:02d}:00:00.000Z",
        "event_type": draw(st.sampled_from(["app_open", "login", None])) if activity == "collect" else None,
        "purpose": draw(st.sampled_from(_PURPOSES)) if is_judged else None,
        "discloser": discloser,
        "recipient": draw(st.sampled_from([*_NAMES, None])) if is_given else None,
        "data_categories": draw(st.lists(st.sampled_from(["user.device", "user.telemetry"]), unique=True)),
        "verdict": draw(st.sampled_from(["lawful", "violation", "gap"])) if is_judged else None,
        "hop": draw(st.sampled_from([1, 2, None])) if is_given else 0,
        "consent_action": "accept" if activity == "consent" else None,
        "consent_version": 1 if activity == "consent" else None,
        "guardian_granted": None,
        "age_band": None,
        "erasure_phase": "requested" if activity == "erase" else None,
    }


histories = st.lists(events(), max_size=60, unique_by=lambda event: event["event_id"]).map(
    lambda found: sorted(found, key=lambda event: (event["occurred_at"], event["event_id"]))
)


@cache
def published() -> dict[str, Any]:
    return {"policies": world.policies(), "recipients": world.recipients(), "exported_at": world.RECEIVED}


def background(**more: Any) -> Background:
    return Background(**published(), **more)


def behind(wanted: Any, found: list[Event]) -> list[Event]:
    """The events that a link leads to."""
    names = {"from": "since", "to": "until"}
    return EventFilter(**{names.get(name, name): value for name, value in wanted.items()}).of(found)


def verdicts(found: list[Event]) -> Counter[str]:
    return Counter(event["verdict"] for event in found)


@settings(deadline=None)
@given(histories)
def test_every_node_and_edge_is_that_of_the_events_behind_it(history: list[Event]) -> None:
    graph = lineage_graph(history, background())
    for edge in graph.edges:
        found = behind(edge.filter, history)
        assert (edge.events, edge.verdicts) == (len(found), verdicts(found))
        assert (edge.first_at, edge.last_at) == (found[0]["occurred_at"], found[-1]["occurred_at"])
        assert edge.purposes == {event["purpose"] or UNKNOWN for event in found}
        assert edge.categories == {name for event in found for name in event["data_categories"]}
    for node in graph.nodes:
        found = behind(node.filter, history)
        if node.kind == "recipient" and not node.events:
            assert found, "somebody who only disclosed leads to what they disclosed"
        else:
            assert (node.events, node.verdicts) == (len(found), verdicts(found))
    judged = [event for event in history if event["verdict"] is not None]
    assert sum(edge.events for edge in graph.edges) == len(judged)
    assert len({node.id for node in graph.nodes}) == len(graph.nodes)


@settings(deadline=None)
@given(histories, st.integers(1, 4))
def test_what_is_drawn_leaves_no_event_out(history: list[Event], most: int) -> None:
    whole = lineage_graph(history, background())
    shown = drawn(whole, {"collected": most, "purpose": most, "recipient": most})

    def sums(graph: Graph) -> Any:
        return sum((edge.verdicts for edge in graph.edges), Counter()), sum(edge.events for edge in graph.edges)

    assert sums(shown) == sums(whole)
    kinds = Counter(node.kind for node in shown.nodes)
    assert all(n <= most for n in kinds.values())
    assert sum(node.stands_for for node in shown.nodes) == len(whole.nodes)
    ids = {node.id for node in shown.nodes}
    assert all({edge.source, edge.target} <= ids for edge in shown.edges)
    assert drawn(whole) == whole


@settings(deadline=None)
@given(histories, st.integers(1, 80))
def test_the_marks_of_a_timeline_are_all_events_and_lead_to_theirs(history: list[Event], most: int) -> None:
    found = lineage_timeline(history, background(), most_marks=most)
    judged = [event for event in history if event["verdict"] is not None]
    assert sum(mark.events for mark in found.marks) == len(judged)
    assert len(found.marks) <= most or found.unit == "month"
    for mark in found.marks:
        if mark.event_id is None:
            assert len(behind(mark_filter(mark), history)) == mark.events
        else:
            [event] = [event for event in history if event["event_id"] == mark.event_id]
            assert (event["occurred_at"], event["verdict"]) == (mark.at, mark.verdict)
    assert all(mark.lane in found.lanes for mark in found.marks)


def event(n: int, day: str, activity: str, **values: Any) -> Event:
    empty = dict.fromkeys(
        ("event_type", "purpose", "discloser", "recipient", "verdict", "consent_action", "consent_version", "hop")
    )
    more = {"consent_activity": None, "guardian_granted": None, "age_band": None, "erasure_phase": None}
    return {
        **empty,
        **more,
        "event_id": f"{n:032x}",
        "occurred_at": f"{day}T00:00:00.000Z",
        "activity": activity,
        "data_categories": [],
        **values,
    }


def share(n: int, day: str, recipient: str, discloser: str = "self", **values: Any) -> Event:
    return event(
        n,
        day,
        "share",
        **{
            "recipient": recipient,
            "discloser": discloser,
            "purpose": "service",
            "verdict": "lawful",
            "hop": 1,
            **values,
        },
    )


def test_a_graph_tells_who_had_it_from_whom_and_how_far_their_erasure_is() -> None:
    request = {
        "targets": [
            {"id": "glacier-backup", "state": "acknowledged", "grade": "acknowledged"},
            {"id": "store:lineage", "state": "waiting", "grade": "none"},
        ]
    }
    history = [
        event(1, "2026-03-01", "collect", event_type="login", purpose="service", verdict="lawful", hop=0),
        share(2, "2026-03-02", "lumen-analytics"),
        share(3, "2026-03-03", "glacier-backup", "lumen-analytics", verdict="violation", hop=2),
        share(4, "2026-03-04", "nobody-knows", "never-given", verdict="gap", hop=None),
    ]
    graph = lineage_graph(history, background(requests=[request]))
    nodes = {node.name: node for node in graph.nodes}
    assert [
        (nodes[name].kind, nodes[name].about, nodes[name].hop) for name in ("Lumen Analytics", "Glacier Backup")
    ] == [
        ("recipient", "partner, CN", 1),
        ("recipient", "partner, CN", 2),
    ]
    assert nodes["Glacier Backup"].erasure == {"state": "acknowledged", "grade": "acknowledged"}
    assert nodes["Lumen Analytics"].erasure is None
    assert (nodes["never-given"].about, nodes["never-given"].hop, nodes["never-given"].events) == (
        "not registered",
        None,
        0,
    )
    flows = [(graph.name(edge.source), graph.name(edge.target), edge.events) for edge in graph.edges]
    assert flows == [
        ("Lumen Analytics", "Glacier Backup", 1),
        ("never-given", "nobody-knows", 1),
        ("login", "service", 1),
        ("service", "Lumen Analytics", 1),
    ], "what stands out comes first"


def test_consents_stand_from_their_grant_to_their_end() -> None:
    def said(n: int, day: str, action: str, **values: Any) -> Event:
        return event(n, day, "consent", consent_action=action, **values)

    ads = {"consent_activity": "share", "purpose": "ad_measurement", "recipient": "brightlane-ads"}
    history = [
        said(1, "2026-03-01", "accept", consent_version=1),
        said(2, "2026-03-02", "withdraw", consent_activity="use", purpose="personalisation"),
        said(3, "2026-03-03", "grant", **ads),
        said(4, "2026-03-05", "grant", **ads),
        said(5, "2026-03-07", "withdraw", **ads),
        said(6, "2026-03-09", "grant", **ads),
        share(7, "2026-03-10", "brightlane-ads"),
    ]
    found = lineage_timeline(history, background())
    assert (found.unit, found.lanes, found.left_out) == ("moment", ["brightlane-ads"], 0)
    told = {lane.words: lane for lane in found.consents}
    assert [(one.since[:10], one.until) for one in told["policy version 1"].intervals] == [("2026-03-01", None)]
    shared = told["share for ad_measurement with brightlane-ads"]
    assert [(one.since[:10], one.until and one.until[:10]) for one in shared.intervals] == [
        ("2026-03-03", "2026-03-07"),
        ("2026-03-09", None),
    ]
    assert told["use for personalisation"].intervals == []
    assert [at[:10] for at, _ in told["use for personalisation"].refused] == ["2026-03-02"]


def test_many_recipients_share_the_lanes_that_there_are() -> None:
    history = [share(n, f"2026-03-{n % 28 + 1:02d}", f"r{n:02d}") for n in range(40)]
    history.append(event(99, "2026-03-01", "collect", purpose="service", verdict="lawful"))
    history.append(share(100, "2026-03-02", "bad", verdict="violation"))
    found = lineage_timeline(sorted(history, key=lambda e: e["occurred_at"]), background(), most_lanes=5)
    assert found.lanes[:2] == [COLLECTED, "bad"]
    assert (len(found.lanes), found.left_out) == (5, 37)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 5),
        ({"activity": DISCLOSURE}, 3),
        ({"discloser": "self"}, 2),
        ({"recipient": "public"}, 1),
        ({"purpose": UNKNOWN}, 1),
        ({"since": "2026-03-02T00:00:00.000Z", "until": "2026-03-04T00:00:00.000Z"}, 2),
        ({"verdict": "violation", "recipient": "b"}, 1),
        ({"event_type": UNKNOWN, "activity": "collect"}, 1),
    ],
)
def test_filters(wanted: dict[str, str], count: int) -> None:
    history = [
        event(1, "2026-03-01", "collect", purpose=None, verdict="gap"),
        share(2, "2026-03-02", "a"),
        share(3, "2026-03-03", "b", "a", verdict="violation"),
        event(4, "2026-03-04", "publish", purpose="service", verdict="lawful", discloser=None),
        event(5, "2026-03-05", "consent", consent_action="leave"),
    ]
    assert len(EventFilter(**wanted).of(history)) == count
