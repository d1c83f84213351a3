"""Erasures in the tagger without Kafka: fence, dropped link, suppression, and a person who comes back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from processors.knowledge import Knowledge, Policy, Purpose
from processors.partitioning import partition_of
from streams.contracts import contract
from streams.serdes import Deserializer, SchemaBook, Serializer, decode_body
from streams.tagging import Tagged, Tagging
from streams.topics import CONSENT, ERASURE_REQUESTS, TELEMETRY

NOW = 1_780_000_000_000
DAY = 86_400_000
ANN, BOB = b"a" * 16, b"b" * 16
ONE, TWO = UUID(int=1), UUID(int=2)
KNOWLEDGE = Knowledge([Policy(1, 0, {"service": Purpose("2.1", "policy_acceptance", ("*",))}, ("*",))], [])


class Message:
    """As much of a Kafka message as tagging and dead letters look at."""

    def __init__(self, topic: str, key: bytes | None, value: bytes, partition: int = 0) -> None:
        self._given = topic, key, value, partition

    def topic(self) -> str:
        return self._given[0]

    def key(self) -> bytes | None:
        return self._given[1]

    def value(self) -> bytes:
        return self._given[2]

    def partition(self) -> int:
        return self._given[3]


Record = tuple[bytes, str, dict[str, Any]]


class Worker:
    """A tagger's mind, and what it has written."""

    def __init__(self, changelog: dict[bytes, bytes] | None = None, partitions: int = 1) -> None:
        self.tagging = Tagging(SchemaBook(), KNOWLEDGE, partitions)
        self.changelog = dict(changelog or {})
        self.tagging.subjects.restore(0, self.changelog.items())
        self.ledger: dict[bytes, int] = {}
        self.tagged = Tagged()

    def tag(self, topic: str, *messages: Message) -> list[Record]:
        """Subject, type and fields of what it gives."""
        self.tagged = Tagged()
        self.tagging.tag(topic, list(messages), NOW, self.tagged)
        self.changelog |= {alias: body for _, alias, body in self.tagging.subjects.take_changes()}
        for subject, value in self.tagged.erased:
            name, record = Deserializer().decode(value)
            assert (name, record["purged_at"]) == ("SubjectErased", None)
            self.ledger[subject] = record["erased_at"]
        decoded = [Deserializer().decode(value) for value in self.tagged.values]
        return [(subject, *one) for subject, one in zip(self.tagged.keys, decoded, strict=True)]

    def collect(self, alias: bytes, day: int) -> list[Record]:
        record = {"event_id": bytes([day]) * 16, "occurred_at": NOW + day * DAY, "event_type": "view"}
        rest = {"purpose": "service", "categories": ["user.device"], "fields": [], "source": "test"}
        value = Serializer("TelemetryCollected").encode({**record, **rest, "region": None, "storage_country": None})
        return self.tag(TELEMETRY, Message(TELEMETRY, alias, value))

    def accept(self, alias: bytes, day: int) -> list[Record]:
        record = {"event_id": bytes([100 + day]) * 16, "occurred_at": NOW + day * DAY, "action": "accept", "version": 1}
        return self.tag(CONSENT, Message(CONSENT, alias, Serializer("ConsentChanged").encode(record)))

    def step(self, alias: bytes, step: str, day: int, request: UUID = ONE) -> list[Record]:
        return self.tag(ERASURE_REQUESTS, a_step(alias, step, day, request))

    def state(self, alias: bytes) -> dict[str, Any]:
        return decode_body(contract("SubjectState"), self.changelog[alias])


def a_step(alias: bytes | None, step: str, day: int, request: UUID = ONE, partition: int = 0) -> Message:
    record = {"request_id": request.bytes, "occurred_at": NOW + day * DAY, "step": step}
    return Message(ERASURE_REQUESTS, alias, Serializer("ErasureRequested").encode(record), partition)


def judged(records: list[Record]) -> list[tuple[str, list[str]]]:
    return [(r["verdict"], r["clauses"]) for _, name, r in records if name == "CollectionRecorded"]


def known(worker: Worker, restarted: bool) -> Worker:
    """The same worker, or another that has nothing but the changelog."""
    return Worker(worker.changelog) if restarted else worker


@pytest.mark.parametrize("restarted", [False, True])
def test_a_person_is_erased_comes_back_suppressed_and_consents_anew(restarted: bool) -> None:
    worker = Worker()
    worker.accept(ANN, 1)
    [(old, _, first)] = worker.collect(ANN, 2)
    assert first["verdict"] == "lawful"
    [(subject, name, fence)] = worker.step(ANN, "verified", 3)
    assert (subject, name) == (old, "ErasureRecorded")
    assert (fence["phase"], fence["request_id"], fence["occurred_at"]) == ("requested", ONE.bytes, NOW + 3 * DAY)
    assert (fence["revision"], fence["judged_at"]) == (0, NOW)

    worker = known(worker, restarted)
    [(subject, name, marker)] = worker.step(ANN, "erased", 4)
    assert (subject, name) == (old, "ErasureRecorded")
    assert (marker["phase"], marker["request_id"], marker["occurred_at"]) == ("completed", ONE.bytes, NOW + 4 * DAY)
    assert marker["event_id"] != fence["event_id"]
    assert worker.ledger == {old: NOW + 4 * DAY}
    assert worker.tagged.unlawful == []
    # All that is left of the person: that there was an erasure, and when.
    assert worker.state(ANN) == {"subject": None, "erased": [NOW + 4 * DAY], "facts": []}
    assert len(worker.changelog[ANN]) < 16

    worker = known(worker, restarted)
    earlier, event = worker.collect(ANN, 5)
    assert earlier[0] == event[0] != old
    assert earlier[1] == "ErasureRecorded"
    told = earlier[2]
    assert (told["phase"], told["request_id"], told["occurred_at"]) == ("completed", bytes(16), NOW + 4 * DAY)
    assert judged([event]) == [("violation", ["5"])]
    assert worker.tagged.unlawful == [1]
    new = event[0]

    worker = known(worker, restarted)
    assert [(s, n) for s, n, _ in worker.accept(ANN, 6)] == [(new, "ConsentRecorded")]
    assert judged(worker.collect(ANN, 5)) == [("violation", ["5"])]
    assert judged(worker.collect(ANN, 7)) == [("lawful", ["2.1"])]
    # What the old subject consented to is forgotten.
    assert judged(worker.collect(ANN, 2)) == [("violation", ["7"])]


def test_a_step_that_is_told_again_changes_nothing() -> None:
    worker = Worker()
    [(old, _, _)] = worker.collect(ANN, 1)
    fences = [worker.step(ANN, "verified", 2)[0] for _ in range(2)]
    assert fences[0] == fences[1]
    worker.step(ANN, "erased", 3)
    left = worker.changelog[ANN]
    # Of the erasure, and of the request that it answered.
    assert worker.step(ANN, "erased", 3) == worker.step(ANN, "erased", 4) == worker.step(ANN, "verified", 2) == []
    assert worker.changelog[ANN] == left
    # Nor when the person is known again.
    new = worker.collect(ANN, 5)[-1][0]
    assert worker.step(ANN, "erased", 3) == []
    assert worker.state(ANN)["subject"] == new
    assert worker.ledger.keys() <= {old}


def test_whoever_asks_again_after_an_erasure_gets_a_fence_of_their_own() -> None:
    worker = Worker()
    worker.collect(ANN, 1)
    worker.step(ANN, "erased", 2)
    earlier, fence = worker.step(ANN, "verified", 3, TWO)
    assert [r["phase"] for _, _, r in (earlier, fence)] == ["completed", "requested"]
    assert fence[2]["request_id"] == TWO.bytes
    [(subject, _, marker)] = worker.step(ANN, "erased", 4, TWO)
    assert subject == fence[0]
    assert marker["request_id"] == TWO.bytes
    assert worker.state(ANN)["erased"] == [NOW + 2 * DAY, NOW + 4 * DAY]
    # Both count for what comes late, so both are told.
    *markers, event = worker.collect(ANN, 3)
    assert [m[2]["occurred_at"] for m in markers] == [NOW + 2 * DAY, NOW + 4 * DAY]
    assert len({m[2]["event_id"] for m in markers}) == 2
    assert judged([event]) == [("violation", ["5"])]


def test_nobody_has_seen_the_person_yet() -> None:
    worker = Worker()
    [(subject, _, fence)] = worker.step(ANN, "verified", 1)
    assert fence["phase"] == "requested"
    assert worker.state(ANN)["subject"] == subject
    [(of_bob, _, marker)] = worker.step(BOB, "erased", 1)
    assert marker["phase"] == "completed"
    assert worker.state(BOB)["subject"] is None
    assert worker.ledger.keys() == {of_bob}


@pytest.mark.parametrize("step", ["received", "cancelled", "refused", "held", "released"])
def test_other_steps_pass(step: str) -> None:
    worker = Worker()
    assert worker.step(ANN, step, 1) == []
    assert worker.changelog == {}
    assert worker.tagged.refused == []


def test_steps_are_taken_in_their_order() -> None:
    worker = Worker()
    steps = [a_step(ANN, "verified", 1), a_step(BOB, "received", 1), a_step(ANN, "erased", 2)]
    records = worker.tag(ERASURE_REQUESTS, *steps, a_step(ANN, "verified", 3, TWO))
    assert [r["phase"] for _, _, r in records] == ["requested", "completed", "completed", "requested"]
    subjects = [subject for subject, _, _ in records]
    assert subjects[0] == subjects[1] != subjects[2] == subjects[3]


def test_what_cannot_be_taken_is_refused() -> None:
    worker = Worker(partitions=2)
    wrong = 1 - partition_of(ANN, 2)
    collected = Message(ERASURE_REQUESTS, ANN, Serializer("SubjectErased").encode({"erased_at": NOW}))
    bad = [a_step(None, "verified", 1), a_step(b"short", "erased", 1), a_step(ANN, "verified", 1, partition=wrong)]
    assert worker.tag(ERASURE_REQUESTS, Message(ERASURE_REQUESTS, ANN, b"?"), collected, *bad) == []
    classes = sorted(refused.error_class for refused in worker.tagged.refused)
    assert classes == ["bad_key", "bad_key", "undecodable", "undecodable", "wrong_partition"]
    assert worker.changelog == {}


def test_a_bare_state_of_any_length_is_restored_as_erased() -> None:
    # As long as the state of somebody who has a subject and nothing else.
    times = [1 << 33, (1 << 33) + 1, (1 << 33) + 2]
    worker = Worker()
    for time in times:
        worker.tagging.subjects.slots([ANN], lambda _: 0)
        assert worker.tagging.subjects.erase(ANN, 0, time) is not None
    [(_, _, body)] = worker.tagging.subjects.take_changes()
    assert len(body) == 19
    subjects = Worker({ANN: body}).tagging.subjects
    assert subjects.erased_at(ANN) == times[-1]
    assert subjects.erase(ANN, 0, 1 << 34) is None
