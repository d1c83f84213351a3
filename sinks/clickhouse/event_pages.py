"""Judged events by recipient, purpose, clause, verdict and time, the newest first, page by page. Names no person.

The projection by_day tells on which days there is something to find, so that a page reads the months it needs and no
others. Identifiers go to the server as a table of one query, never in a query's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table
from sinks.clickhouse.counting import LIMITS, Filter

_COLUMNS = (
    "event_id",
    "occurred_at",
    "activity",
    "event_type",
    "discloser",
    "recipient",
    "recipient_kind",
    "purpose",
    "data_categories",
    "legal_basis",
    "verdict",
    "clauses",
    "findings",
    "policy_version",
    "revision",
)
_PLACE = ("subject", "kafka_partition", "kafka_offset")
_DAYS = "SELECT toDate(occurred_at) AS day, count() FROM lineage WHERE {conditions} GROUP BY day ORDER BY day DESC"
# Of the rows of one event the one that counts comes first, if it is among them: a page never cuts it off.
_ROWS = f"""
SELECT {", ".join((*_COLUMNS, *_PLACE))} FROM lineage
WHERE {{conditions}}
  AND occurred_at >= fromUnixTimestamp64Milli(%(rows_since)s, 'UTC')
  AND occurred_at < fromUnixTimestamp64Milli(%(rows_until)s, 'UTC')
  {{behind}}
ORDER BY occurred_at DESC, event_id DESC, revision DESC, kafka_partition DESC, kafka_offset DESC
LIMIT %(limit)s
"""
_BEHIND = "AND (occurred_at, event_id) < (fromUnixTimestamp64Milli(%(at)s, 'UTC'), %(id)s)"
_THAT_COUNT = """
SELECT event_id, max((revision, kafka_partition, kafka_offset)) FROM lineage
WHERE subject IN (SELECT subject FROM asked) AND event_id IN (SELECT event_id FROM asked)
GROUP BY event_id
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_EVER = (0, 5_648_486_400_000)  # 1970 until 2149


class EventKey(NamedTuple):
    """Where an event stands in the order. `at`: ms since 1970, UTC."""

    at: int
    event_id: UUID


def events_page(
    client: Client,
    wanted: Filter,
    since: int | None = None,
    until: int | None = None,
    after: EventKey | None = None,
    limit: int = 100,
) -> tuple[list[dict[str, Any]], EventKey | None]:
    """Events, each once by the revision that counts, and the key behind which the next page begins; None: no more.

    wanted: without its days; since, until: ms, the end excluded. Raises ClickHouseError.
    """
    lower, upper = since or _EVER[0], until or _EVER[1]
    if after is not None:
        upper = min(upper, after.at + 1)
    days = [(_start(day), count) for day, count in _ask(client, _DAYS, wanted)]
    found: list[dict[str, Any]] = []
    while len(found) <= limit:
        days = [(start, count) for start, count in days if start < upper and start + _DAY_MS > lower]
        if not days or lower >= upper:
            break
        start, missing = max(lower, _reach(days, limit + 1)), limit + 1 - len(found)
        rows = _rows(client, wanted, start, upper, after, missing)
        found += _that_count(client, rows)
        if len(rows) < missing:
            upper = start
        else:
            after = _key(rows[-1])
    page = found[:limit]
    shown = [{name: event[name] for name in _COLUMNS} for event in page]
    return shown, _key(page[-1]) if len(found) > limit else None


def _reach(days: Sequence[tuple[int, int]], rows: int) -> int:
    """The start of the day with which so many rows are reached, the newest days first."""
    for start, count in days:
        rows -= count
        if rows <= 0:
            return start
    return days[-1][0]


def _rows(
    client: Client, wanted: Filter, since: int, until: int, after: EventKey | None, limit: int
) -> list[dict[str, Any]]:
    values: dict[str, Any] = {"rows_since": since, "rows_until": until, "limit": limit}
    if after is not None:
        values |= {"at": after.at, "id": after.event_id}
    sql = _ROWS.format(conditions=wanted.conditions(), behind=_BEHIND if after else "")
    rows = execute(client, sql, {**wanted.given(), **values}, **LIMITS)
    return [dict(zip((*_COLUMNS, *_PLACE), row, strict=True)) for row in rows]


def _that_count(client: Client, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    columns = {"subject": "UUID", "event_id": "UUID"}
    asked = [external_table("asked", columns, [(row["subject"], row["event_id"]) for row in rows])]
    counting = {event_id: tuple(place) for event_id, place in execute(client, _THAT_COUNT, {}, asked, **LIMITS)}
    return [
        row
        for row in rows
        if counting.get(row["event_id"]) == (row["revision"], row["kafka_partition"], row["kafka_offset"])
    ]


def _ask(client: Client, sql: str, wanted: Filter) -> list[Any]:
    return execute(client, sql.format(conditions=wanted.conditions()), wanted.given(), **LIMITS)


def _key(row: dict[str, Any]) -> EventKey:
    return EventKey((row["occurred_at"] - _EPOCH) // timedelta(milliseconds=1), row["event_id"])


def _start(day: date) -> int:
    return (day - _EPOCH.date()).days * _DAY_MS
