"""The erasure planner never leaves a recipient that got data without a final, true state, whatever the graph."""

from __future__ import annotations

import os

import pytest

from processors.erasure import FINAL, PUBLIC, from_record, to_record
from processors.erasure_commands import Grade
from streams.serdes import Deserializer, Serializer
from tests.erasure_worlds import STORES, TERMS, Ended, World

# A hundred thousand take some minutes: LINEAGE_TEST_GRAPHS=100000.
GRAPHS = int(os.environ.get("LINEAGE_TEST_GRAPHS", "3000"))
SLICE = 500


@pytest.mark.parametrize("first", range(0, GRAPHS, SLICE))
def test_every_recipient_that_got_data_reaches_a_true_final_state(first: int) -> None:
    for seed in range(first, min(first + SLICE, GRAPHS)):
        try:
            check(World(seed).play())
        except AssertionError as error:
            raise AssertionError(f"world {seed}: {error}") from error


def check(ended: Ended) -> None:
    request = ended.request
    got = {p.recipient or PUBLIC for p in ended.passed if p.arrives <= ended.dropped_at}
    assert got == {t.id for t in request.recipients}, "who got data is not who was asked"
    assert all(t.state in FINAL for t in request.targets), "a target without a final state"
    assert {t.id for t in request.targets if t.is_store} == {f"store:{s}" for s in STORES}
    for target in request.recipients:
        recipient = ended.recipients[target.id]
        if target.state == "completed":
            assert Grade[target.grade] >= Grade.claimed, "completed, and nobody has said so"
            assert request.key(target) in recipient.deleted, "completed, but not for the last command"
            last = max(p.offset for p in ended.passed if (p.recipient or PUBLIC) == target.id and _mattered(p, ended))
            assert last < ended.offsets_at_claim[target.id], "got data after the claim that counts"
        if target.state == "failed":
            assert target.ground or target.detail, "failed without a reason"
        rounds = len(dict.fromkeys(recipient.keys))
        assert rounds <= recipient.reopened_by, "asked again under another key without new data"
    complete = all(t.state == "completed" for t in request.targets)
    assert request.state == ("completed" if complete else "partially_completed")
    assert request.alias is None
    assert request.subject is None
    assert request.ended_at is not None
    assert request.due_at is not None
    assert request.ended_at <= request.due_at, "late"
    for alarm in request.alarms:
        assert ended.claims[alarm.split()[0]], "an alarm about somebody who never claimed anything"
    _check_alarms(ended)


def _mattered(passed: object, ended: Ended) -> bool:
    return passed.arrives <= ended.dropped_at  # type: ignore[attr-defined, no-any-return]


def _check_alarms(ended: Ended) -> None:
    """Of data that occurred after a claim, and was seen after it."""
    alarmed = {alarm.split()[0] for alarm in ended.request.alarms}
    for name, claims in ended.claims.items():
        contradicted = [
            p
            for p in ended.passed
            if (p.recipient or PUBLIC) == name and p.occurred_at > min(claims) and p.arrives <= ended.dropped_at
        ]
        assert not contradicted or name in alarmed, f"{name} contradicted itself unnoticed"


def test_worlds_are_not_tame() -> None:
    """The property says little where nothing happens."""
    ends = [World(seed).play() for seed in range(600)]
    requests = [e.request for e in ends]
    states = {t.state for r in requests for t in r.recipients}
    assert states == FINAL
    assert {r.state for r in requests} == {"completed", "partially_completed"}
    assert any(r.alarms for r in requests)
    assert any(t.round for r in requests for t in r.recipients)
    assert any(t.hop is None for r in requests for t in r.recipients)
    assert any((t.hop or 0) > 2 for r in requests for t in r.recipients)
    assert any(len(set(e.recipients[t.id].keys)) > 1 for e in ends for t in e.request.recipients)
    assert TERMS.response > TERMS.margin


def test_a_request_survives_its_record() -> None:
    serializer, deserializer = Serializer("ErasureState"), Deserializer()
    for seed in range(100):
        request = World(seed).play().request
        _, record = deserializer.decode(serializer.encode(to_record(request)))
        assert from_record(record) == request
