"""The table `lineage` against the log, row by row, in all columns: what was changed, added or removed.

Ranges of offsets are compared by digests, and looked at row by row only where these differ. Rows of a person whose
erasure the log tells of, and a certificate confirms, are rightly gone. Changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from processors.coded import CodedRows
from processors.erasure_certificate import verify
from sinks.clickhouse.stored_rows import RANGE, Digest, StoredRows, Uneven

# Differences that are named; beyond them they are counted.
NAMED = 10_000
PROGRESS_EVERY = 100_000


class Ledger(Protocol):
    """Subjects that are erased."""

    def __contains__(self, subject: bytes) -> bool: ...


class Log(Protocol):
    """The log up to its `ends`; `loaded`: up to where its loader said it was. `erased`, `purged`: subjects that the
    ledger names, read before `ends`."""

    ends: dict[int, int]
    loaded: dict[int, int]
    erased: frozenset[bytes]
    purged: frozenset[bytes]

    def ends_now(self) -> dict[int, int]: ...
    def erased_now(self) -> Ledger: ...
    def certificates(self) -> Iterable[tuple[UUID, str]]: ...
    def decoded(
        self, partition: int, size: int
    ) -> Iterable[tuple[int, list[tuple[str, CodedRows]], Mapping[int, Exception]]]: ...


class RowDifference(NamedTuple):
    """`kind`: changed, added, removed, survived (docs/verify.md) or unreadable. `columns`: name → (in the table, in
    the log), of those that differ."""

    kind: str
    event_id: UUID | None
    partition: int
    offset: int
    columns: Mapping[str, tuple[Any, Any]] = {}


@dataclass
class RowCheck:
    """`checked`: records of the log that were compared with the table. `erased`: records whose rows are rightly gone,
    or about to go. `waiting`: not loaded yet. `uncertified`: subjects that are said to be erased, without evidence.
    `purged`: subjects of whom, by all evidence, nothing may be left."""

    checked: int = 0
    erased: int = 0
    waiting: int = 0
    uncertified: int = 0
    purged: frozenset[bytes] = frozenset()
    different: Counter[str] = field(default_factory=Counter)
    differences: list[RowDifference] = field(default_factory=list)

    def add(self, difference: RowDifference) -> None:
        self.different[difference.kind] += 1
        if len(self.differences) < NAMED:
            self.differences.append(difference)


def lawfully_erased(log: Log, markers: Mapping[bytes, Collection[UUID]]) -> frozenset[bytes]:
    """Subjects whose rows may be gone: the ledger names them, the log has the marker that their erasure is complete,
    and where the ledger says that they are purged, a certificate of that request is there and holds."""
    told = {subject for subject in log.erased if subject in markers}
    purged = told & log.purged
    if not purged:
        return frozenset(told)
    asked = {request for subject in purged for request in markers[subject]}
    certified = {request for request, text in log.certificates() if request in asked and _certifies(text, request)}
    return frozenset(subject for subject in told if subject not in purged or not certified.isdisjoint(markers[subject]))


def _certifies(text: str, request: UUID) -> bool:
    verified = verify(text)
    return verified.valid and verified.request_id == str(request)


def check_rows(
    log: Log,
    table: StoredRows,
    markers: Mapping[bytes, Collection[UUID]],
    sealed_to: Mapping[int, int],
    progress: Callable[[int], None] = lambda _: None,
) -> RowCheck:
    """Every record of the log against its row, and every row against its record. `markers`: completed erasures in the
    log, subject → requests; `sealed_to`: up to where seals say that the log was loaded. Raises what log and table
    raise."""
    found = RowCheck()
    erased = lawfully_erased(log, markers)
    found.uncertified = len(log.erased) - len(erased)
    found.purged = erased & log.purged
    digests = table.digests(log.ends, erased)
    for partition, end in sorted(log.ends.items()):
        # A seal is evidence that its records were loaded, whatever the group's offsets say today.
        loaded = min(end, max(log.loaded.get(partition, 0), sealed_to.get(partition, 0)))
        look = _Look(table, partition, end, loaded, erased, log, found)
        for number, parts, unreadable in log.decoded(partition, RANGE):
            for offset in unreadable:
                found.add(RowDifference("unreadable", None, partition, offset))
            look.compare(number, parts, digests.pop((partition, number), Digest()))
            progress(found.checked)
        # Ranges of which the log has nothing at all.
        for _, number in sorted(place for place in digests if place[0] == partition):
            look.compare(number, [], digests.pop((partition, number)))
    for event_id, partition, offset in _beyond(log, table):
        found.add(RowDifference("added", event_id, partition, offset))
    for event_id, partition, offset in table.of_subjects(found.purged, NAMED):
        found.add(RowDifference("survived", event_id, partition, offset))
    return found


def _beyond(log: Log, table: StoredRows) -> Iterator[tuple[UUID, int, int]]:
    """Rows that no record stands for. The log goes on meanwhile: what was written and loaded while the table was asked
    is behind the log's end when it is asked once more."""
    suspects = table.beyond(log.ends_now(), NAMED)
    if suspects:
        again = set(table.beyond(log.ends_now(), NAMED))
        yield from (row for row in suspects if row in again)


class _Look:
    """Comparing one partition."""

    def __init__(
        self,
        table: StoredRows,
        partition: int,
        end: int,
        loaded: int,
        erased: frozenset[bytes],
        log: Log,
        found: RowCheck,
    ) -> None:
        self._table, self._partition, self._end, self._loaded = table, partition, end, loaded
        self._erased, self._log, self._found = erased, log, found

    def compare(self, number: int, parts: Sequence[tuple[str, CodedRows]], stored: Digest) -> None:
        """One range of offsets."""
        total = sum(len(records) for _, records in parts)
        rows = self._table.expected(parts, self._erased)
        n = 0 if rows is None else len(rows)
        self._found.checked += n
        self._found.erased += total - n
        if self._table.digest(rows) == stored:
            return
        uneven = self._table.uneven(self._partition, number, self._end, rows, self._erased)
        removed = self._absent(uneven, rows)
        named = [one for one in uneven if one.stored or one.offset in removed]
        room = max(0, NAMED - len(self._found.differences))
        for one, difference in zip(named, self._differences(named[:room], rows), strict=False):
            assert one.offset == difference.offset
            self._found.add(difference)
        for one in named[room:]:
            self._found.different[_kind(one)] += 1

    def _absent(self, uneven: Sequence[Uneven], rows: CodedRows | None) -> set[int]:
        """The offsets whose rows should be in the table and are not."""
        missing = {one.offset for one in uneven if not one.stored}
        if rows is None or not missing:
            return set()
        absent = {offset for offset in missing if offset < self._loaded}
        self._found.waiting += len(missing) - len(absent)
        self._found.checked -= len(missing) - len(absent)
        if absent:
            # Whoever was erased while we looked may have been purged by now. The next run asks for the evidence.
            places = zip(rows.rows["kafka_offset"].tolist(), map(bytes, rows.rows["subject"]), strict=True)
            now = self._log.erased_now()
            gone = {offset for offset, subject in places if offset in absent and self._is_new(subject, now)}
            self._found.erased += len(gone)
            self._found.checked -= len(gone)
            absent -= gone
        return absent

    def _is_new(self, subject: bytes, now: Ledger) -> bool:
        return subject in now and subject not in self._log.erased

    def _differences(self, uneven: Sequence[Uneven], rows: CodedRows | None) -> Iterator[RowDifference]:
        """A difference for each of these offsets, in their order."""
        offsets = [one.offset for one in uneven]
        if not offsets:
            return
        expected = {} if rows is None else {row["kafka_offset"]: row for row in self._table.expected_at(rows, offsets)}
        stored: dict[int, list[dict[str, Any]]] = {}
        for row in self._table.rows_at(self._partition, offsets, self._erased):
            stored.setdefault(row["kafka_offset"], []).append(row)
        for one in uneven:
            told = expected.get(one.offset)
            # Of several rows of one record, one that differs says most.
            others = [row for row in stored.get(one.offset, []) if row != told]
            instead: Mapping[str, Any] | None = others[0] if others else told
            # What was changed is named as the log has it, what was added as it stands there.
            shown = instead if _kind(one) == "added" else told
            event_id = None if shown is None else shown["event_id"]
            columns = {}
            if told is not None and instead is not None:
                columns = {name: (instead[name], told[name]) for name in told if instead[name] != told[name]}
            yield RowDifference(_kind(one), event_id, self._partition, one.offset, columns)


def _kind(one: Uneven) -> str:
    if not one.stored:
        return "removed"
    return "changed" if one.stored == 1 and one.expected else "added"
