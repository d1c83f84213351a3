"""The verdicts that ClickHouse holds, as `lineage verify` compares them: streamed, by partition of the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import external_table
from sinks.clickhouse.errors import sorted_errors

_JUDGED = "activity IN ('collect', 'share', 'transfer', 'publish')"
_COLUMNS = "subject, event_id, verdict, clauses, legal_basis"
# The highest revision counts, and of equal ones the one recorded last.
_THAT_COUNT = f"""
SELECT {_COLUMNS} FROM lineage
WHERE kafka_partition = %(partition)s AND kafka_offset < %(end)s AND {_JUDGED}
ORDER BY revision DESC, kafka_offset DESC
LIMIT 1 BY subject, event_id
"""
_BEYOND = f"""
SELECT {_COLUMNS} FROM lineage
WHERE kafka_offset >= transform(toUInt64(kafka_partition), %(partitions)s, %(ends)s, 0) AND {_JUDGED}
LIMIT 1 BY subject, event_id
"""
_OF_SUBJECTS = f"""
SELECT {_COLUMNS} FROM lineage WHERE subject IN (SELECT subject FROM asked)
ORDER BY revision DESC, kafka_offset DESC
LIMIT 1 BY subject, event_id
"""
_STREAMED = {"max_block_size": 65_536, "max_bytes_before_external_sort": 1 << 30, "max_execution_time": 0}


class StoredVerdict(NamedTuple):
    """`subject`, `event_id`: 16 bytes."""

    subject: bytes
    event_id: bytes
    verdict: str
    clauses: tuple[str, ...]
    legal_basis: str


class StoredVerdicts:
    """One connection. Every method raises ClickHouseError."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def that_count(self, partition: int, end: int) -> Iterator[StoredVerdict]:
        """Of each event of a partition the verdict that counts, of what was recorded before the offset `end`."""
        return self._rows(_THAT_COUNT, {"partition": partition, "end": end})

    def beyond(self, ends: Mapping[int, int]) -> Iterator[StoredVerdict]:
        """Verdicts that stand where the log (partition → end) has nothing: behind its ends, or in no partition."""
        return self._rows(_BEYOND, {"partitions": [*ends], "ends": [*ends.values()]})

    def of_subjects(self, subjects: Collection[bytes]) -> Iterator[StoredVerdict]:
        """Every event of these subjects, consents and erasures among them, with the row that counts."""
        if subjects:
            asked = external_table("asked", {"subject": "UUID"}, [(UUID(bytes=subject),) for subject in subjects])
            yield from self._rows(_OF_SUBJECTS, {}, [asked])

    def _rows(
        self, sql: str, parameters: Mapping[str, object], tables: Sequence[Mapping[str, Any]] = ()
    ) -> Iterator[StoredVerdict]:
        with sorted_errors():
            for subject, event_id, verdict, clauses, basis in self._client.execute_iter(
                sql, parameters, external_tables=list(tables) or None, settings=_STREAMED
            ):
                yield StoredVerdict(subject.bytes, event_id.bytes, verdict, tuple(clauses), basis)
