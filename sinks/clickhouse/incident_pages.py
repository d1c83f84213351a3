"""Who got what data of whom: the people whose data one recipient had got, and what is known of a recipient.

Reads the months that are asked for. There is no index by recipient (docs/adr/0002-projections-not-views.md). People are
in the order of their subjects, which is that of the table, so that each page reads on where the last one ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute
from sinks.clickhouse.counting import LIMITS
from sinks.clickhouse.erasures import aliases_of_subjects

# A later revision is no new disclosure; a disclosure counts whatever its verdict.
_GOT = """
recipient = %(recipient)s AND activity IN ('share', 'transfer') AND revision = 0
AND occurred_at < fromUnixTimestamp64Milli(%(until)s, 'UTC')
"""
_PEOPLE = f"""
SELECT subject, uniqExact(event_id), uniqExactIf(event_id, discloser = 'self'),
    arraySort(groupUniqArrayIf(discloser, discloser != 'self')),
    uniqExactIf(event_id, occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')),
    arraySort(groupUniqArrayArray(data_categories)), arraySort(groupUniqArray(ifNull(purpose, ''))),
    min(occurred_at), max(occurred_at)
FROM lineage
WHERE {_GOT} {{behind}}
GROUP BY subject
ORDER BY subject
LIMIT %(limit)s
"""
_BEHIND = "AND subject > %(after)s"
_SUMMARY = f"""
SELECT uniqExact(subject), uniqExact(event_id), uniqExactIf(subject, discloser = 'self'),
    uniqExactIf(subject, discloser != 'self'),
    uniqExactIf(subject, occurred_at < fromUnixTimestamp64Milli(%(since)s, 'UTC')),
    uniqExactIf(subject, occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')),
    min(occurred_at), max(occurred_at)
FROM lineage WHERE {_GOT}
"""
_CATEGORIES = f"""
SELECT arrayJoin(data_categories) AS category, uniqExact(subject), uniqExact(event_id) FROM lineage WHERE {_GOT}
GROUP BY category ORDER BY category
"""
_PASSED_ON = """
SELECT ifNull(recipient, 'public') AS receiver, uniqExact(subject), uniqExact(event_id), min(occurred_at)
FROM lineage
WHERE discloser = %(recipient)s AND activity IN ('share', 'transfer', 'publish') AND revision = 0
  AND occurred_at < fromUnixTimestamp64Milli(%(until)s, 'UTC')
GROUP BY receiver ORDER BY receiver
"""
# Those who cannot be named any more, because their erasure is complete, and the recipient was among its targets.
_ERASED = """
SELECT count(), countIf(arrayExists(
    (id, state, ended) -> id = %(recipient)s AND state = 'completed'
        AND ifNull(ended < fromUnixTimestamp64Milli(%(since)s, 'UTC'), false),
    `targets.id`, `targets.state`, `targets.ended_at`))
FROM erasure_requests FINAL
WHERE isNotNull(erased_at) AND isNull(joined) AND has(`targets.id`, %(recipient)s)
"""
# Beyond any time that the table can hold.
_EVER = 5_648_486_400_000


@dataclass(frozen=True)
class Affected:
    """A person whose data a recipient had got. `alias`: 16 bytes; None: no user id stands for the subject any more.

    `direct`, `during`: of the `disclosures`, those by the app itself, and those in the time asked for. `through`: who
    else passed the data on to it.
    """

    subject: UUID
    alias: bytes | None
    disclosures: int
    direct: int
    through: tuple[str, ...]
    during: int
    categories: tuple[str, ...]
    purposes: tuple[str, ...]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class Reach:
    """Whose data a recipient had got. `people`, and of them those who had it by the app (`direct`), by others
    (`onward`), `before` and `during` the time asked for: one may be among several. `categories`, `passed_on`: name →
    (people, disclosures). `erased`: people whose erasure is complete and who are in no number here; of them
    `confirmed_before` had been erased by the recipient before that time, by its own word or better.
    """

    people: int
    disclosures: int
    direct: int
    onward: int
    before: int
    during: int
    first_at: datetime | None
    last_at: datetime | None
    categories: Mapping[str, tuple[int, int]]
    passed_on: Mapping[str, tuple[int, int]]
    erased: int
    confirmed_before: int


def affected_page(
    client: Client, recipient: str, since: int, until: int, after: UUID | None = None, limit: int = 100
) -> tuple[list[Affected], UUID | None]:
    """People whose data a recipient had got before `until` (ms), by subject; and the one behind whom the next page
    begins, None: no more. since: ms, only for `during`. Raises ClickHouseError."""
    values: dict[str, Any] = {"recipient": recipient, "since": since, "until": until, "limit": limit + 1}
    if after is not None:
        values["after"] = after
    sql = _PEOPLE.format(behind=_BEHIND if after is not None else "")
    rows = execute(client, sql, values, optimize_aggregation_in_order=1, **LIMITS)
    page = rows[:limit]
    aliases = aliases_of_subjects(client, [row[0] for row in page])
    found = [_affected(row, aliases.get(row[0])) for row in page]
    return found, page[-1][0] if len(rows) > limit else None


def reach(client: Client, recipient: str, since: int = 0, until: int = _EVER) -> Reach:
    """What a recipient had got before `until` (ms). Raises ClickHouseError."""
    values = {"recipient": recipient, "since": since, "until": until}
    [(people, events, direct, onward, before, during, first, last)] = execute(client, _SUMMARY, values, **LIMITS)
    categories = execute(client, _CATEGORIES, values, **LIMITS)
    passed_on = execute(client, _PASSED_ON, values, **LIMITS)
    [(erased, confirmed)] = execute(client, _ERASED, values, **LIMITS)
    return Reach(
        *(people, events, direct, onward, before, during),
        first if events else None,
        last if events else None,
        {category: (people, events) for category, people, events in categories},
        {receiver: (people, events) for receiver, people, events, _ in passed_on},
        erased,
        confirmed,
    )


def _affected(row: tuple[Any, ...], alias: bytes | None) -> Affected:
    subject, events, direct, through, during, categories, purposes, first, last = row
    known = tuple(purpose for purpose in purposes if purpose)
    return Affected(subject, alias, events, direct, tuple(through), during, tuple(categories), known, first, last)
