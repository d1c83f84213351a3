"""Consent timelines: what a state keeps and what it drops, and as-of questions about many people at once."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.consent import EMPTY, Choice, ConsentFact, ConsentState, ConsentStates, ConsentTimelines, timeline

Steps = list[tuple[int, int]]


def _facts(*said: tuple[int, str, dict[str, Any]]) -> list[ConsentFact]:
    return [ConsentFact(i, time, action, **rest) for i, (time, action, rest) in enumerate(said)]


def _state(*said: tuple[int, str, dict[str, Any]]) -> ConsentState:
    return timeline(_facts(*said), [])[-1][1]


def _use(purpose: str) -> dict[str, Any]:
    return {"activity": "use", "purpose": purpose}


def _share(purpose: str, *categories: str) -> dict[str, Any]:
    return {"activity": "share", "purpose": purpose, "recipient": "*", "categories": categories}


def test_states_begin_at_their_facts_and_neighbours_differ() -> None:
    facts = _facts((30, "accept", {"version": 2}), (10, "accept", {"version": 1}), (20, "accept", {"version": 1}))
    both = ConsentState(frozenset({1, 2}))
    assert timeline(facts, []) == [(10, ConsentState(frozenset({1}))), (30, both)]
    assert timeline(facts, [40]) == [*timeline(facts, []), (40, ConsentState(erased=True))]
    assert timeline([], []) == timeline(_facts((5, "leave", {})), []) == []


def test_facts_of_one_id_are_one_fact() -> None:
    (fact,) = _facts((10, "accept", {"version": 1}))
    assert timeline([fact, fact], []) == timeline([fact], [])


def test_what_a_moment_undoes_leaves_no_step() -> None:
    assert timeline(_facts((10, "accept", {"version": 1}), (10, "leave", {})), []) == []
    undone = _facts(
        (5, "accept", {"version": 1}), (9, "grant", _use("p")), (9, "leave", {}), (9, "accept", {"version": 1})
    )
    assert timeline(undone, []) == [(5, ConsentState(frozenset({1}))), (9, EMPTY)]


def test_an_erasure_suppresses_until_an_acceptance_that_still_counts() -> None:
    facts = _facts((1, "accept", {"version": 1}), (20, "accept", {"version": 1}), (30, "leave", {}))
    steps = timeline(facts, [10])
    assert [(time, state.suppressed) for time, state in steps] == [(1, False), (10, True), (20, False), (30, True)]


def test_people_who_chose_the_same_share_a_state() -> None:
    one = _state((1, "grant", _use("a")), (2, "grant", _use("b")), (3, "withdraw", _share("*", "user.x", "user.y")))
    other = _state((1, "withdraw", _share("*", "user.y", "user.x")), (7, "grant", _use("b")), (9, "grant", _use("a")))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([("grant", _use("a")), ("withdraw", _use("a"))], [False]),
        ([("withdraw", _use("a")), ("grant", _use("a"))], [True]),
        ([("grant", _use("a")), ("withdraw", _use("*"))], [True, False]),
        # A withdrawal from all is one from purposes outside the policy too, where a grant of all does not reach.
        ([("withdraw", _use("*")), ("grant", _use("*"))], [False, True]),
        ([("grant", _share("a", "user.x")), ("withdraw", _share("a", "user.x"))], [False]),
        # A withdrawal answers for `user` as well, a grant of `user.x` does not.
        ([("withdraw", _share("a", "user.x")), ("grant", _share("a", "user.x"))], [False, True]),
        ([("grant", _use("a")), ("grant", _use("a"))], [True]),
    ],
)
def test_only_what_can_still_answer_is_kept(said: list[tuple[str, dict[str, Any]]], kept: list[bool]) -> None:
    state = _state(*((time, action, rest) for time, (action, rest) in enumerate(said)))
    assert [choice.granted for choice in state.choices] == kept


def test_what_an_activity_does_not_look_at_is_dropped() -> None:
    state = _state((1, "grant", {**_use("a"), "recipient": "r", "categories": ("user",)}))
    assert state.choices == (Choice(True, "use", "a", None, ()),)
    state = _state((1, "grant", {"activity": "publish", "purpose": "a", "recipient": "r", "categories": ("user",)}))
    assert state.choices == (Choice(True, "publish", "a", None, ("user",)),)


def test_states_have_numbers() -> None:
    states = ConsentStates()
    accepted = ConsentState(frozenset({1}))
    assert (states.intern(EMPTY), states.intern(accepted), states.intern(ConsentState(frozenset({1})))) == (0, 1, 1)
    assert states.states == [EMPTY, accepted]
    assert len(states) == 2


# As-of questions


def _as_of(known: dict[int, Steps], slot: int, time: int) -> int:
    return next((state for since, state in reversed(known.get(slot, [])) if since <= time), 0)


def _steps(times: set[int]) -> st.SearchStrategy[Steps]:
    return st.lists(st.integers(0, 9), min_size=len(times), max_size=len(times)).map(
        lambda states: list(zip(sorted(times), states, strict=True))
    )


timelines = st.sets(st.integers(-50, 50), max_size=9).flatmap(_steps)


@given(
    st.lists(st.tuples(st.integers(0, 12), timelines), max_size=30),
    st.lists(st.tuples(st.integers(0, 15), st.integers(-60, 60)), max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_as_of_is_the_last_step_not_after(puts: list[tuple[int, Steps]], asked: list[tuple[int, int]]) -> None:
    pool = ConsentTimelines()
    for slot, steps in puts:
        pool.put(slot, steps)
    slots, times = (np.array([question[i] for question in asked], np.int64) for i in (0, 1))
    assert pool.as_of(slots, times).tolist() == [_as_of(dict(puts), slot, time) for slot, time in asked]


def test_many_changes_of_many_people_stay_right_and_small() -> None:
    rng = random.Random(3)
    pool, known = ConsentTimelines(), dict[int, Steps]()
    for _ in range(20_000):
        slot = rng.randrange(3000)
        known[slot] = [(time, rng.randrange(1, 99)) for time in sorted(rng.sample(range(1000), rng.randrange(6)))]
        pool.put(slot, known[slot])
    slots = np.array([rng.randrange(5000) for _ in range(20_000)])
    times = np.array([rng.randrange(-10, 1010) for _ in range(20_000)])
    expected = [_as_of(known, slot, time) for slot, time in zip(slots.tolist(), times.tolist(), strict=True)]
    assert pool.as_of(slots, times).tolist() == expected
    assert pool.capacity <= 4 * max(1024, sum(map(len, known.values())))


def test_a_long_timeline_that_fills_the_pool_is_replaced() -> None:
    """Compaction must not keep what is just being replaced, or no room is ever found."""
    pool = ConsentTimelines()
    pool.put(0, [(time, 1) for time in range(1000)])
    pool.put(0, [(time, 2) for time in range(30)])
    assert pool.as_of(np.array([0, 0]), np.array([0, 999])).tolist() == [2, 2]


def test_one_person_changed_again_and_again_takes_no_more_room() -> None:
    pool = ConsentTimelines()
    for i in range(10_000):
        pool.put(7, [(time, i % 5) for time in range(i % 20)])
    assert pool.capacity == 1024
