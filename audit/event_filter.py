"""Which events of one person's lineage: by kind, purpose, who gave and who received, verdict and time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from audit.exports.background import Record, receiver
from audit.subject import DISCLOSURES
from processors.hops import SELF

# Stands in a filter for what an event does not say.
UNKNOWN = "~"
DISCLOSURE = "disclosure"


@dataclass(frozen=True)
class EventFilter:
    """None: any. activity: as in an event, or `disclosure`, which is any of those. recipient: an id, `public` or
    `unnamed` (`audit.exports.background.receiver`). discloser: an id, or `self`, the app. since, until: ISO 8601 in
    UTC, the end excluded."""

    activity: str | None = None
    event_type: str | None = None
    purpose: str | None = None
    discloser: str | None = None
    recipient: str | None = None
    verdict: str | None = None
    since: str | None = None
    until: str | None = None

    def of(self, events: Iterable[Record]) -> list[Record]:
        """The events that it lets through."""
        wanted = [(name, value) for name, value in vars(self).items() if value is not None]
        return [event for event in events if all(_MATCHES[name](event, value) for name, value in wanted)]


def _is_given(event: Record, value: str) -> bool:
    return event["activity"] in DISCLOSURES and receiver(event) == value


def _is_giver(event: Record, value: str) -> bool:
    return event["activity"] in DISCLOSURES and (event["discloser"] or SELF) == value


_MATCHES: Mapping[str, Callable[[Record, str], bool]] = {
    "activity": lambda event, value: (
        event["activity"] in DISCLOSURES if value == DISCLOSURE else event["activity"] == value
    ),
    "event_type": lambda event, value: (event["event_type"] or UNKNOWN) == value,
    "purpose": lambda event, value: event["verdict"] is not None and (event["purpose"] or UNKNOWN) == value,
    "discloser": _is_giver,
    "recipient": _is_given,
    "verdict": lambda event, value: event["verdict"] == value,
    "since": lambda event, value: event["occurred_at"] >= value,
    "until": lambda event, value: event["occurred_at"] < value,
}
