"""What verdicts rest on: the explained verdict is the judge's, and the deciding facts alone lead to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.consent import ConsentFact
from processors.explaining import Explanation, explain
from processors.histories import consent_fact, event_facts, in_ms, instant, judge_history
from processors.knowledge import Knowledge, Policy, Recipient
from processors.reasons import REASONS
from processors.sentences import Titles, consent_text, day, iso, moment, paragraphs
from tests.unit.case_files import WorkedCase, worked_cases
from tests.unit.random_histories import random_history

WORKED = {worked.name: worked for worked in worked_cases()}
SHARED_CASES = Path(__file__).parents[3] / "shared" / "policy" / "cases.ndjson"
ACCEPT = {"occurred_at": "2026-01-02T00:00:00.000Z", "action": "accept", "version": 1}
SHARING = {"activity": "share", "purpose": "support", "recipient": "*", "categories": ["*"]}
# Of the worked cases' world: what a share with a partner under contract for a purpose of the policy says.
SHARE = {"activity": "share", "discloser": "self", "recipient": "cloud", "purpose": "support", "order": None}


def known(history: dict[str, Any]) -> Knowledge:
    times = ("effective_at", "contract_from", "contract_until")
    return Knowledge(
        [Policy.from_record(in_ms(policy, "effective_at")) for policy in history["policies"]],
        [Recipient.from_record(in_ms(entry, *times)) for entry in history["recipients"]],
    )


def explained(history: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Explanation, Explanation]]:
    """Each event, its explanation, and its explanation if the deciding facts were all that is known of the person."""
    knowledge = known(history)
    for event in history["events"]:
        consents = [consent_fact(c) for c in history["consents"] if c["subject"] == event["subject"]]
        erased = [instant(e["occurred_at"]) for e in history["erased"] if e["subject"] == event["subject"]]
        collected = event.get("collected_at")
        given = (
            event_facts(event),
            instant(event["occurred_at"]),
            instant(collected) if collected else None,
            knowledge,
        )
        whole = explain(*given, consents, erased)
        facts = [one.fact for one in whole.deciding if one.role != "erasure"]
        erasures = [one.fact.occurred_at for one in whole.deciding if one.role == "erasure"]
        yield event, whole, explain(*given, facts, erasures)


def assert_explained(history: dict[str, Any]) -> int:
    answers = {answer["event_id"]: answer for answer in judge_history(history)}
    count = 0
    for event, whole, alone in explained(history):
        answer = answers[event["event_id"]]
        decision = whole.decision
        assert (decision.verdict, list(decision.clauses)) == (answer["verdict"], answer["clauses"])
        assert decision.legal_basis == answer["legal_basis"]
        # The mark `sensitive` is no part of the verdict, and set where nothing else of the person is looked at.
        assert replace(alone.decision, sensitive=decision.sensitive) == decision, f"{event}: {whole.deciding}"
        text = "\n".join(text for _, text in paragraphs(whole, instant(event["occurred_at"]), Titles()))
        for one in whole.deciding:
            assert one.fact.event_id is None or f"consent {one.fact.event_id})" in text
        for finding in decision.findings:
            assert REASONS[finding.reason] in text
        assert decision.verdict in text
        count += 1
    return count


@given(st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_the_explained_verdict_is_the_judges_and_rests_on_the_deciding_facts(seed: int) -> None:
    history = random_history(random.Random(seed))
    # A repeated id would be one event to the judge.
    assert assert_explained(history) == len(history["events"])


@pytest.mark.parametrize("worked", WORKED.values(), ids=lambda worked: worked.name)
def test_worked_cases_are_explained(worked: WorkedCase) -> None:
    assert assert_explained(worked.history) == 1


@pytest.mark.skipif(not SHARED_CASES.exists(), reason="the specification's cases are not beside this checkout")
def test_the_specifications_cases_are_explained() -> None:
    histories = map(orjson.loads, SHARED_CASES.read_bytes().splitlines())
    assert sum(assert_explained(history) for history in histories if _ids_differ(history)) > 1000


def _ids_differ(history: dict[str, Any]) -> bool:
    return len({event["event_id"] for event in history["events"]}) == len(history["events"])


def roles(event: dict[str, Any], *consents: dict[str, Any], erased: list[str] | None = None) -> list[tuple[str, str]]:
    """(role, id) of what decides about an event on 10 March; consents are named in their order c0, c1, …"""
    world = WORKED["shares: 3.1(4) a partner under contract"].history
    event = {"event_id": "e", "subject": "s", "occurred_at": "2026-03-10T12:00:00.000Z", **event}
    event = {"categories": ["user.device"], "region": "EU", "collected_at": None, **event}
    said = [{"event_id": f"c{i}", "subject": "s", **consent} for i, consent in enumerate(consents)]
    ends = [{"subject": "s", "occurred_at": time} for time in erased or []]
    [(_, whole, _)] = explained({**world, "consents": said, "erased": ends, "events": [event]})
    return [(one.role, one.fact.event_id or "") for one in whole.deciding]


def on(day: int, month: int = 2) -> str:
    return f"2026-{month:02}-{day:02}T00:00:00.000Z"


def test_the_first_acceptance_of_the_version_in_force_decides() -> None:
    again = {**ACCEPT, "occurred_at": on(3)}
    assert roles(SHARE, again, ACCEPT, {**ACCEPT, "version": 2}) == [("acceptance", "c1")]
    assert roles(SHARE, {**ACCEPT, "version": 2}) == []


def test_leaving_decides_where_it_ended_something() -> None:
    leave = {"occurred_at": on(1), "action": "leave"}
    assert roles(SHARE, ACCEPT, leave) == [("leave", "c1")]
    assert roles(SHARE, ACCEPT, leave, {**ACCEPT, "occurred_at": on(2)}) == [("acceptance", "c2")]
    assert roles(SHARE, leave) == []
    refused = {"occurred_at": "2026-01-05T00:00:00.000Z", "action": "withdraw", **SHARING}
    later = {**ACCEPT, "occurred_at": on(2)}
    assert roles(SHARE, ACCEPT, refused, leave, later) == [("leave", "c2"), ("acceptance", "c3")]


def test_age_decides_and_a_guardian_only_for_minors() -> None:
    guardian = {"occurred_at": on(1), "action": "guardian", "granted": True}
    minor = {"occurred_at": on(1), "action": "age", "band": "14_17"}
    adult = {"occurred_at": on(2), "action": "age", "band": "adult"}
    assert roles(SHARE, ACCEPT, minor, guardian) == [("acceptance", "c0"), ("age", "c1"), ("guardian", "c2")]
    assert roles(SHARE, ACCEPT, minor, guardian, adult) == [("acceptance", "c0"), ("age", "c3")]
    # On a tie the younger band and a guardian's false.
    tie = {**guardian, "granted": False}
    child = {**minor, "band": "under_14"}
    assert roles(SHARE, ACCEPT, minor, child, guardian, tie) == [
        ("acceptance", "c0"),
        ("age", "c2"),
        ("guardian", "c4"),
    ]


def test_the_latest_choice_decides_on_a_tie_the_withdrawal() -> None:
    grant = {"occurred_at": on(1), "action": "grant", **SHARING}
    withdrawal = {"occurred_at": on(1), "action": "withdraw", **SHARING}
    assert roles(SHARE, ACCEPT, grant) == [("acceptance", "c0"), ("disclosure", "c1")]
    assert roles(SHARE, ACCEPT, grant, withdrawal) == [("acceptance", "c0"), ("disclosure", "c2")]
    assert roles(SHARE, ACCEPT, {**grant, "occurred_at": on(2)}, withdrawal)[1] == ("disclosure", "c1")
    assert roles(SHARE, ACCEPT, {**grant, "recipient": "metrics"}) == [("acceptance", "c0")]
    assert roles(SHARE, ACCEPT, {**grant, "occurred_at": on(11, 3)}) == [("acceptance", "c0")]


def test_several_grants_decide_together_or_not_at_all() -> None:
    both = {**SHARE, "categories": ["user.device", "user.account"]}
    device = {"occurred_at": on(1), "action": "grant", **SHARING, "categories": ["user.device"]}
    account = {"occurred_at": on(2), "action": "grant", **SHARING, "categories": ["user.account"]}
    assert [role for role, _ in roles(both, ACCEPT, device, account)] == ["acceptance", "disclosure", "disclosure"]
    assert roles(both, ACCEPT, device) == [("acceptance", "c0")]
    refused = {**account, "action": "withdraw"}
    assert roles(both, ACCEPT, device, refused) == [("acceptance", "c0"), ("disclosure", "c2")]


def test_use_is_asked_where_the_purpose_can_be_refused() -> None:
    granted = {"occurred_at": on(1), "action": "grant", "activity": "use", "purpose": "*"}
    collected = {"event_type": None, "fields": [], "storage_country": None}
    assert roles({**collected, "purpose": "ads"}, ACCEPT, granted) == [("acceptance", "c0"), ("use", "c1")]
    assert roles({**collected, "purpose": "support"}, ACCEPT, granted) == [("acceptance", "c0")]
    # A grant of everything is not a consent to a purpose beyond the policy.
    assert roles({**collected, "purpose": "resale"}, ACCEPT, granted) == [("acceptance", "c0")]


def test_erased_people() -> None:
    assert roles(SHARE, ACCEPT, erased=[on(1)]) == [("erasure", "")]
    later = {**ACCEPT, "occurred_at": on(2)}
    assert roles(SHARE, ACCEPT, later, erased=[on(1)]) == [("erasure", ""), ("acceptance", "c1")]
    assert roles(SHARE, {**later, "version": 2}, erased=[on(1)]) == [("erasure", ""), ("return", "c0")]
    leave = {"occurred_at": on(3), "action": "leave"}
    assert roles(SHARE, later, leave, erased=[on(1)]) == [("erasure", ""), ("leave", "c1")]


def test_nothing_of_the_person_decides_under_an_order() -> None:
    ordered = {**SHARE, "recipient": "ministry", "order": "A-1"}
    assert roles(ordered, ACCEPT, {"occurred_at": on(1), "action": "withdraw", **SHARING}) == []


def texts(name: str) -> dict[str, list[str]]:
    """Label → texts of a worked case."""
    history = WORKED[name].history
    [(event, whole, _)] = explained(history)
    titles = Titles({"3.1(4)": "Share with authorized partners"}, {"cloud": "Cloud Ltd"}, "Our policy")
    told: dict[str, list[str]] = {}
    for label, text in paragraphs(whole, instant(event["occurred_at"]), titles):
        told.setdefault(label, []).append(text)
    return told


def test_a_lawful_share_in_words() -> None:
    told = texts("shares: 3.1(4) a partner under contract")
    assert told["event"] == ["on 2026-03-10 12:00:00 UTC we shared user.device with Cloud Ltd (cloud)"]
    assert told["verdict"] == [
        "lawful: permitted by clause 3.1(4) (Share with authorized partners), resting on the person's acceptance of "
        "the policy"
    ]
    assert told["policy"] == [
        "version 1 of Our policy, effective 2026-01-01, was in force; accepted on 2026-01-02 00:00:00 UTC (consent c0)"
    ]
    assert "person" not in told
    assert "contract from 2026-02-01 until 2026-05-01, in force" in told["recipient"][0]
    assert "registry entry effective 2026-01-01" in told["recipient"][0]
    assert told["retention"] == ["not checked: the event does not say when the data was collected (no collected_at)"]
    assert "finding" not in told


def test_a_violation_names_each_finding_with_its_clause() -> None:
    told = texts("shares: 3.1(4) as the contract ends")
    assert told["verdict"] == ["violation of 3.1(4)"]
    assert told["finding"] == [
        "violation of 3.1(4) (Share with authorized partners): the recipient's contract was not in force"
    ]
    assert "not in force" in told["recipient"][0]


def test_a_finding_names_what_it_is_about() -> None:
    assert texts("shares: 3.1(4) all terms broken cite once")["finding"] == [
        "violation of 3.1(4) (Share with authorized partners): the purpose is not one of the policy and of the "
        "recipient's registration (resale)",
        "violation of 3.1(4) (Share with authorized partners): a data category beyond the recipient's registration "
        "(user.genetic)",
        "violation of 3.1(4) (Share with authorized partners): the recipient's contract was not in force",
        "violation of 2: the purpose is not in the policy and the person had not consented to it (resale)",
        "violation of 1: a data category that the policy does not name (user.genetic)",
    ]


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (ConsentFact("c", 0, "accept", version=2), "accepted version 2 of the policy"),
        (ConsentFact("c", 0, "leave"), "ended their use of the service"),
        (ConsentFact("c", 0, "age", band="under_14"), "was said to be under 14"),
        (ConsentFact("c", 0, "guardian", granted=True), "a guardian consented"),
        (
            ConsentFact("c", 0, "grant", activity="share", purpose="ads", recipient="kind:partner", categories=("*",)),
            "allowed sharing for `ads` with any partner, of everything",
        ),
        (ConsentFact("c", 0, "withdraw", activity="use", purpose="*"), "withdrew from use for any purpose"),
        (
            ConsentFact("c", 0, "grant", activity="publish", purpose="*", categories=("user.content",)),
            "allowed publication for any purpose, of user.content",
        ),
    ],
)
def test_consents_in_words(fact: ConsentFact, text: str) -> None:
    assert consent_text(fact) == text


def test_times() -> None:
    at = instant("2026-03-01T08:00:00.007Z")
    assert (moment(at), iso(at)) == ("2026-03-01 08:00:00.007 UTC", "2026-03-01T08:00:00.007Z")
    assert (day(instant("2026-03-01T00:00:00Z")), day(at)) == ("2026-03-01", moment(at))
