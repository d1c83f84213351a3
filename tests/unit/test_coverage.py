"""The coverage report: rules, tests and decisions by clause, and what makes a clause bare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from audit.coverage import Case, coverage, is_below, read_cases
from infra.cli.main import lineage
from infra.cli.policy_review import OWN_CASES
from processors.histories import judge_history
from schemas import schema_dir
from sinks.clickhouse.queries import Count
from streams.policies import load_policy, policy_record

AOXUN = schema_dir() / "policies" / "aoxun.yaml"
AMENDED = schema_dir() / "policies" / "examples" / "aoxun-v2.yaml"
CASES = read_cases(OWN_CASES)


def by_clause(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {clause["clause"]: clause for clause in answer["clauses"]}


def histories() -> list[dict[str, Any]]:
    files = sorted(OWN_CASES.glob("*.ndjson"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


@pytest.mark.parametrize("history", histories(), ids=lambda history: history["name"])
def test_cases_in_the_format_of_judge(history: dict[str, Any]) -> None:
    for answer in judge_history(history):
        assert {key: answer[key] for key in ("verdict", "clauses", "legal_basis")} == history["expected"]["e"]


@pytest.mark.parametrize("path", [AOXUN, AMENDED], ids=["aoxun", "amended"])
def test_no_clause_of_the_shipped_policies_is_bare(path: Path) -> None:
    answer = coverage(policy_record(load_policy(path)), CASES)
    assert answer["bare"] == []
    clauses = by_clause(answer)
    assert list(clauses) == list(load_policy(path)["clauses"])
    # By a record, not by an event: these and no others.
    assert {name for name, clause in clauses.items() if clause["record"]} == {"1.1", "1.2", "3", "4", "4.3", "8"}
    for clause in clauses.values():
        assert clause["record"] or (clause["rules"] and clause["lawful_tests"] and clause["unlawful_tests"])
    assert "30 days" in clauses["8"]["record"]
    assert clauses["3"]["record"] == "a heading: decided by 3.1, 3.2, 3.3"


def test_a_clause_without_a_test_of_either_kind_is_bare() -> None:
    policy = policy_record(load_policy(AOXUN))
    for verdict in ("lawful", "violation"):
        one_sided = [case for case in CASES if "6" not in (*case.clauses, case.name.replace(":", " ").split()[0])]
        one_sided.append(Case("6 minors", verdict, ("2.1",) if verdict == "lawful" else ("6",)))
        assert coverage(policy, one_sided)["bare"] == ["6"]
    both = [*one_sided, Case("6: minors", "lawful", ("2.1",))]
    assert coverage(policy, both)["bare"] == []


def test_a_clause_without_a_rule_is_bare_whatever_its_tests() -> None:
    policy = policy_record(load_policy(AOXUN))
    policy["clauses"] = {**policy["clauses"], "9": "Cookies"}
    tests = [Case("9 lawful", "lawful", ("2.1",)), Case("9 unlawful", "violation", ("9",))]
    assert coverage(policy, [*CASES, *tests])["bare"] == ["9"]
    assert set(coverage(policy, [])["bare"]) == set(policy["clauses"]) - {"1.1", "1.2", "3", "4", "4.3", "8"}


def test_another_numbering_does_not_borrow_the_records_of_ours() -> None:
    policy = policy_record(load_policy(AOXUN))
    policy["rules"], policy["erasure"] = {**policy["rules"], "minor": "5"}, {}
    assert {"4.3", "6", "8"} <= set(coverage(policy, CASES)["bare"])


def test_rules_and_decisions_are_those_of_the_clause() -> None:
    counts = [
        Count("collect", "lawful", None, ("2.5",), 7),
        Count("share", "violation", "x", ("3.1(4)", "2.5"), 2),
        Count("share", "gap", None, ("3.1",), 1),
    ]
    clauses = by_clause(coverage(policy_record(load_policy(AOXUN)), CASES, counts))
    assert clauses["2.5"]["rules"] == ["purpose push (opt_out, 6 event types)"]
    assert clauses["7"]["rules"] == ["rule no_policy", "rule not_accepted"]
    assert (clauses["2.5"]["decided"], clauses["2.5"]["decided_as"]) == (9, {"lawful": 7, "violation": 2, "gap": 0})
    assert (clauses["3.1"]["decided"], clauses["3.1(4)"]["decided"], clauses["6"]["decided"]) == (1, 2, 0)
    assert "3.1(2) with an order" in clauses["3.1(2)"]["tests"]


@pytest.mark.parametrize(
    ("clause", "other", "expected"),
    [("3.1(2)", "3.1", True), ("3.1", "3", True), ("3.1", "3.1", False), ("3.10", "3.1", False), ("31", "3", False)],
)
def test_parts_of_a_clause(clause: str, other: str, expected: bool) -> None:
    assert is_below(clause, other) is expected


def test_files_that_hold_no_cases_are_refused(tmp_path: Path) -> None:
    for name, text in (("a.ndjson", '{"name": "x"}\n'), ("b.ndjson", "nonsense\n"), ("c.yaml", "cases: [{name: x}]\n")):
        (tmp_path / name).write_text(text, "utf-8")
        with pytest.raises(ValueError, match=name):
            read_cases(tmp_path / name)


def test_the_command(tmp_path: Path) -> None:
    place = ["--data", str(tmp_path)]
    answer = CliRunner().invoke(lineage, ["policy", "coverage", "--json", "--strict", *place])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["bare"] == []
    assert all({"clause", "rules", "tests", "decided"} <= clause.keys() for clause in told["clauses"])
    assert "lineage up" in told["note"]
    cases = tmp_path / "one.ndjson"
    cases.write_text(json.dumps(histories()[0]) + "\n", "utf-8")
    bare = ["policy", "coverage", "--policy", str(AOXUN), "--cases", str(cases), *place]
    assert CliRunner().invoke(lineage, bare).exit_code == 0
    failed = CliRunner().invoke(lineage, [*bare, "--strict"])
    assert failed.exit_code == 1
    assert "3.1(4)" in failed.stderr
