"""Both judges on worked answers: our own, and those beside the verdicts page where somebody has them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from audit import independent_histories
from infra.cli.main import lineage
from processors import histories
from tests.unit.case_files import worked_cases
from tests.unit.own_cases import FILE, own_cases

JUDGES = {"processors": histories.judge_history, "independent": independent_histories.judge_history}
CITED = (
    *("1", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"),
    *("3.1", "3.1(1)", "3.1(2)", "3.1(3)", "3.1(4)", "3.2", "3.2(1)", "3.2(2)", "3.3", "3.3(1)", "3.3(2)"),
    *("4.1", "4.2", "5", "6", "7"),
)


def answers(judge: str, history: dict[str, Any]) -> dict[str, Any]:
    told = JUDGES[judge](history)
    return {one["event_id"]: {name: one[name] for name in ("verdict", "clauses", "legal_basis")} for one in told}


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("history", own_cases(), ids=lambda history: history["name"])
def test_own_case(history: dict[str, Any], judge: str) -> None:
    assert answers(judge, history) == history["expected"]


@pytest.mark.parametrize("case", list(worked_cases()), ids=lambda case: case.name)
def test_worked_case(case: Any) -> None:
    expected = {"verdict": case.verdict, "clauses": case.clauses, "legal_basis": case.legal_basis}
    assert answers("independent", case.history) == {"e": expected}


@pytest.mark.parametrize("clause", CITED)
def test_every_clause_has_lawful_and_unlawful_cases(clause: str) -> None:
    named = [history for history in own_cases() if history["name"].startswith(f"{clause}: ")]
    verdicts = [answer["verdict"] for history in named for answer in history["expected"].values()]
    assert "lawful" in verdicts
    assert "violation" in verdicts


def test_names_are_told_apart() -> None:
    names = [history["name"] for history in own_cases()]
    assert len(set(names)) == len(names)


def published_cases() -> Path | None:
    """The worked histories beside the verdicts page: not part of the project, but judged where somebody has them."""
    path = Path(__file__).resolve().parents[2].parent / "shared" / "policy" / "cases.ndjson"
    return path if path.exists() else None


@pytest.mark.skipif(published_cases() is None, reason="no ../shared/policy beside the project")
@pytest.mark.parametrize("judge", JUDGES)
def test_published_cases(judge: str) -> None:
    path = published_cases()
    assert path is not None
    cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [case["name"] for case in cases if answers(judge, case) != case["expected"]] == []


def test_a_policy_may_state_its_own_clauses() -> None:
    [history] = [case for case in own_cases() if case["name"] == "3.1(2): authority without an order"]
    policies = [{**policy, "rules": {"share_authority": "A9"}} for policy in history["policies"]]
    for judge in JUDGES:
        assert answers(judge, {**history, "policies": policies})["e"]["clauses"] == ["A9"]


def test_a_time_without_offset_is_refused() -> None:
    history = {**own_cases()[0], "erased": [{"subject": "s", "occurred_at": "2026-01-01T00:00:00"}]}
    with pytest.raises(ValueError, match="without offset"):
        independent_histories.judge_history(history)


@pytest.mark.parametrize("option", [[], ["--independent"]])
def test_the_command_asks_either_judge(option: list[str]) -> None:
    done = CliRunner().invoke(lineage, ["judge", str(FILE), *option])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [
        (one["name"], one["event_id"], {name: one[name] for name in ("verdict", "clauses", "legal_basis")})
        for one in told
    ] == [(case["name"], event_id, answer) for case in own_cases() for event_id, answer in case["expected"].items()]


def test_the_independent_judge_imports_nothing_of_the_processors() -> None:
    code = "import sys, audit.independent_histories, audit.verify; print([m for m in sys.modules if 'processors' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
