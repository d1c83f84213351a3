"""Which facts, just loaded, are late: events of the same person that they govern were recorded before them. Reads
only; finds the facts by their Kafka coordinates, so that it can be asked again after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from clickhouse_driver import Client

from sinks.clickhouse.client import execute

# The facts of a few ranges of offsets; of their people the events from the earliest of the facts on; then pairs.
_LATE = """
WITH facts AS
(
    SELECT subject, occurred_at, kafka_partition, kafka_offset FROM lineage
    WHERE ({ranges}) AND (activity = 'consent' OR (activity = 'erase' AND erasure_phase = 'completed'))
)
SELECT subject, toUnixTimestamp64Milli(min(facts.occurred_at)), any(facts.kafka_partition), max(facts.kafka_offset)
FROM
(
    SELECT subject, occurred_at, kafka_offset FROM lineage
    WHERE activity IN ('collect', 'share', 'transfer', 'publish')
      AND subject IN (SELECT subject FROM facts)
      AND occurred_at >= (SELECT min(occurred_at) FROM facts)
) AS events
INNER JOIN facts ON events.subject = facts.subject
WHERE events.occurred_at >= facts.occurred_at AND events.kafka_offset < facts.kafka_offset
GROUP BY subject
SETTINGS select_sequential_consistency = 1
"""


class LateFact(NamedTuple):
    """Of a person (`subject`: 16 bytes): when the earliest of the late facts took effect (ms), and where in `lineage`
    the last one stands."""

    subject: bytes
    since: int
    partition: int
    offset: int


def late_facts(client: Client, ranges: Sequence[tuple[int, int, int]]) -> list[LateFact]:
    """The people of whom a fact in one of the ranges (partition, start, end; both included) is late.

    Raises ClickHouseError.
    """
    if not ranges:
        return []
    condition = " OR ".join(
        f"(kafka_partition = {int(partition)} AND kafka_offset BETWEEN {int(start)} AND {int(end)})"
        for partition, start, end in ranges
    )
    rows = execute(client, _LATE.format(ranges=condition))
    return [LateFact(subject.bytes, since, partition, offset) for subject, since, partition, offset in rows]
