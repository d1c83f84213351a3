"""Verification over a log and a table made up here: which record counts, whose facts, and what is no difference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

from audit.independent_judge import Answer, Reference
from audit.verify import Record, Verification, verify
from sinks.clickhouse.verdicts import StoredVerdict

DAY = 86_400_000
ANN, BOB = b"a" * 16, b"b" * 16
LAWFUL, NOT_ACCEPTED = Answer("lawful", ("2.1",), "policy_acceptance"), Answer("violation", ("7",), "none")
SUPPRESSED = Answer("violation", ("5",), "none")
POLICY: dict[str, Any] = {
    "version": 1,
    "effective_at": 0,
    "purposes": {"service": {"clause": "2.1", "basis": "policy_acceptance", "needs": ["*"], "retention_days": None}},
    "categories": ["user"],
    "events": {},
    "fields": {},
    "residency": {},
    "retention": {},
}


def event(number: int, day: int, revision: int = 0) -> dict[str, Any]:
    return {
        "event_id": bytes([number]) * 16,
        "occurred_at": day * DAY,
        "event_type": "view",
        "purpose": "service",
        "categories": ["user.device"],
        "fields": [],
        "region": None,
        "storage_country": None,
        "revision": revision,
    }


def accept(number: int, day: int) -> dict[str, Any]:
    return {"event_id": bytes([number]) * 16, "occurred_at": day * DAY, "action": "accept", "version": 1}


class Ledger(dict[bytes, bool]):
    """Erased subject → whether it was purged."""

    @property
    def purged(self) -> frozenset[bytes]:
        return frozenset(subject for subject, purged in self.items() if purged)


class LogHere:
    """Records by partition, in order of their offsets."""

    def __init__(self, *partitions: list[tuple[bytes, str, dict[str, Any]]]) -> None:
        self._records = {
            partition: [(offset, *record) for offset, record in enumerate(records)]
            for partition, records in enumerate(partitions)
        }
        self.ends = {partition: len(records) for partition, records in self._records.items()}
        # What the ledger says whenever it is asked; the last one stays.
        self.ledgers = [Ledger({})]

    def facts(self, partition: int) -> Iterator[Record]:
        return (one for one in self._records[partition] if one[2] in ("ConsentRecorded", "ErasureRecorded"))

    def events(self, partition: int) -> Iterator[Record]:
        return (one for one in self._records[partition] if one[2] == "CollectionRecorded")

    def erased(self) -> Ledger:
        return self.ledgers.pop(0) if len(self.ledgers) > 1 else self.ledgers[0]

    def ends_now(self) -> dict[int, int]:
        return self.ends


class TableHere:
    """Verdicts by partition; `late`: what each further look behind the log's ends finds."""

    def __init__(self, *partitions: list[StoredVerdict], late: tuple[list[StoredVerdict], ...] = ()) -> None:
        self._partitions = partitions
        self._late = [*late]

    def that_count(self, partition: int, end: int) -> list[StoredVerdict]:
        return self._partitions[partition]

    def beyond(self, ends: Mapping[int, int]) -> list[StoredVerdict]:
        return self._late.pop(0) if self._late else []

    def of_subjects(self, subjects: Collection[bytes]) -> list[StoredVerdict]:
        return [row for rows in self._partitions for row in rows if row.subject in subjects]


def row(subject: bytes, number: int, answer: Answer) -> StoredVerdict:
    return StoredVerdict(subject, bytes([number]) * 16, *answer)


def checked(log: LogHere, table: TableHere) -> Verification:
    return verify(log, table, Reference([POLICY], []))


def told(found: Verification) -> list[tuple[int, str]]:
    return [(one.event_id.bytes[0], one.reason) for one in found.differences]


def test_facts_count_wherever_they_stand_in_the_log_and_for_their_person_only() -> None:
    log = LogHere(
        [
            (ANN, "CollectionRecorded", event(1, day=5)),
            (BOB, "CollectionRecorded", event(2, day=5)),
            (ANN, "ConsentRecorded", accept(9, day=4)),
        ]
    )
    found = checked(log, TableHere([row(ANN, 1, LAWFUL), row(BOB, 2, NOT_ACCEPTED)]))
    assert (found.checked, found.differences) == (2, [])


def test_a_verdict_that_a_late_fact_has_overtaken_is_a_difference() -> None:
    log = LogHere([(ANN, "CollectionRecorded", event(1, day=5)), (ANN, "ConsentRecorded", accept(9, day=4))])
    found = checked(log, TableHere([row(ANN, 1, NOT_ACCEPTED)]))
    [difference] = found.differences
    assert difference == (UUID(bytes=b"\x01" * 16), "verdict", NOT_ACCEPTED, LAWFUL)


def test_an_event_is_checked_once_however_often_it_is_recorded() -> None:
    again = [event(1, day=5), event(1, day=5, revision=7), event(1, day=5)]
    log = LogHere([(ANN, "CollectionRecorded", one) for one in again])
    found = checked(log, TableHere([row(ANN, 1, NOT_ACCEPTED)]))
    assert (found.checked, found.differences) == (1, [])


def test_of_records_that_differ_the_highest_revision_counts_and_then_the_last() -> None:
    lawful_day, other_day = 5, 3
    log = LogHere(
        [
            (ANN, "ConsentRecorded", accept(9, day=4)),
            (ANN, "CollectionRecorded", event(1, lawful_day, revision=2)),
            (ANN, "CollectionRecorded", event(1, other_day, revision=1)),
            (ANN, "CollectionRecorded", event(2, other_day)),
            (ANN, "CollectionRecorded", event(2, lawful_day)),
        ]
    )
    assert told(checked(log, TableHere([row(ANN, 1, LAWFUL), row(ANN, 2, LAWFUL)]))) == []


def test_of_consents_with_one_id_the_first_counts() -> None:
    log = LogHere(
        [
            (ANN, "ConsentRecorded", accept(9, day=6)),
            (ANN, "ConsentRecorded", accept(9, day=4)),
            (ANN, "CollectionRecorded", event(1, day=5)),
        ]
    )
    assert told(checked(log, TableHere([row(ANN, 1, NOT_ACCEPTED)]))) == []


def test_what_only_one_side_has_is_named() -> None:
    log = LogHere([(ANN, "CollectionRecorded", event(1, day=5))], [])
    found = checked(log, TableHere([], [row(BOB, 2, LAWFUL)]))
    assert told(found) == [(1, "missing_in_table"), (2, "not_in_log")]
    assert found.checked == 2


def test_a_row_of_another_subject_is_not_the_events() -> None:
    log = LogHere([(ANN, "CollectionRecorded", event(1, day=5))])
    assert told(checked(log, TableHere([row(BOB, 1, NOT_ACCEPTED)]))) == [(1, "not_in_log"), (1, "missing_in_table")]


def test_what_is_loaded_meanwhile_is_no_difference_but_what_stays_behind_the_end_is() -> None:
    forged, new = row(ANN, 1, LAWFUL), row(ANN, 2, LAWFUL)
    found = checked(LogHere([]), TableHere([], late=([forged, new], [forged])))
    assert told(found) == [(1, "not_in_log")]


def erased(day: int, phase: str = "completed", request: int = 7) -> dict[str, Any]:
    return {"event_id": b"\x08" * 16, "occurred_at": day * DAY, "phase": phase, "request_id": bytes([request]) * 16}


def test_rows_of_an_erased_person_may_be_gone() -> None:
    records = [(ANN, "CollectionRecorded", event(1, day=5)), (BOB, "CollectionRecorded", event(2, day=5))]
    log = LogHere(
        [*records, (ANN, "ErasureRecorded", erased(6)), (BOB, "ErasureRecorded", erased(6, phase="requested"))]
    )
    log.ledgers = [Ledger({ANN: True})]
    assert told(checked(log, TableHere([]))) == [(2, "missing_in_table")]


def test_rows_of_an_erased_person_may_be_there_until_the_purge_is_done_and_are_survivors_then() -> None:
    # Judged before the erasure was known, though later than it: nobody judges it again.
    records = [(ANN, "CollectionRecorded", event(1, day=7)), (ANN, "ErasureRecorded", erased(6))]
    rows = [row(ANN, 1, NOT_ACCEPTED)]
    log = LogHere(records)
    log.ledgers = [Ledger({ANN: False})]
    assert told(checked(log, TableHere(rows))) == []
    log.ledgers = [Ledger({ANN: True})]
    found = checked(log, TableHere(rows))
    assert found.differences == [(UUID(bytes=b"\x01" * 16), "survived_erasure", NOT_ACCEPTED, None)]
    assert found.checked == 1


def test_whoever_is_erased_and_purged_while_we_look_misses_nothing() -> None:
    log = LogHere([(ANN, "CollectionRecorded", event(1, day=5)), (BOB, "CollectionRecorded", event(2, day=5))])
    log.ledgers = [Ledger({}), Ledger({ANN: True})]
    assert told(checked(log, TableHere([]))) == [(2, "missing_in_table")]


def test_whoever_is_linked_anew_after_an_erasure_is_suppressed() -> None:
    log = LogHere([(ANN, "ErasureRecorded", erased(4, request=0)), (ANN, "CollectionRecorded", event(1, day=5))])
    assert told(checked(log, TableHere([row(ANN, 1, SUPPRESSED)]))) == []
    assert told(checked(log, TableHere([]))) == [(1, "missing_in_table")]
