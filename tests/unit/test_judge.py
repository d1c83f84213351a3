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
from processors.knowledge import ContradictionError, Knowledge, Policy, Purpose, Recipient
from tests.unit.case_files import worked_cases
from tests.unit.naive_judge import naive_verdict

# A small world: few words and few moments, so that everything meets everything, ties included.
MOMENTS = [f"2026-01-{day:02}T00:00:00.000Z" for day in range(1, 10)]
PURPOSES = ["a", "b", "c", "outside"]
CATEGORIES = ["user", "user.x", "user.x.y", "user.z"]
KINDS = ["affiliate", "partner", "authority", "successor", "public"]
IDS = ["r0", "r1", "r2"]

moments = st.sampled_from(MOMENTS)
some_categories = st.lists(st.sampled_from([*CATEGORIES, "*"]), max_size=2)
maybe_country = st.sampled_from(["CN", "US", None])
BASES = ["policy_acceptance", "opt_out", "explicit_consent"]


def of_keys(keys: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), values, max_size=len(keys))


purposes = st.fixed_dictionaries(
    {
        name: st.fixed_dictionaries(
            {
                "clause": st.just(f"2.{i}"),
                "basis": st.sampled_from(BASES),
                "needs": some_categories,
                "retention_days": st.sampled_from([None, 0, 2, 4]),
            }
        )
        for i, name in enumerate(PURPOSES[:3], 1)
    }
)
policies = st.lists(
    st.fixed_dictionaries(
        {
            "version": st.integers(1, 3),
            "effective_at": st.sampled_from(MOMENTS[:5]),
            "purposes": purposes,
            "categories": some_categories,
            "events": of_keys(["e0", "e1"], st.sampled_from(PURPOSES)),
            "fields": of_keys(["f0", "f1"], st.sampled_from(CATEGORIES)),
            "residency": of_keys(["CN", "EU"], st.lists(st.sampled_from(["CN", "US"]), max_size=2)),
            "retention": of_keys([*CATEGORIES, "*"], st.integers(0, 5)),
        }
    ),
    max_size=3,
    unique_by=lambda policy: policy["version"],
)
recipients = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(IDS),
            "kind": st.sampled_from(KINDS),
            "effective_at": moments,
            "country": maybe_country,
            "purposes": st.lists(st.sampled_from(PURPOSES), max_size=4),
            "categories": some_categories,
            "contract_from": st.none() | moments,
            "contract_until": st.none() | moments,
            "pledge": st.booleans(),
            "onward": st.lists(st.sampled_from([*IDS, *(f"kind:{kind}" for kind in KINDS)]), max_size=4),
        }
    ),
    max_size=6,
    unique_by=lambda entry: (entry["id"], entry["effective_at"]),
)
contents = st.one_of(
    st.fixed_dictionaries({"action": st.just("accept"), "version": st.integers(1, 3)}),
    st.fixed_dictionaries({"action": st.just("leave")}),
    st.fixed_dictionaries({"action": st.just("age"), "band": st.sampled_from(["under_14", "14_17", "adult"])}),
    st.fixed_dictionaries({"action": st.just("guardian"), "granted": st.booleans()}),
    st.fixed_dictionaries(
        {
            "action": st.sampled_from(["grant", "withdraw"]),
            "activity": st.sampled_from(["use", "share", "transfer", "publish"]),
            "purpose": st.sampled_from([*PURPOSES, "*"]),
            "recipient": st.sampled_from([*IDS, "kind:partner", "kind:successor", "*"]),
            "categories": some_categories,
        }
    ),
)
consents = st.lists(st.tuples(st.sampled_from(["s", "u"]), moments, contents), max_size=14)
accepted = [{"action": "accept", "version": version} for version in (1, 2, 3)]
purpose = st.sampled_from([*PURPOSES, None])
region = st.sampled_from(["CN", "EU", None])
events = st.one_of(
    st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(["e0", "e1", "e2", None]),
            "purpose": purpose,
            "categories": st.lists(st.sampled_from(CATEGORIES), max_size=2),
            "fields": st.lists(st.sampled_from(["f0", "f1"]), max_size=2),
            "region": region,
            "storage_country": maybe_country,
        }
    ),
    st.fixed_dictionaries(
        {
            "activity": st.sampled_from(["share", "transfer", "publish"]),
            "discloser": st.sampled_from(["self", "self", *IDS]),
            "recipient": st.sampled_from([*IDS, "unheard_of", None]),
            "purpose": purpose,
            "categories": st.lists(st.sampled_from(CATEGORIES), max_size=2),
            "region": region,
            "collected_at": st.none() | moments,
            "order": st.sampled_from([None, None, "", "A-1"]),
        }
    ).map(lambda event: {**event, "recipient": None} if event["activity"] == "publish" else event),
)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    said = draw(consents)
    if draw(st.booleans()):
        # Most people have accepted something, else every answer is clause 7.
        said = [*said, *(("s", MOMENTS[0], content) for content in accepted)]
    return {
        "policies": draw(policies),
        "recipients": draw(recipients),
        "consents": [
            {"event_id": f"c{i}", "subject": subject, "occurred_at": time, **content}
            for i, (subject, time, content) in enumerate(said)
        ],
        "erased": [{"subject": "s", "occurred_at": time} for time in draw(st.lists(moments, max_size=1))],
        "events": [
            {"event_id": f"e{i}", "subject": "s", "occurred_at": time, **event}
            for i, (time, event) in enumerate(draw(st.lists(st.tuples(moments, events), min_size=1, max_size=12)))
        ],
    }


def verdicts(history: dict[str, Any]) -> dict[str, tuple[str, list[str], str]]:
    return {a["event_id"]: (a["verdict"], a["clauses"], a["legal_basis"]) for a in judge_history(history)}


@given(histories())
@settings(max_examples=400, deadline=None)
def test_agrees_with_a_judge_that_reduces_nothing(history: dict[str, Any]) -> None:
    naive = {event["event_id"]: naive_verdict(history, event) for event in history["events"]}
    assert verdicts(history) == naive


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_arrival_never_matters(history: dict[str, Any], rng: random.Random) -> None:
    mixed = {name: rng.sample(records, len(records)) for name, records in history.items()}
    twice = {**mixed, "consents": mixed["consents"] * 2, "events": mixed["events"] + history["events"]}
    assert verdicts(twice) == verdicts(history)
    assert [a["event_id"] for a in judge_history(twice)] == [event["event_id"] for event in mixed["events"]]


def test_the_second_judge_agrees_on_the_worked_cases() -> None:
    """Else the comparison above would say little."""
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
    consent = {"event_id": "c", "subject": "s", "occurred_at": MOMENTS[0], **wrong}
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
