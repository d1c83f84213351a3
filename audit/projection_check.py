"""Tables that are projected from compacted topics (`subjects`, `erasure_requests`) against these topics, row by row:
what was changed, added or removed, and what came back after an erasure. Changes nothing.

Of each key the newest record counts, and the row of the highest version. What is on its way is no difference.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

# Differences that are named; beyond them they are counted.
NAMED = 10_000
# A link that was told late is deleted some seconds after the erasure of its alias was told.
SETTLE_SECONDS = 20.0
PAUSE_SECONDS = 1.0

Stored = tuple[int, Mapping[str, Any]]


class Topic(Protocol):
    """A compacted topic up to its `ends`; `projected`: up to where its job said it was, before these were asked."""

    topic: str
    ends: dict[int, int]
    projected: dict[int, int]

    def projected_now(self) -> dict[int, int]: ...
    def newest(self, partition: int) -> tuple[list[bytes], npt.NDArray[np.int64]]: ...
    def rows(
        self, partition: int, newest: npt.NDArray[np.int64]
    ) -> Iterable[list[tuple[bytes, int, Mapping[str, Any] | None]]]: ...
    def written_since(self, partition: int) -> set[bytes]: ...


class Table(Protocol):
    """The table of that topic; see sinks/clickhouse/projected_rows.py."""

    table: str
    key: str

    def at(self, keys: Sequence[bytes]) -> Mapping[bytes, Sequence[Stored]]: ...
    def unknown(self, keys: Sequence[bytes], partition: int, partitions: int, most: int) -> list[tuple[bytes, int]]: ...
    def of_subjects(self, subjects: Collection[bytes], most: int) -> list[tuple[bytes, int]]: ...


class ProjectionDifference(NamedTuple):
    """`kind`: changed, added, removed, survived or unreadable (docs/verify.md). `key`: 16 bytes. `version`: of the row,
    else the record's offset. `columns`: name → (in the table, in the topic), of those that differ."""

    kind: str
    key: bytes
    version: int
    columns: Mapping[str, tuple[Any, Any]] = {}


@dataclass
class ProjectionCheck:
    """`key`: name of the table's key. `checked`: keys of the topic that were compared with the table. `waiting`: not
    projected yet."""

    table: str
    topic: str
    key: str
    checked: int = 0
    waiting: int = 0
    different: Counter[str] = field(default_factory=Counter)
    differences: list[ProjectionDifference] = field(default_factory=list)

    def add(self, difference: ProjectionDifference) -> None:
        self.different[difference.kind] += 1
        if len(self.differences) < NAMED:
            self.differences.append(difference)


def check_projection(
    topic: Topic,
    table: Table,
    purged: Collection[bytes] = frozenset(),
    progress: Callable[[int], None] = lambda _: None,
) -> ProjectionCheck:
    """Every key of the topic against its row, and every row against its record. `purged`: subjects of whom no row may
    be there, known before the topic's ends were. Raises what topic and table raise."""
    found = ProjectionCheck(table.table, topic.topic, table.key)
    for partition in sorted(topic.ends):
        suspects = []
        keys, newest = topic.newest(partition)
        for records in topic.rows(partition, newest):
            stored = table.at([key for key, _, _ in records])
            found.checked += len(records)
            for key, offset, row in records:
                difference = _compare(key, offset, row, stored.get(key, ()))
                if difference is not None and offset >= topic.projected.get(partition, 0) and _is_behind(difference):
                    found.waiting += 1
                elif difference is not None:
                    suspects.append(difference)
            progress(found.checked)
        unknown = table.unknown(keys, partition, len(topic.ends), NAMED)
        suspects += [ProjectionDifference("added", key, version) for key, version in unknown]
        if suspects:
            # What was written and projected while we looked is for the next time.
            since = topic.written_since(partition)
            found.waiting += sum(one.key in since for one in suspects)
            for one in suspects:
                if one.key not in since:
                    found.add(one)
    for key, version in _survivors(topic, table, purged):
        found.add(ProjectionDifference("survived", key, version))
    return found


def _compare(
    key: bytes, offset: int, row: Mapping[str, Any] | None, stored: Sequence[Stored]
) -> ProjectionDifference | None:
    if row is None:
        return ProjectionDifference("unreadable", key, offset)
    if not stored:
        return ProjectionDifference("removed", key, offset)
    others = [one for one in stored if one[0] != offset or any(one[1].get(name) != row[name] for name in row)]
    if not others:
        return None
    version, instead = others[0]
    columns = {name: (instead.get(name), row[name]) for name in row if instead.get(name) != row[name]}
    if version != offset:
        columns["version"] = (version, offset)
    return ProjectionDifference("added" if len(others) < len(stored) else "changed", key, version, columns)


def _is_behind(difference: ProjectionDifference) -> bool:
    """Whether it is as if the record had not been projected: no row, or an older one."""
    stored, told = difference.columns.get("version", (0, 0))
    return difference.kind == "removed" or (difference.kind == "changed" and stored < told)


def _survivors(topic: Topic, table: Table, purged: Collection[bytes]) -> list[tuple[bytes, int]]:
    """Rows about subjects that are purged. A link that is projected late is there until the erasure of its alias is
    projected as well, and for some seconds more: such ones are asked for again."""
    deadline = time.monotonic() + SETTLE_SECONDS
    suspects = table.of_subjects(purged, NAMED)
    while suspects:
        projected = topic.projected_now()
        if any(projected.get(partition, 0) < end for partition, end in topic.ends.items()):
            deadline = time.monotonic() + SETTLE_SECONDS
        elif time.monotonic() > deadline:
            break
        time.sleep(PAUSE_SECONDS)
        again = set(table.of_subjects(purged, NAMED))
        suspects = [one for one in suspects if one in again]
    return suspects
