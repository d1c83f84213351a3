"""One person's lineage over time: every disclosure in the lane of who received it, beside the consents that stood.

Pure. Where there are more events than can be looked at, those of a day, a week or a month are drawn as one mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from audit.exports.background import Background, Record, receiver
from audit.exports.consents import STANDING, Consent, Scope, consents
from audit.subject import DISCLOSURES

MOST_MARKS = 400
MOST_LANES = 24
COLLECTED = "collected"
_UNITS = ("moment", "day", "week", "month")


@dataclass(frozen=True)
class Interval:
    """A time through which a consent stood. `until` None: it still stands. `event_id`: by which it was given;
    `ended_by`: by which it ended, None where it stands. `because`: that event was about more than this consent."""

    since: str
    until: str | None
    event_id: str
    ended_by: str | None = None
    because: str = ""


@dataclass(frozen=True)
class ConsentLane:
    """A consent, in a few words, and when it stood; `refused`: when it was asked for and not given, with the events."""

    words: str
    intervals: Sequence[Interval]
    refused: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Mark:
    """Events of one lane and verdict at one time. `until`: the end of the day, week or month, excluded; None: it is one
    moment, and `event_id` the event."""

    lane: str
    at: str
    until: str | None
    verdict: str
    events: int
    event_id: str | None = None


@dataclass(frozen=True)
class Timeline:
    """`lanes`: collections first, then recipients, most violations first; `left_out`: recipients that have no lane, the
    marks of which are not drawn. `unit`: moment, day, week or month."""

    unit: str
    consents: Sequence[ConsentLane]
    lanes: Sequence[str]
    marks: Sequence[Mark]
    left_out: int = 0


def lineage_timeline(
    events: Sequence[Record], background: Background, most_marks: int = MOST_MARKS, most_lanes: int = MOST_LANES
) -> Timeline:
    """events: ready for JSON, each once, by time."""
    drawn = [(lane_of(event), event) for event in events if lane_of(event) is not None]
    weights: Counter[Any] = Counter()
    for lane, event in drawn:
        weights[lane] += {"violation": 1_000_000, "gap": 1000}.get(event["verdict"], 1)
    ordered = sorted(weights, key=lambda lane: (lane != COLLECTED, -weights[lane], lane))
    lanes = ordered[:most_lanes]
    shown = [(lane, event) for lane, event in drawn if lane in set(lanes)]
    marks: list[Mark] = []
    for unit in _UNITS:
        marks = _marks(shown, unit)
        if len(marks) <= most_marks:
            break
    told = [_lane(consent) for consent in consents(events, background)]
    return Timeline(unit, told, lanes, marks, len(ordered) - len(lanes))


def lane_of(event: Record) -> str | None:
    """The lane of an event: of a disclosure who received it; None: it is a consent or an erasure."""
    if event["activity"] in DISCLOSURES:
        return receiver(event)
    return COLLECTED if event["activity"] == "collect" else None


def _marks(shown: Iterable[tuple[str | None, Record]], unit: str) -> list[Mark]:
    if unit == "moment":
        return [Mark(lane or "", e["occurred_at"], None, e["verdict"], 1, e["event_id"]) for lane, e in shown]
    counts: Counter[tuple[str, str, str]] = Counter()
    for lane, event in shown:
        counts[lane or "", _begin(event["occurred_at"], unit), event["verdict"]] += 1
    return [
        Mark(lane, f"{begin}T00:00:00.000Z", f"{_end(begin, unit)}T00:00:00.000Z", verdict, n)
        for (lane, begin, verdict), n in sorted(counts.items())
    ]


def _begin(at: str, unit: str) -> str:
    day = date.fromisoformat(at[:10])
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    return day.isoformat()


def _end(begin: str, unit: str) -> str:
    day = date.fromisoformat(begin)
    if unit == "month":
        return (day + timedelta(days=31)).replace(day=1).isoformat()
    return (day + timedelta(days=7 if unit == "week" else 1)).isoformat()


def _lane(consent: Consent) -> ConsentLane:
    intervals: list[Interval] = []
    refused: list[tuple[str, str]] = []
    begun: Record | None = None
    for change in consent.changes:
        if change.state in STANDING:
            # Given again, it goes on.
            begun = begun or change.event
        elif begun is not None:
            end = change.event
            intervals.append(
                Interval(begun["occurred_at"], end["occurred_at"], begun["event_id"], end["event_id"], change.because)
            )
            begun = None
        else:
            refused.append((change.event["occurred_at"], change.event["event_id"]))
    if begun is not None:
        intervals.append(Interval(begun["occurred_at"], None, begun["event_id"]))
    return ConsentLane(scope_words(consent.scope), intervals, refused)


def scope_words(scope: Scope) -> str:
    """What a consent is about, in a few words."""
    if scope.kind == "accept":
        return f"policy version {scope.version}"
    if scope.kind == "guardian":
        return "use of the service, by a guardian"
    words = f"{scope.activity or 'use'} for {'any purpose' if scope.purpose in ('*', None) else scope.purpose}"
    if scope.activity in ("share", "transfer"):
        words += f" with {'anyone' if scope.recipient in ('*', None) else scope.recipient}"
    return words + (f": {', '.join(scope.categories)}" if scope.categories else "")
