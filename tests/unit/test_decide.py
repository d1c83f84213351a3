"""The decision against worked cases: our own, and those that came with verdicts.md where they are at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from processors import case, decide
from processors.consent import ConsentState
from processors.decide import EventFacts, Retention
from processors.histories import judge_history
from processors.knowledge import STANDARD_RULES, Knowledge, Policy, Purpose, Recipient
from processors.reasons import REASONS
from tests.unit.case_files import WorkedCase, worked_cases

WORKED = list(worked_cases())
SHARED_CASES = Path(__file__).parents[3] / "shared" / "policy" / "cases.ndjson"


def _answer(history: dict[str, Any]) -> dict[str, Any]:
    (answer,) = judge_history(history)
    return answer


@pytest.mark.parametrize("worked", WORKED, ids=lambda worked: worked.name)
def test_worked_case(worked: WorkedCase) -> None:
    answer = _answer(worked.history)
    assert (answer["verdict"], answer["clauses"], answer["legal_basis"]) == worked[2:], answer["findings"]


def test_names_of_cases_are_distinct() -> None:
    assert len({worked.name for worked in WORKED}) == len(WORKED) > 150


@pytest.mark.skipif(not SHARED_CASES.exists(), reason="the specification's cases are not beside this checkout")
def test_the_specifications_cases() -> None:
    judged = 0
    for line in SHARED_CASES.read_bytes().splitlines():
        history = orjson.loads(line)
        answers = {answer["event_id"]: answer for answer in judge_history(history)}
        given = {
            name: {key: answer[key] for key in ("verdict", "clauses", "legal_basis")}
            for name, answer in answers.items()
        }
        assert given == history["expected"], history["name"]
        judged += len(given)
    assert judged > 1000


def test_every_clause_is_decided_both_ways_where_it_can_be() -> None:
    unlawful = {clause for worked in WORKED if worked.verdict != "lawful" for clause in worked.clauses}
    lawful = {clause for worked in WORKED if worked.verdict == "lawful" for clause in worked.clauses}
    assert set(STANDARD_RULES.values()) - unlawful == {"3.3(2)"}
    permitting = {"3.1(1)", "3.1(2)", "3.1(3)", "3.1(4)", "3.2(1)", "3.2(2)", "3.3(1)", "3.3(2)"}
    assert lawful == permitting | {"2"} | {f"2.{i}" for i in range(1, 8)}


def test_every_reason_is_found_by_a_case_and_has_words() -> None:
    found = {finding["reason"] for worked in WORKED for finding in _answer(worked.history)["findings"]}
    assert found == REASONS.keys()


def test_every_rule_of_a_policy_is_asked_for() -> None:
    """A policy document may name a clause for each of these, so each must have its place in the code."""
    code = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (case, decide))
    named = set(re.findall(r'"([a-z_]+)"', code))
    composed = {"share_affiliate", "share_partner", "share_consent", "transfer_consent", "share", "transfer"}
    assert STANDARD_RULES.keys() <= named | composed


def _decide(facts: EventFacts, policy: Policy, *recipients: Recipient) -> decide.Decision:
    knowledge = Knowledge([policy], recipients)
    state = ConsentState(accepted=frozenset({policy.version}))
    return decide.decide(decide.consider(facts, knowledge.view(knowledge.epoch(100))), state, Retention.WITHIN)


SERVICE = {"service": Purpose("2.1", "policy_acceptance", ("*",))}


def test_a_policy_may_cite_one_clause_for_several_rules() -> None:
    policy = Policy(1, 0, SERVICE, ("*",), rules={"share_affiliate": "A", "share_consent": "A", "share_authority": "A"})
    facts = EventFacts("share", purpose="service", categories=("user",), recipient="sister")
    decision = _decide(facts, policy, Recipient("sister", "affiliate", 0, None, ("service",), ("*",)))
    assert (decision.verdict, decision.clauses) == ("lawful", ("A",))
    assert decision.legal_basis == "policy_acceptance"


def test_a_decision_says_by_what_it_was_reached() -> None:
    policy = Policy(3, 5, SERVICE, ("*",), events={"opened": "service"}, fields={"ip": "user.ip", "id": "user.id"})
    facts = EventFacts("collect", "opened", categories=("user.id", "user.x"), fields=("ip", "id", "ip"))
    decision = _decide(facts, policy)
    assert decision.purpose == "service"
    assert decision.categories == ("user.id", "user.x", "user.ip")
    assert (decision.policy_version, decision.recipient_kind, decision.permitted_by) == (3, None, "2.1")
    shared = EventFacts("share", purpose="service", categories=("user",), recipient="sister")
    entries = [
        Recipient("sister", kind, at, None, ("service",), ("*",)) for kind, at in (("public", 7), ("affiliate", 9))
    ]
    decision = _decide(shared, policy, *entries)
    assert (decision.recipient_kind, decision.recipient_effective_at) == ("affiliate", 9)


def test_children_are_marked_and_nothing_else_changes() -> None:
    knowledge = Knowledge([Policy(1, 0, SERVICE, ("*",))], [])
    considered = decide.consider(EventFacts("collect", purpose="service", categories=("user",)), knowledge.view(1))
    states = [ConsentState(frozenset({1}), band, guardian=True) for band in ("adult", "14_17", "under_14")]
    decisions = [decide.decide(considered, state, Retention.UNCHECKED) for state in states]
    assert [decision.sensitive for decision in decisions] == [False, False, True]
    assert {decision.verdict for decision in decisions} == {"lawful"}


def test_how_old_a_collection_is_does_not_matter() -> None:
    knowledge = Knowledge([Policy(1, 0, {"s": Purpose("2.1", "policy_acceptance", ("*",), 1)}, ("*",))], [])
    considered = decide.consider(EventFacts("collect", purpose="s", categories=("user",)), knowledge.view(1))
    state = ConsentState(frozenset({1}))
    assert len({decide.decide(considered, state, retention) for retention in Retention}) == 1


def test_what_is_known_to_be_beyond_the_policy_is_not_nothing() -> None:
    facts = EventFacts("collect", purpose="service", fields=("heartbeat",))
    assert [f.reason for f in _decide(facts, Policy(1, 0, SERVICE, ("*",))).findings] == ["field_beyond_policy"]
