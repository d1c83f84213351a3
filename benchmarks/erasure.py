"""`lineage bench erasure`: the own purge on a table that is full, and what one person's questions cost meanwhile.

The table is filled by the engine itself, a year of events of many people, and a batch of them is purged as the erasure
controller does. The peer is the same purge for one person alone: what a batch saves. Readers ask for the lineage of
one person after the other, before the purge and during it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import Any
from uuid import UUID

import numpy as np

from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.purge import Purged, purge, remaining_parts
from sinks.clickhouse.queries import events_of_subject

BATCH = "purge, one batch"
ONE = "purge, one person"
BEFORE = "reader, before"
DURING = "reader, during the purge"

_AT_ONCE = 500_000
_READ_BEFORE_S = 10.0
_GONE_WITHIN_S = 120.0
_SETTLED_WITHIN_S = 300.0
# In the order of time, as the log has them; each person is of one partition, whose offsets run at a pace of their own.
_FILL = """
INSERT INTO lineage
(
    subject, occurred_at, event_id, activity, event_type, discloser, recipient, recipient_kind, recipient_effective_at,
    purpose, given_purpose, data_categories, given_categories, fields, region, storage_country, collected_at, verdict,
    clauses, legal_basis, policy_version, judged_at, source, kafka_partition, kafka_offset
)
SELECT
    {subject},
    toDateTime64('2025-01-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(intDiv(number * 31536000000, %(rows)s)) AS at,
    generateUUIDv4(),
    multiIf(kind < 70, 'collect', kind < 90, 'share', kind < 98, 'transfer', 'publish') AS activity,
    if(kind < 70, ['screen_view', 'search', 'purchase', 'login', 'ad_click'][1 + kind %% 5], ''),
    multiIf(kind < 70, '', activity = 'transfer', concat('recipient-', toString(chance %% 20)), 'self'),
    if(kind >= 70 AND kind < 98, concat('recipient-', toString(chance %% 40)), NULL) AS recipient,
    if(isNull(recipient), NULL, ['affiliate', 'partner', 'authority'][1 + chance %% 3]),
    if(isNull(recipient), NULL, toDateTime64('2024-06-01 00:00:00', 3, 'UTC')),
    ['2.1', '2.2', '2.3', '2.4', '2.5', '2.6', '2.7'][1 + chance %% 7] AS purpose,
    purpose,
    arraySlice(['user.device.ip_address', 'user.device.device_id', 'user.contact.email', 'user.location',
        'user.behavior'], 1 + chance %% 4, 2) AS categories,
    categories,
    if(kind < 70, ['ip_address', 'idfa'], []),
    'CN',
    if(kind < 70, 'CN', NULL),
    if(kind < 70, NULL, at - INTERVAL 1 DAY),
    ['lawful', 'lawful', 'lawful', 'violation', 'gap'][1 + chance %% 5],
    [['3.1.1', '3.2', '2.3', '4.1'][1 + chance %% 4]],
    'explicit_consent',
    1 + chance %% 2,
    at + INTERVAL 2 SECOND,
    'bench',
    person %% 12 AS partition,
    intDiv(number * (100 + partition), 1200)
FROM
(
    SELECT number, sipHash64(number, 'event') AS chance, intDiv(chance, 1000) %% 100 AS kind,
        toUInt64(sipHash64(number, 'person') %% %(people)s) AS person
    FROM numbers(%(start)s, %(n)s)
)
"""
# A random-looking id that is the same for the same person.
SUBJECT = """reinterpretAsUUID(concat(
    reinterpretAsFixedString(sipHash64(person, 1)), reinterpretAsFixedString(sipHash64(person, 2))))"""
SUBJECTS = f"SELECT {SUBJECT} FROM (SELECT number AS person FROM numbers(%(start)s, %(n)s))"


def run(
    clickhouse: str,
    progress: Callable[[str], None],
    rows: int = 20_000_000,
    people: int = 400_000,
    erased: int = 10_000,
) -> dict[str, Any]:
    """Measures on a migrated, empty database. `erased` of the `people` are purged as one batch."""
    if erased + 2 > people:
        raise ValueError("more people must have events than are erased: one is purged alone, others are read")
    client = connect(clickhouse)
    progress(f"filling the table with {rows:,} events of {people:,} people")
    fill(client, rows, people)
    gone, alone, kept = (_subjects(client, people, *span) for span in ((0, erased), (erased, 1), (erased + 1, 1000)))
    progress("waiting for the engine's merges")
    settle(client)
    progress("reading")
    before = _Reader(clickhouse, kept)
    with before:
        time.sleep(_READ_BEFORE_S)
    progress("purging one person alone")
    one = purge(client, alone)
    progress(f"purging {erased:,} people as one batch")
    during = _Reader(clickhouse, kept)
    with during:
        batch = purge(client, gone)
    if not batch.rows["lineage"] or not one.rows["lineage"]:
        raise RuntimeError("the people that were to be purged had no rows: give more rows or fewer people")
    left_disk = _seconds_until_gone(client, batch)
    results = [_purged(BATCH, batch, erased), _purged(ONE, one, 1), before.result(BEFORE), during.result(DURING)]
    results[0]["left_disk_s"] = left_disk
    client.disconnect()
    return {"results": results, "ratios": {ONE: round(one.seconds / (batch.seconds / erased), 1)}}


def fill(client: Any, rows: int, people: int) -> None:
    """Puts a year of events into an empty table."""
    for start in range(0, rows, _AT_ONCE):
        n = min(_AT_ONCE, rows - start)
        execute(client, _FILL.format(subject=SUBJECT), {"rows": rows, "people": people, "start": start, "n": n})


def settle(client: Any) -> None:
    """Until the engine merges no more: what it does after a fill is not what is measured."""
    deadline, quiet = time.monotonic() + _SETTLED_WITHIN_S, 0
    while quiet < 5 and time.monotonic() < deadline:
        [(merges,)] = execute(client, "SELECT count() FROM system.merges")
        quiet = 0 if merges else quiet + 1
        time.sleep(0.5)


def _subjects(client: Any, people: int, start: int, n: int) -> list[UUID]:
    return [subject for (subject,) in execute(client, SUBJECTS, {"start": start, "n": min(n, people - start)})]


def _purged(system: str, done: Purged, people: int) -> dict[str, Any]:
    rows = sum(done.rows.values())
    return {
        "system": system,
        "people": people,
        "rows": rows,
        "mutations": done.mutations,
        "seconds": round(done.seconds, 2),
        "people_per_s": round(people / done.seconds, 2),
    }


def _seconds_until_gone(client: Any, done: Purged) -> float | None:
    """From the purge's end until the last part that held the people has left the disk; None: it has not."""
    start = time.monotonic()
    while remaining_parts(client, done.done_at):
        if time.monotonic() - start > _GONE_WITHIN_S:
            return None
        time.sleep(0.2)
    return round(time.monotonic() - start, 1)


@dataclass
class _Reader:
    """Asks for one person's lineage after the other, on a connection of its own, within a `with`."""

    clickhouse: str
    people: list[UUID]
    seconds: list[float] = field(default_factory=list)

    def __enter__(self) -> None:
        self._stop, self._failed = Event(), list[BaseException]()
        self._thread = Thread(target=self._read)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _read(self) -> None:
        client, chance = connect(self.clickhouse), Random(7)
        try:
            while not self._stop.is_set():
                start = time.perf_counter()
                events_of_subject(client, chance.choice(self.people))
                self.seconds.append(time.perf_counter() - start)
        except BaseException as error:
            self._failed.append(error)
        finally:
            client.disconnect()

    def result(self, system: str) -> dict[str, Any]:
        p50, p99 = (float(ms) for ms in np.percentile(np.array(self.seconds) * 1000, [50, 99]))
        return {"system": system, "queries": len(self.seconds), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
