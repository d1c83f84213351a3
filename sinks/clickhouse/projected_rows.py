"""The rows of a table that is projected from a compacted topic, as they stand, for verification.

Of each key the rows of the highest version count, as for everybody who asks such a table; what they have overtaken is
seen by nobody. Reads only, and needs no right but SELECT.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table, quoted

_SETTINGS: dict[str, Any] = {"max_execution_time": 0, "max_bytes_before_external_group_by": 1 << 30}
# When a row was written says nothing of what it says.
_NOT_COMPARED = ("version", "updated_at")


@dataclass(frozen=True)
class Place:
    """A table and its key. type: of the key, 16 bytes. subject: the column that a purge goes by."""

    table: str
    key: str
    type: str
    subject: str | None = None


SUBJECTS = Place("subjects", "alias", "FixedString(16)", "subject")
ERASURE_REQUESTS = Place("erasure_requests", "request_id", "UUID")


class ProjectedRows:
    """One connection. Every method raises ClickHouseError."""

    def __init__(self, client: Client, place: Place) -> None:
        self._client, self._place = client, place
        self.table, self.key = place.table, place.key
        names = execute(
            client,
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = %(table)s "
            "AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') ORDER BY position",
            {"table": place.table},
        )
        self._names = [name for (name,) in names if name not in (*_NOT_COMPARED, place.key)]

    def at(self, keys: Sequence[bytes]) -> dict[bytes, list[tuple[int, dict[str, Any]]]]:
        """Key → version and row of those of the highest version: one, or several where somebody put them beside it."""
        table, key = self.table, self.key
        # Equal ones are one: a projection may write a record twice.
        rows = self._ask(
            f"SELECT DISTINCT hex({quoted(key)}), version, {', '.join(map(quoted, self._names))} FROM {quoted(table)} "
            f"WHERE ({quoted(key)}, version) IN (SELECT {quoted(key)}, max(version) FROM {quoted(table)} "
            f"WHERE {quoted(key)} IN (SELECT key FROM asked) GROUP BY {quoted(key)}) "
            f"AND {quoted(key)} IN (SELECT key FROM asked)",
            keys,
        )
        found: dict[bytes, list[tuple[int, dict[str, Any]]]] = {}
        for hexadecimal, version, *values in rows:
            row = dict(zip(self._names, values, strict=True))
            found.setdefault(bytes.fromhex(hexadecimal), []).append((version, row))
        return found

    def unknown(self, keys: Sequence[bytes], partition: int, partitions: int, most: int) -> list[tuple[bytes, int]]:
        """Key and highest version of rows that belong to a partition of the topic and have none of its keys."""
        table, key = self.table, self.key
        rows = self._ask(
            # As Kafka's own clients place a key, and ours.
            f"SELECT hex({quoted(key)}), max(version) FROM {quoted(table)} "
            f"WHERE kafkaMurmurHash({quoted(key)}) %% %(partitions)s = %(partition)s "
            f"AND {quoted(key)} NOT IN (SELECT key FROM asked) "
            f"GROUP BY {quoted(key)} ORDER BY {quoted(key)} LIMIT %(most)s",
            keys,
            {"partition": partition, "partitions": partitions, "most": most},
        )
        return [(bytes.fromhex(hexadecimal), version) for hexadecimal, version in rows]

    def of_subjects(self, subjects: Collection[bytes], most: int) -> list[tuple[bytes, int]]:
        """Key and version of rows about these subjects, overtaken ones too."""
        if self._place.subject is None or not subjects:
            return []
        rows = execute(
            self._client,
            f"SELECT DISTINCT hex({quoted(self.key)}), version FROM {quoted(self.table)} "
            f"WHERE {quoted(self._place.subject)} IN (SELECT subject FROM erased) ORDER BY 1, 2 LIMIT %(most)s",
            {"most": most},
            [external_table("erased", {"subject": "UUID"}, [(UUID(bytes=subject),) for subject in subjects])],
            **_SETTINGS,
        )
        return [(bytes.fromhex(hexadecimal), version) for hexadecimal, version in rows]

    def _ask(self, sql: str, keys: Sequence[bytes], parameters: Mapping[str, Any] | None = None) -> list[Any]:
        values: list[Any] = [UUID(bytes=key) for key in keys] if self._place.type == "UUID" else [*keys]
        asked = external_table("asked", {"key": self._place.type}, [(value,) for value in values])
        return execute(self._client, sql, {**(parameters or {})}, [asked], **_SETTINGS)
