"""The columnar judge and whole histories, against a second judge and against orders of arrival."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.consent import ConsentState, ConsentStates
from processors.decide import EventFacts, Retention, consider, decide, retention_class, retention_limit
from processors.histories import judge_history
from processors.judge import MISSING, Judge
from processors.knowledge import STANDARD_RULES, ContradictionError, Knowledge, Policy, Purpose, Recipient
from tests.unit.case_files import worked_cases
from tests.unit.naive_judge import naive_verdict
from tests.unit.random_histories import random_history

seeds = st.integers(0, 2**64)


def verdicts(history: dict[str, Any]) -> dict[str, tuple[str, list[str], str]]:
    return {a["event_id"]: (a["verdict"], a["clauses"], a["legal_basis"]) for a in judge_history(history)}


@given(seeds)
@settings(max_examples=500, deadline=None)
def test_agrees_with_a_judge_that_reduces_nothing(seed: int) -> None:
    history = random_history(random.Random(seed))
    naive = {event["event_id"]: naive_verdict(history, event) for event in history["events"]}
    assert verdicts(history) == naive


@given(seeds)
@settings(max_examples=150, deadline=None)
def test_the_order_of_arrival_never_matters(seed: int) -> None:
    rng = random.Random(seed)
    history = random_history(rng)
    mixed = {name: rng.sample(records, len(records)) for name, records in history.items()}
    twice = {**mixed, "consents": mixed["consents"] * 2, "events": mixed["events"] + history["events"]}
    assert verdicts(twice) == verdicts(history)
    assert [a["event_id"] for a in judge_history(twice)] == [event["event_id"] for event in mixed["events"]]


def test_random_histories_meet_every_clause() -> None:
    """Else the comparisons above would say little."""
    rng = random.Random(1)
    met = {
        (verdict, clause)
        for _ in range(1000)
        for verdict, clauses, _ in verdicts(random_history(rng)).values()
        for clause in clauses
    }
    purposes = {f"2.{i}" for i in range(1, 4)}
    permitting = {"3.1(1)", "3.1(2)", "3.1(3)", "3.1(4)", "3.2(1)", "3.2(2)", "3.3(1)", "3.3(2)"}
    assert {clause for verdict, clause in met if verdict == "lawful"} == purposes | permitting | {"2"}
    unlawful = set(STANDARD_RULES.values()) | purposes
    assert {clause for verdict, clause in met if verdict == "violation"} == unlawful - {"3.3(2)"}
    assert {clause for verdict, clause in met if verdict == "gap"} == {"1", "2", "3.1", "3.2", "4.1", "4.2"}


def test_the_second_judge_agrees_on_the_worked_cases() -> None:
    for worked in worked_cases():
        assert naive_verdict(worked.history, worked.history["events"][0]) == worked[2:], worked.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "forget"},
        {"action": "age", "band": "old"},
        {"action": "grant", "activity": "sell", "purpose": "*"},
        {"action": "accept", "version": 1, "occurred_at": "2026-01-01T00:00:00"},
    ],
)
def test_a_history_with_a_word_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    consent = {"event_id": "c", "subject": "s", "occurred_at": "2026-01-01T00:00:00.000Z", **wrong}
    with pytest.raises(ValueError, match=r"is none of|without offset"):
        judge_history({"policies": [], "recipients": [], "consents": [consent], "erased": [], "events": []})


# Batches

DAY = 24 * 3600 * 1000
PURPOSES_OF_TWO = {
    "free": Purpose("2.1", "policy_acceptance", ("*",), 3),
    "asked": Purpose("2.6", "explicit_consent", ("*",), None),
}
KNOWN = Knowledge(
    [Policy(1, 10 * DAY, PURPOSES_OF_TWO, ("user",)), Policy(2, 20 * DAY, PURPOSES_OF_TWO, ("user.x",))],
    [Recipient("p", "partner", 5 * DAY, "CN", ("free",), ("*",), 12 * DAY, 25 * DAY)],
)
SHAPES = [
    EventFacts("collect", purpose="free", categories=("user.x",)),
    EventFacts("collect", purpose="asked", categories=("user.y",)),
    EventFacts("share", purpose="free", categories=("user.x",), recipient="p"),
    EventFacts("share", purpose="free", categories=("user.x",), recipient="q"),
]


def _states() -> ConsentStates:
    states = ConsentStates()
    for state in (frozenset({1}), frozenset({2}), frozenset({1, 2})):
        states.intern(ConsentState(accepted=state))
    states.intern(ConsentState(frozenset({1, 2}), band="under_14"))
    return states


def _batch(rng: np.random.Generator, size: int) -> tuple[Any, Any, Any, Any]:
    occurred_at = rng.integers(0, 30 * DAY, size)
    collected_at = np.where(rng.random(size) < 0.5, MISSING, occurred_at + rng.integers(-5 * DAY, DAY, size))
    return rng.integers(0, len(SHAPES), size, np.int32), occurred_at, collected_at, rng.integers(0, 5, size, np.int32)


def test_a_batch_gets_what_each_of_its_events_would_get() -> None:
    states = _states()
    judge = Judge(KNOWN, states)
    assert [judge.intern(facts) for facts in SHAPES + SHAPES] == [0, 1, 2, 3, 0, 1, 2, 3]
    shape, occurred_at, collected_at, state = _batch(np.random.default_rng(5), 3000)
    numbers = judge.judge(shape, occurred_at, collected_at, state)
    for i, number in enumerate(numbers.tolist()):
        time, collected = int(occurred_at[i]), int(collected_at[i])
        case = consider(SHAPES[shape[i]], KNOWN.view(KNOWN.epoch(time)))
        retention = retention_class(retention_limit(case), time, None if collected == MISSING else collected)
        assert judge.decisions[number] == decide(case, states.states[state[i]], retention)
    assert len(set(judge.decisions)) == len(judge.decisions) < 100
    again = judge.judge(shape[::-1], occurred_at[::-1], collected_at[::-1], state[::-1])
    assert (again[::-1] == numbers).all()


def test_an_empty_batch() -> None:
    nothing = np.zeros(0, np.int64)
    assert len(Judge(KNOWN, _states()).judge(nothing.astype(np.int32), nothing, nothing, nothing.astype(np.int32))) == 0


def test_the_edges_of_retention() -> None:
    judge = Judge(KNOWN, _states())
    share = judge.intern(SHAPES[2])
    ages = [-1, 0, 3 * DAY, 3 * DAY + 1]
    occurred_at = np.full(4, 15 * DAY)
    numbers = judge.judge(np.full(4, share, np.int32), occurred_at, occurred_at - ages, np.full(4, 1, np.int32))
    reasons = [[f.reason for f in judge.decisions[n].findings] for n in numbers.tolist()]
    assert reasons == [["collected_later"], [], [], ["retention_over"]]
    assert retention_class(None, 10, 0) is Retention.WITHIN


def test_other_knowledge_gives_other_decisions() -> None:
    judge = Judge(KNOWN, _states())
    unknown = SHAPES[3]
    at = (np.array([15 * DAY]), np.array([MISSING]), np.array([1], np.int32))
    before = judge.decisions[judge.judge(np.array([judge.intern(unknown)], np.int32), *at)[0]]
    more = KNOWN.with_more([], [Recipient("q", "affiliate", 0, "CN", ("free",), ("*",))])
    judge = judge.with_knowledge(more)
    after = judge.decisions[judge.judge(np.array([judge.intern(unknown)], np.int32), *at)[0]]
    assert (before.verdict, after.verdict) == ("gap", "lawful")


# Knowledge


def test_what_is_known_changes_at_breakpoints_only() -> None:
    times = np.arange(0, 30 * DAY, DAY // 2)
    epochs = KNOWN.epochs(times)
    assert epochs.tolist() == [KNOWN.epoch(time) for time in times.tolist()]
    for time, epoch in zip(times.tolist(), epochs.tolist(), strict=True):
        view = KNOWN.view(epoch)
        assert (view.policy.version if view.policy else None) == (
            2 if time >= 20 * DAY else 1 if time >= 10 * DAY else None
        )
        assert (view.recipient("p") is not None) == (time >= 5 * DAY)
        if entry := view.recipient("p"):
            assert entry.contract_holds(view.at) == (12 * DAY <= time < 25 * DAY)


def test_contradictions_are_refused_and_repetitions_are_not() -> None:
    policy, entry = KNOWN.policies[1], KNOWN.recipients["p", 5 * DAY]
    assert KNOWN.with_more([policy], [entry]) is KNOWN
    with pytest.raises(ContradictionError, match="version 1"):
        KNOWN.with_more([Policy(1, 11 * DAY)], [])
    with pytest.raises(ContradictionError, match="recipient p"):
        KNOWN.with_more([], [Recipient("p", "public", 5 * DAY)])
    later = Recipient("p", "public", 6 * DAY)
    assert KNOWN.with_more([], [later]).recipients["p", 6 * DAY] is later
