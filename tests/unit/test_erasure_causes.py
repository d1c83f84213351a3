"""What opens an erasure request by itself, as a policy document says it: read, reviewed, compared, counted."""

from __future__ import annotations

import pytest

from audit.coverage import coverage
from processors.knowledge import ERASURE_CAUSES, ErasureCause, Policy
from processors.policy_diff import diff_policies
from schemas import schema_dir
from streams.documents import DocumentError
from streams.policies import lint_policy, load_policy, policy_document, policy_record

AOXUN = schema_dir() / "policies" / "aoxun.yaml"
POLICY = """\
version: 1
effective_at: 2026-01-01T00:00:00Z
purposes:
  service: {clause: "2.1", basis: policy_acceptance, needs: [user.device]}
categories: [user.device]
"""


def test_the_aoxun_policy_names_every_cause_with_its_clause() -> None:
    policy = Policy.from_record(policy_record(load_policy(AOXUN)))
    assert policy.erasure == {
        "minor": ErasureCause("6", 0),
        "merger": ErasureCause("3.2(2)", 30),
        "leave": ErasureCause("4.2", 30),
        "withdrawal": ErasureCause("4.2", 30),
        "retention": ErasureCause("4.2", 0),
    }
    assert policy.erasure.keys() == ERASURE_CAUSES.keys()


def test_without_the_section_nothing_opens_by_itself_as_before_it_was_there() -> None:
    record = policy_record(load_policy(POLICY))
    assert Policy.from_record(record).erasure == {}
    del record["erasure"]
    assert Policy.from_record(record).erasure == {}


def test_a_cause_cites_the_clause_of_its_rule_unless_it_names_one() -> None:
    text = POLICY + "rules: {minor: '16'}\nerasure: {minor: {after_days: 1}, leave: {after_days: 2, clause: '9'}}\n"
    record = policy_record(load_policy(text))
    assert record["erasure"] == {"minor": {"after_days": 1, "clause": "16"}, "leave": {"after_days": 2, "clause": "9"}}
    assert policy_record(policy_document(record)) == record


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{minors: {after_days: 0}}", "erasure.minors: unknown key: did you mean `minor`?"),
        ("{minor: {}}", "erasure.minor: the key `after_days` is missing"),
        ("{leave: {after_days: -1}}", "erasure.leave.after_days: -1 is too small"),
        ("{leave: {after_days: 1, clause: '9'}}", "erasure.leave.clause: the clause 9 is not listed"),
    ],
)
def test_mistakes_in_the_section_are_found(section: str, problem: str) -> None:
    listed = "{'1': a, '2': a, '2.1': a, '5': a, '6': a, '7': a, '4.1': a, '4.2': a, '3.1': a, '3.2': a, '3.3': a, "
    listed += ", ".join(f"'3.{n}({m})': a" for n, m in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (3, 2)])
    with pytest.raises(DocumentError) as raised:
        load_policy(f"{POLICY}clauses: {listed}}}\nerasure: {section}\n")
    assert problem in str(raised.value)


def test_what_the_section_hardly_means_is_a_warning() -> None:
    section = "erasure: {retention: {after_days: 0}, minor: {after_days: 5}}\n"
    assert [(w.path, w.message.split(":")[0]) for w in lint_policy(load_policy(POLICY + section))] == [
        ("erasure.minor.after_days", "data of minors without a guardian's consent is kept for 5 days"),
        ("erasure.retention", "no purpose and no category has a limit in days"),
    ]


def test_a_change_of_the_section_is_told_to_the_people() -> None:
    old = policy_record(load_policy(POLICY + "erasure: {leave: {after_days: 30}, minor: {after_days: 0}}\n"))
    new = policy_record(load_policy(POLICY + "erasure: {leave: {after_days: 7}, merger: {after_days: 0}}\n"))
    assert {(c.affects, c.key, c.text) for c in diff_policies(old, new)} == {
        ("subjects", "erasure.leave", "your data is erased unasked, after 7 days, when you have ended your use "
         "(clause 4.2)"),
        ("subjects", "erasure.merger", "your data is erased unasked, at once, when your data went to a successor that "
         "has not pledged to stay bound by the policy (clause 3.2(2))"),
        ("subjects", "erasure.minor", "your data is no longer erased unasked when you are under age and no guardian "
         "has consented"),
    }  # fmt: skip
    without = {key: value for key, value in old.items() if key != "erasure"}
    assert len(diff_policies(without, old)) == 2


def test_coverage_names_the_causes_beside_the_rules_of_their_clause() -> None:
    clauses = {c["clause"]: c for c in coverage(policy_record(load_policy(AOXUN)), [])["clauses"]}
    assert "erasure by itself: minor, after 0 days" in clauses["6"]["rules"]
    assert "erasure by itself: leave, after 30 days" in clauses["4.2"]["rules"]
    own = policy_record(load_policy(POLICY + "erasure: {leave: {after_days: 3, clause: '9'}}\n"))
    [nine] = [c for c in coverage({**own, "clauses": {"9": "Leaving"}}, [])["clauses"] if c["clause"] == "9"]
    assert nine["rules"] == []
    assert nine["record"] == "erasure by itself: leave, after 3 days"
    assert not nine["bare"]
