"""Verification: every verdict in the table against the one that the second judge gives, knowing all facts of the log.

The log's records are the evidence: they hold each event and each consent as it came in. A person's records all lie in
one partition, so the log is verified partition by partition; what is kept of a partition is its people's facts and one
answer for each event. Never imports `processors`, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from audit.independent_judge import Answer, Reference, judge

# offset, subject, record type, fields
Record = tuple[int, bytes, str, Mapping[str, Any]]

PROGRESS_EVERY = 5_000


class Ledger(Protocol):
    """Erased subjects; `purged`: those of whom the controller has counted that no row was left."""

    @property
    def purged(self) -> Collection[bytes]: ...
    def __contains__(self, subject: bytes) -> bool: ...


class Log(Protocol):
    """The log up to its `ends` (partition → offset). Every iterator starts from the beginning of the partition."""

    ends: dict[int, int]

    def facts(self, partition: int) -> Iterable[Record]: ...
    def events(self, partition: int) -> Iterable[Record]: ...
    def erased(self) -> Ledger: ...
    def ends_now(self) -> dict[int, int]: ...


class Stored(Protocol):
    """One verdict in the table."""

    @property
    def subject(self) -> bytes: ...
    @property
    def event_id(self) -> bytes: ...
    @property
    def verdict(self) -> str: ...
    @property
    def clauses(self) -> tuple[str, ...]: ...
    @property
    def legal_basis(self) -> str: ...


class Table(Protocol):
    """The verdicts in the table; see `sinks.clickhouse.verdicts.StoredVerdicts`."""

    def that_count(self, partition: int, end: int) -> Iterable[Stored]: ...
    def beyond(self, ends: Mapping[int, int]) -> Iterable[Stored]: ...
    def of_subjects(self, subjects: Collection[bytes]) -> Iterable[Stored]: ...


class Difference(NamedTuple):
    """`reason`: verdict, clauses or legal_basis (the first that differs), missing_in_table, not_in_log, or
    survived_erasure."""

    event_id: UUID
    reason: str
    stored: Answer | None
    recomputed: Answer | None

    def as_json(self) -> dict[str, Any]:
        return {
            "event_id": str(self.event_id),
            "reason": self.reason,
            "stored": None if self.stored is None else self.stored._asdict(),
            "recomputed": None if self.recomputed is None else self.recomputed._asdict(),
        }


@dataclass
class Verification:
    """`checked`: how many events, of the log and of the table together, each once."""

    checked: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass
class _Person:
    consents: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    erased: list[Mapping[str, Any]] = field(default_factory=list)
    # The link to the person was dropped: the rows are gone, or about to go.
    leaves: bool = False


class _Recomputed(NamedTuple):
    """The answer for an event, by the record that counts of it."""

    revision: int
    offset: int
    answer: Answer


def verify(
    log: Log, table: Table, reference: Reference, progress: Callable[[int], None] = lambda _: None
) -> Verification:
    """Judges every event of the log anew and compares.

    `progress` is told now and then how many events have been judged. Raises what the log and the table raise.
    """
    found = Verification()
    # Before the table is asked: a row of these is a survivor, whatever is purged meanwhile.
    purged = log.erased().purged
    for stored in table.of_subjects(purged):
        found.differences.append(_survived(stored, found))
    judged = 0
    # Millions of events have some hundred different answers: each is kept once.
    same: dict[Answer, Answer] = {}
    for partition, end in log.ends.items():
        people = _people(log.facts(partition))
        answers: dict[bytes, _Recomputed] = {}
        for record in log.events(partition):
            _judge(record, people, reference, answers, same)
            judged += 1
            if judged % PROGRESS_EVERY == 0:
                progress(judged)
        found.checked += len(answers)
        for stored in table.that_count(partition, end):
            if stored.subject not in purged and not people.get(stored.subject, NOBODY).leaves:
                found.differences += _compared(stored, answers.pop(stored.subject + stored.event_id, None), found)
        if answers:
            found.differences += _missing(answers, log.erased())
    for stored in _beyond(log, table):
        if stored.subject not in purged:
            found.differences += _compared(stored, None, found)
    return found


def _beyond(log: Log, table: Table) -> Iterator[Stored]:
    """Verdicts that no record of the log stands for. The log goes on meanwhile: what was written and loaded while the
    table was asked is behind the log's end when it is asked once more."""
    suspects = {stored.subject + stored.event_id for stored in table.beyond(log.ends_now())}
    if suspects:
        for stored in table.beyond(log.ends_now()):
            if stored.subject + stored.event_id in suspects:
                yield stored


def _people(facts: Iterable[Record]) -> dict[bytes, _Person]:
    people: dict[bytes, _Person] = {}
    for _, subject, name, fields in facts:
        person = people.setdefault(subject, _Person())
        if name == "ConsentRecorded":
            # Facts with one id are one fact, and the first one is it.
            person.consents.setdefault(fields["event_id"], fields)
        elif fields["phase"] == "completed":
            # Without a request it is an erasure of the past, told to the subject that the person has since then.
            person.erased.append(fields)
            person.leaves |= fields["request_id"] != NO_REQUEST
    return people


NOBODY = _Person()
NO_REQUEST = bytes(16)


def _judge(
    record: Record,
    people: Mapping[bytes, _Person],
    reference: Reference,
    answers: dict[bytes, _Recomputed],
    same: dict[Answer, Answer],
) -> None:
    offset, subject, _, fields = record
    key = subject + fields["event_id"]
    known = answers.get(key)
    if known is not None and (known.revision, known.offset) > (fields["revision"], offset):
        return
    person = people.get(subject, NOBODY)
    if person.leaves:
        return
    answer = judge(fields, reference, person.consents.values(), person.erased)
    answers[key] = _Recomputed(fields["revision"], offset, same.setdefault(answer, answer))


def _compared(stored: Stored, recomputed: _Recomputed | None, found: Verification) -> Iterator[Difference]:
    event_id = UUID(bytes=stored.event_id)
    told = Answer(stored.verdict, stored.clauses, stored.legal_basis)
    if recomputed is None:
        found.checked += 1
        yield Difference(event_id, "not_in_log", told, None)
    elif recomputed.answer != told:
        pairs = zip(Answer._fields, told, recomputed.answer, strict=True)
        reason = next(name for name, one, other in pairs if one != other)
        yield Difference(event_id, reason, told, recomputed.answer)


def _survived(stored: Stored, found: Verification) -> Difference:
    found.checked += 1
    told = Answer(stored.verdict, stored.clauses, stored.legal_basis)
    return Difference(UUID(bytes=stored.event_id), "survived_erasure", told, None)


def _missing(answers: Mapping[bytes, _Recomputed], erased: Ledger) -> Iterator[Difference]:
    """What nothing in the table answered to. Whoever was erased behind the end of the log as it was read may have been
    purged by now; their rows are gone rightly."""
    for key, recomputed in answers.items():
        subject, event_id = key[:16], key[16:]
        if subject not in erased:
            yield Difference(UUID(bytes=event_id), "missing_in_table", None, recomputed.answer)
