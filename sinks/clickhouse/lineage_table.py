"""The table `lineage` as the loader sees it: rows of records, months, inserts, what is there by offset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from clickhouse_driver import Client

from processors.coded import CodedRows
from sinks.clickhouse.insert import insert_lineage
from sinks.clickhouse.late_facts import Fact, erased_of_rows, facts_of_rows, late_facts, recorded_facts
from sinks.clickhouse.native import ShapeEncoder
from sinks.clickhouse.recovery import present_offsets
from sinks.clickhouse.rows import lineage_rows, split_by_month


class LineageTable:
    """One connection, one loader. Raises `TransientError` or `TerminalError` (sinks/clickhouse/errors.py)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._encoder = ShapeEncoder()

    def rows(self, parts: Sequence[tuple[str, CodedRows]]) -> CodedRows:
        """Table rows of decoded records, given as pairs of record type and records."""
        return CodedRows.concat([lineage_rows(name, records.compact()) for name, records in parts])

    def by_month(self, rows: CodedRows) -> list[tuple[int, CodedRows]]:
        """(yyyymm, rows of that month in order of their offsets): what one insert may hold."""
        return split_by_month(rows.take(np.argsort(rows.rows["kafka_offset"], kind="stable")))

    def insert(self, rows: CodedRows, token: str) -> None:
        """Inserts rows of one month as one block under a deduplication token."""
        insert_lineage(self._client, rows, token, encoder=self._encoder)

    def present(self, partition: int, start: int, end: int) -> npt.NDArray[np.int64]:
        """Offsets of a partition in [start, end] that the table holds, each as often as it does."""
        return present_offsets(self._client, partition, start, end)

    def facts(self, rows: CodedRows) -> list[Fact]:
        """The consents and completed erasures among rows."""
        return facts_of_rows(rows)

    def erased(self, rows: CodedRows) -> list[bytes]:
        """The subjects (16 bytes) whose erasure is complete by a marker among rows."""
        return erased_of_rows(rows)

    def recorded_facts(self, ranges: Sequence[tuple[int, int, int]]) -> list[Fact]:
        """Those that the table holds in ranges of offsets (partition, start, end; both included)."""
        return recorded_facts(self._client, ranges)

    def late_facts(self, facts: Sequence[Fact]) -> list[Fact]:
        """Of each person with facts that came behind events they govern: the earliest one's time, the last one's
        place."""
        return late_facts(self._client, facts)
