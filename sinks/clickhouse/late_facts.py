"""Which facts, just loaded, are late: events of the same person that they govern were recorded before them.

Reads only. Facts come from the loader's rows, or after a crash from the table by their Kafka coordinates. The question
goes by the table's key, so that it costs as much as there are facts, whatever the table holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from clickhouse_driver import Client

from processors.coded import CodedRows
from sinks.clickhouse.client import execute

_FACTS = """
SELECT subject, toUnixTimestamp64Milli(occurred_at), kafka_partition, kafka_offset FROM lineage
WHERE ({ranges}) AND (activity = 'consent' OR (activity = 'erase' AND erasure_phase = 'completed'))
SETTINGS select_sequential_consistency = 1
"""
# Nearly always the answer: nothing.
_LATEST = """
SELECT subject, toUnixTimestamp64Milli(max(occurred_at)) FROM lineage
WHERE subject IN %(subjects)s
  AND activity IN ('collect', 'share', 'transfer', 'publish')
  AND occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')
  AND kafka_offset < %(end)s
GROUP BY subject
SETTINGS select_sequential_consistency = 1, max_query_size = 4194304, max_ast_elements = 1000000,
    max_expanded_ast_elements = 1000000, optimize_use_projections = 0
"""
# Facts and events of one person are in one partition of the log, so offsets tell which was first.
_LATE = """
SELECT subject, min(facts.since), max(facts.offset)
FROM
(
    SELECT subject, toUnixTimestamp64Milli(occurred_at) AS time, kafka_offset FROM lineage
    WHERE subject IN %(subjects)s
      AND activity IN ('collect', 'share', 'transfer', 'publish')
      AND occurred_at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')
      AND kafka_offset < %(end)s
) AS events
INNER JOIN
(
    SELECT fact.1 AS subject, fact.2 AS since, fact.3 AS offset
    FROM (SELECT arrayJoin(arrayZip(%(of)s::Array(UUID), %(times)s::Array(Int64), %(offsets)s::Array(UInt64))) AS fact)
) AS facts ON events.subject = facts.subject
WHERE events.time >= facts.since AND events.kafka_offset < facts.offset
GROUP BY subject
SETTINGS select_sequential_consistency = 1, max_query_size = 4194304, max_ast_elements = 1000000,
    max_expanded_ast_elements = 1000000
"""
_AT_ONCE = 2000


class Fact(NamedTuple):
    """A consent, or an erasure that is complete. `subject`: 16 bytes; `since`: when it took effect, ms; where it stands
    in `lineage`."""

    subject: bytes
    since: int
    partition: int
    offset: int


def facts_of_rows(rows: CodedRows) -> list[Fact]:
    """The facts among rows of the table."""
    shapes = rows.shapes
    of_facts = shapes["activity"] == "consent"
    if "erasure_phase" in shapes.columns:
        of_facts |= (shapes["erasure_phase"] == "completed").fill_null(False)
    index = np.flatnonzero(of_facts.to_numpy()[rows.codes])
    columns = (rows.rows[name][index].tolist() for name in ("occurred_at", "kafka_partition", "kafka_offset"))
    subjects = rows.rows["subject"][index]
    return [Fact(subject.tobytes(), *numbers) for subject, *numbers in zip(subjects, *columns, strict=True)]


def erased_of_rows(rows: CodedRows) -> list[bytes]:
    """The subjects (16 bytes) whose erasure is complete by a marker among rows. One that names no request tells of a
    person's earlier erasure, under another subject."""
    if "erasure_phase" not in rows.shapes.columns:
        return []
    completed = (rows.shapes["erasure_phase"] == "completed").fill_null(False).to_numpy()
    index = np.flatnonzero(completed[rows.codes])
    index = index[rows.rows["request_id"][index].any(axis=1)]
    return [subject.tobytes() for subject in rows.rows["subject"][index]]


def recorded_facts(client: Client, ranges: Sequence[tuple[int, int, int]]) -> list[Fact]:
    """The facts in the ranges of offsets (partition, start, end; both included). Raises ClickHouseError."""
    if not ranges:
        return []
    condition = " OR ".join(
        f"(kafka_partition = {int(partition)} AND kafka_offset BETWEEN {int(start)} AND {int(end)})"
        for partition, start, end in ranges
    )
    return [Fact(subject.bytes, *where) for subject, *where in execute(client, _FACTS.format(ranges=condition))]


def late_facts(client: Client, facts: Sequence[Fact]) -> list[Fact]:
    """Of each person with late facts the time of the earliest and the place of the last one. Raises ClickHouseError."""
    late: list[Fact] = []
    partitions = {fact.subject: fact.partition for fact in facts}
    # A person's facts together.
    ordered = sorted(facts)
    for start in range(0, len(ordered), _AT_ONCE):
        some = _governing(client, ordered[start : start + _AT_ONCE])
        if not some:
            continue
        subjects = [UUID(bytes=fact.subject) for fact in some]
        parameters = _bounds(some) | {
            "of": [str(subject) for subject in subjects],
            "times": [fact.since for fact in some],
            "offsets": [fact.offset for fact in some],
        }
        for subject, since, offset in execute(client, _LATE, parameters):
            late.append(Fact(subject.bytes, since, partitions[subject.bytes], offset))
    return late


def _governing(client: Client, facts: Sequence[Fact]) -> list[Fact]:
    """Without those that took effect after the last event of their person."""
    latest = {subject.bytes: time for subject, time in execute(client, _LATEST, _bounds(facts))}
    return [fact for fact in facts if latest.get(fact.subject, -1) >= fact.since]


def _bounds(facts: Sequence[Fact]) -> dict[str, Any]:
    return {
        "subjects": [UUID(bytes=subject) for subject in {fact.subject for fact in facts}],
        "since": min(fact.since for fact in facts),
        "end": max(fact.offset for fact in facts),
    }
