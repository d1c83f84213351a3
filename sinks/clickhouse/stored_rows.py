"""The rows of `lineage` against those that the log's records make: digests of ranges of offsets, and what differs.

The expected rows go along as a table of the query, encoded by the loader's own encoder, so that the engine hashes both
sides by one expression over all columns. Reads only, and needs no right but SELECT. Digests are keyed with a random key
of each run: whoever changes rows cannot aim at equal ones.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt
import polars as pl
from clickhouse_driver import Client

from processors.coded import CodedRows
from sinks.clickhouse.client import execute, quoted
from sinks.clickhouse.errors import sorted_errors
from sinks.clickhouse.insert import send_block
from sinks.clickhouse.rows import lineage_rows

# Offsets that one digest stands for.
RANGE = 1 << 16
_SETTINGS: dict[str, Any] = {"max_execution_time": 0, "max_bytes_before_external_group_by": 1 << 30}
_BOTH_ONCE = "stored = 1 AND expected = 1 AND same"


class Digest(NamedTuple):
    """Of some rows: how many, and the sum of their hashes (128 bits)."""

    rows: int = 0
    sum: int = 0


class Uneven(NamedTuple):
    """An offset whose rows differ: how many the table has (`stored`), and the log (`expected`; 0 or 1)."""

    offset: int
    stored: int
    expected: int


class StoredRows:
    """One connection. Every method raises ClickHouseError."""

    def __init__(self, client: Client) -> None:
        self._client = client
        columns = execute(
            client,
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'lineage' "
            "AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') ORDER BY position",
        )
        self._types: dict[str, str] = dict(columns)
        key = ", ".join(f"toUInt64({secrets.randbits(64)})" for _ in range(2))
        # A tuple, because a hash of arguments of which one is null is null.
        values = ", ".join(map(quoted, self._types))
        self._hash = f"reinterpretAsUInt128(sipHash128Keyed(({key}), tuple({values})))"

    def digests(self, ends: Mapping[int, int], erased: Collection[bytes]) -> dict[tuple[int, int], Digest]:
        """Of each range of RANGE offsets (partition, number) that has rows in front of the partition's end, their
        digest, without the subjects `erased`. Reads the whole table once."""
        rows = self._ask(
            f"SELECT kafka_partition, intDiv(kafka_offset, {RANGE}) AS number, count(), sum({self._hash}) FROM lineage "
            "WHERE kafka_offset < transform(toUInt64(kafka_partition), %(partitions)s, %(ends)s, 0) "
            "AND subject NOT IN (SELECT subject FROM erased) GROUP BY kafka_partition, number",
            {"partitions": [*ends], "ends": [*ends.values()]},
            erased,
        )
        return {(partition, number): Digest(count, total) for partition, number, count, total in rows}

    def expected(self, parts: Sequence[tuple[str, CodedRows]], erased: Collection[bytes]) -> CodedRows | None:
        """The rows that records make (pairs of record type and records), without the subjects `erased`; None: none."""
        made = [lineage_rows(name, records.compact()) for name, records in parts if len(records)]
        rows = CodedRows.concat(made) if made else None
        if rows is not None and erased:
            each = np.ascontiguousarray(rows.rows["subject"]).view("V16").ravel().tolist()
            rows = rows.take(np.fromiter((subject not in erased for subject in each), np.bool_, len(each)))
        return rows if rows is not None and len(rows) else None

    def digest(self, rows: CodedRows | None) -> Digest:
        """The digest of expected rows."""
        if rows is None:
            return Digest()
        [(count, total)] = self._ask(f"SELECT count(), sum({self._hash}) FROM {self._made(rows)}", {}, None, rows)
        return Digest(count, total)

    def uneven(
        self, partition: int, number: int, end: int, rows: CodedRows | None, erased: Collection[bytes]
    ) -> list[Uneven]:
        """The offsets of a range, in front of `end`, where the table does not have just the expected row."""
        sides = [f"SELECT kafka_offset, {self._hash} AS hash, true AS is_stored FROM ({self._stored()})"]
        if rows is not None:
            sides.append(f"SELECT kafka_offset, {self._hash} AS hash, false AS is_stored FROM {self._made(rows)}")
        found = self._ask(
            "SELECT kafka_offset, countIf(is_stored) AS stored, countIf(NOT is_stored) AS expected, "
            f"min(hash) = max(hash) AS same FROM ({' UNION ALL '.join(sides)}) "
            f"GROUP BY kafka_offset HAVING NOT ({_BOTH_ONCE}) ORDER BY kafka_offset",
            _place(partition, number, end),
            erased,
            rows,
        )
        return [Uneven(offset, stored, expected) for offset, stored, expected, _ in found]

    def rows_at(self, partition: int, offsets: Sequence[int], erased: Collection[bytes]) -> list[dict[str, Any]]:
        """All columns of the rows at some offsets of one range, in their order."""
        sql = f"SELECT {self._names()} FROM ({self._stored()}) WHERE kafka_offset IN %(offsets)s ORDER BY kafka_offset"
        place = _place(partition, offsets[0] // RANGE, max(offsets) + 1)
        return self._dicts(self._ask(sql, place | {"offsets": [*offsets]}, erased))

    def expected_at(self, rows: CodedRows, offsets: Sequence[int]) -> list[dict[str, Any]]:
        """All columns of expected rows at some offsets, as the table would give them."""
        sql = f"SELECT {self._names()} FROM {self._made(rows)} WHERE kafka_offset IN %(offsets)s ORDER BY kafka_offset"
        return self._dicts(self._ask(sql, {"offsets": [*offsets]}, None, rows))

    def beyond(self, ends: Mapping[int, int], most: int) -> list[tuple[UUID, int, int]]:
        """Event, partition and offset of rows, `most` at most, that stand where the log has nothing: behind its ends,
        or in no partition of it."""
        return self._ask(
            "SELECT event_id, kafka_partition, kafka_offset FROM lineage "
            "WHERE kafka_offset >= transform(toUInt64(kafka_partition), %(partitions)s, %(ends)s, 0) "
            "ORDER BY kafka_partition, kafka_offset LIMIT %(most)s",
            {"partitions": [*ends], "ends": [*ends.values()], "most": most},
        )

    def of_subjects(self, subjects: Collection[bytes], most: int) -> list[tuple[UUID, int, int]]:
        """Event, partition and offset of rows of these subjects, `most` at most."""
        if not subjects:
            return []
        return self._ask(
            "SELECT event_id, kafka_partition, kafka_offset FROM lineage WHERE subject IN (SELECT subject FROM erased) "
            "ORDER BY kafka_partition, kafka_offset LIMIT %(most)s",
            {"most": most},
            subjects,
        )

    def _stored(self) -> str:
        return (
            f"SELECT {self._names()} FROM lineage WHERE kafka_partition = %(partition)s "
            "AND kafka_offset >= %(start)s AND kafka_offset < %(end)s AND subject NOT IN (SELECT subject FROM erased)"
        )

    def _names(self) -> str:
        return ", ".join(map(quoted, self._types))

    def _made(self, rows: CodedRows) -> str:
        """The expected rows with all columns of the table: those that they lack have its defaults, as when inserted."""
        values = [
            quoted(name) if name in rows.columns else f"defaultValueOfTypeName('{_text(type_)}') AS {quoted(name)}"
            for name, type_ in self._types.items()
        ]
        return f"(SELECT {', '.join(values)} FROM expected)"

    def _dicts(self, rows: list[Any]) -> list[dict[str, Any]]:
        return [dict(zip(self._types, row, strict=True)) for row in rows]

    def _ask(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        erased: Collection[bytes] | None = None,
        rows: CodedRows | None = None,
    ) -> list[Any]:
        """The answer of a query with its tables `erased` and `expected`, sent as blocks of arrays."""
        client = self._client
        with sorted_errors(), client.disconnect_on_error(sql, _SETTINGS):
            client.connection.send_query(client.substitute_params(sql, dict(parameters), client.connection.context))
            if erased is not None:
                send_block(client, _subjects(erased), [("subject", "UUID")], "erased")
            if rows is not None:
                columns = [(name, type_) for name, type_ in self._types.items() if name in rows.columns]
                send_block(client, rows, columns, "expected")
            client.connection.send_external_tables(None)
            answer: list[Any] = client.receive_result()
        return answer


def _subjects(subjects: Collection[bytes]) -> CodedRows:
    column: npt.NDArray[np.uint8] = np.frombuffer(b"".join(subjects), np.uint8).reshape(-1, 16)
    return CodedRows({"subject": column}, np.zeros(len(column), np.int32), pl.DataFrame())


def _place(partition: int, number: int, end: int) -> dict[str, Any]:
    return {"partition": partition, "start": number * RANGE, "end": min((number + 1) * RANGE, end)}


def _text(type_: str) -> str:
    return type_.replace("\\", "\\\\").replace("'", "\\'")
