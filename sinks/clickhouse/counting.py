"""Counts of judged events, each once, for any question by day, activity, recipient, purpose, verdict and clauses.

Reads the projection by_day, so never the rows themselves; the rows that do not count (repeated events, old revisions)
are few, are found by their ids, and are subtracted. Names no person.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Any

from clickhouse_driver import Client

from sinks.clickhouse.client import execute
from sinks.clickhouse.queries import Count

DIMENSIONS = ("day", "activity", "recipient", "purpose", "verdict", "clauses")
_EXPRESSIONS = {"day": "toDate(occurred_at)"}
_JUDGED = "activity IN ('collect', 'share', 'transfer', 'publish')"
_CONDITIONS = {
    "activity": "activity = %(activity)s",
    "recipient": "recipient = %(recipient)s",
    "purpose": "purpose = %(purpose)s",
    "verdict": "verdict = %(verdict)s",
    "clause": "has(clauses, %(clause)s)",
    "since": "toDate(occurred_at) >= %(since)s",
    "until": "toDate(occurred_at) < %(until)s",
}
_COUNT = "SELECT {dimensions}, count() FROM lineage WHERE {conditions} GROUP BY {dimensions}"
_OUTDATED = """
SELECT toDate(occurred_at), activity, recipient, purpose, verdict, clauses, count() FROM
(
    SELECT occurred_at, activity, recipient, purpose, verdict, clauses, row_number() OVER (
        PARTITION BY event_id ORDER BY revision DESC, kafka_partition DESC, kafka_offset DESC) AS place
    FROM lineage
    WHERE event_id IN (SELECT event_id FROM lineage GROUP BY event_id HAVING count() > 1)
)
WHERE place > 1
GROUP BY ALL
"""
_ROWS = "SELECT count() FROM lineage"
# What one question of an auditor may cost the server, whatever it is; past it, it is told to come again.
LIMITS: dict[str, Any] = {
    "max_execution_time": 60,
    "max_bytes_before_external_group_by": 1 << 30,
    "max_bytes_before_external_sort": 1 << 30,
}
# Looking for the rows that do not count may take this part of the time at most.
_LOOKING_PART = 20


@dataclass(frozen=True)
class Filter:
    """Which events; None: any. `since`, `until`: days in UTC, the end excluded."""

    activity: str | None = None
    recipient: str | None = None
    purpose: str | None = None
    verdict: str | None = None
    clause: str | None = None
    since: date | None = None
    until: date | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def conditions(self) -> str:
        """Over the columns of `lineage` and of its projection; its parameters are `given()`."""
        return " AND ".join([_JUDGED, *(_CONDITIONS[name] for name in self.given())])

    def holds(self, row: dict[str, Any]) -> bool:
        """The same of a row of counts."""
        plain = ("activity", "recipient", "purpose", "verdict")
        return (
            all(getattr(self, name) in (None, row[name]) for name in plain)
            and (self.clause is None or self.clause in row["clauses"])
            and (self.since is None or row["day"] >= self.since)
            and (self.until is None or row["day"] < self.until)
            and row["activity"] in ("collect", "share", "transfer", "publish")
        )


class Counting:
    """Counts for many threads. What was found to not count is kept until the table has changed, and for twenty times
    as long as the search took: an event that was judged anew meanwhile is counted twice so long, by both verdicts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._outdated: list[dict[str, Any]] = []
        self._rows = -1
        self._fresh_until = float("-inf")

    def count(
        self, client: Client, dimensions: Sequence[str], wanted: Filter | None = None, fresh: bool = False
    ) -> dict[tuple[Any, ...], int]:
        """Values of the dimensions (of `DIMENSIONS`; clauses as a tuple) → events. fresh: uses nothing that was kept
        while the table changed. Raises ClickHouseError."""
        wanted = wanted or Filter()
        names = ", ".join(_EXPRESSIONS.get(name, name) for name in dimensions)
        counts: Counter[tuple[Any, ...]] = Counter()
        for *values, rows in execute(
            client, _COUNT.format(dimensions=names, conditions=wanted.conditions()), wanted.given(), **LIMITS
        ):
            counts[_key(values)] += rows
        for row in self._not_counting(client, fresh):
            if wanted.holds(row):
                counts[_key([row[name] for name in dimensions])] -= row["rows"]
        return {values: events for values, events in counts.items() if events > 0}

    def totals(self, client: Client, fresh: bool = False) -> list[Count]:
        """Of all events, as `queries.count_events` counts them: consents and erasures as well. fresh: as of `count`."""
        names = ("activity", "verdict", "recipient", "clauses")
        counts: Counter[tuple[Any, ...]] = Counter()
        for *values, rows in execute(client, _COUNT.format(dimensions=", ".join(names), conditions="1"), **LIMITS):
            counts[_key(values)] += rows
        for row in self._not_counting(client, fresh):
            counts[_key([row[name] for name in names])] -= row["rows"]
        return [
            Count(activity, verdict, recipient, clauses, events)
            for (activity, verdict, recipient, clauses), events in counts.items()
            if events > 0
        ]

    def _not_counting(self, client: Client, fresh: bool) -> list[dict[str, Any]]:
        [(rows,)] = execute(client, _ROWS)
        with self._lock:
            if rows == self._rows or (not fresh and self._clock() < self._fresh_until):
                return self._outdated
            begun = self._clock()
            found = execute(client, _OUTDATED, **LIMITS)
            self._outdated = [dict(zip((*DIMENSIONS, "rows"), row, strict=True)) for row in found]
            self._rows = rows
            self._fresh_until = self._clock() + _LOOKING_PART * (self._clock() - begun)
            return self._outdated


def _key(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
