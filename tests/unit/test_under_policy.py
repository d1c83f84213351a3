"""A lineage under one policy version, and the operator's document."""

from pathlib import Path

import pytest

from audit.exports.background import Operator
from audit.exports.under_policy import under_policy
from infra.operator import operator_of
from processors.knowledge import Knowledge, Policy, Recipient
from streams.documents import DocumentError
from tests.unit.exported_lives import consent, life, lineage, reference, row


def knowledge() -> Knowledge:
    policies, recipients = reference()
    return Knowledge(map(Policy.from_record, policies), map(Recipient.from_record, recipients))


def test_judged_by_the_same_version_again_it_is_the_same() -> None:
    person = lineage(life(200))
    assert under_policy(person, knowledge(), 1) == person


def test_a_version_that_was_never_accepted_allows_nothing_that_rests_on_it() -> None:
    person = lineage([consent("accept", 0, consent_version=1), row("collect", 1, event_type="app_open", fields=["ip"])])
    before = person["events"][1]
    assert "7" not in before["clauses"]
    after = under_policy(person, knowledge(), 2)["events"][1]
    assert (after["verdict"], after["policy_version"]) == ("violation", 2)
    assert "7" in after["clauses"]
    # A consent is what the person said: no version changes it.
    assert under_policy(person, knowledge(), 2)["events"][0] == person["events"][0]


def test_a_version_that_was_never_published() -> None:
    with pytest.raises(KeyError):
        under_policy(lineage([]), knowledge(), 9)


def test_of_several_revisions_the_highest_is_judged() -> None:
    person = lineage([row("collect", 1, event_type="app_open", fields=["ip"], region="CN", storage_country="CN")])
    both = {**person, "events": [*person["events"], {**person["events"][0], "revision": 1}]}
    [event] = under_policy(both, knowledge(), 1)["events"]
    assert event["revision"] == 1


def test_the_operator_says_who_they_are_or_nothing_is_said(tmp_path: Path) -> None:
    assert operator_of(tmp_path) == Operator()
    (tmp_path / "operator.yaml").write_text("name: Aoxun\nstorage_countries: [CN, NO]\n", encoding="utf-8")
    assert operator_of(tmp_path) == Operator(name="Aoxun", storage_countries=("CN", "NO"))
    other = tmp_path / "other.yaml"
    other.write_text("name: Aoxun\nphone: none\ncountry: china\n", encoding="utf-8")
    with pytest.raises(DocumentError) as told:
        operator_of(tmp_path, other)
    assert {problem.line for problem in told.value.problems} == {2, 3}
    with pytest.raises(OSError, match="missing"):
        operator_of(tmp_path, tmp_path / "missing.yaml")
