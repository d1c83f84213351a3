"""Late facts through the whole stack: events first, then consents, policies and recipients that govern them; the
workflow is killed meanwhile. Whatever came when, every event ends with the verdict of a judge who knows all facts."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_stack import AMENDMENT, RECIPIENTS, Lineage, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("late") / "data")
    done = command.run("up", "--background", "--json")
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def files(lineage: Lineage) -> dict[str, Path]:
    """Simulated lives, facts apart from what they govern."""
    lines = lineage.simulate("lives.jsonl", seed=11, people=80).read_text("utf-8").splitlines()
    split = {"facts": [], "events": []}  # type: dict[str, list[str]]
    for line in lines:
        life = json.loads(line)
        # Who leaves is erased without being asked, and those whose data nobody else got at once: they are counted no
        # more. The last test has leavers of its own, who wait for their recipients.
        if life.get("action") != "leave":
            split["facts" if life["topic"] == "consent" else "events"].append(line)
    split["half"], split["rest"] = split["facts"][::2], split["facts"][1::2]
    paths = {}
    for name, content in split.items():
        paths[name] = lineage.data.parent / f"{name}.jsonl"
        paths[name].write_text("\n".join(content) + "\n", "utf-8")
    return paths


def ingest(lineage: Lineage, file: Path) -> None:
    lineage("ingest", str(file), "--mapping", "jsonl")


def assert_verified(lineage: Lineage) -> dict[str, Any]:
    lineage("wait", "--timeout", "120")
    found = lineage("verify")
    assert found["different"] == 0
    totals: dict[str, Any] = lineage("totals")
    return totals


def revisions(lineage: Lineage, users: list[str]) -> Counter[str]:
    """Event id → how many revisions it has."""
    return Counter(e["event_id"] for user in users for e in lineage("subject", user, "--all-revisions")["events"])


def people(file: Path, most: int = 5) -> list[str]:
    return [
        u for u, _ in Counter(json.loads(x)["user_id"] for x in file.read_text("utf-8").splitlines()).most_common(most)
    ]


def judged(lineage: Lineage, users: list[str]) -> dict[str, tuple[Any, ...]]:
    return {
        e["event_id"]: (e["verdict"], e["clauses"], e["legal_basis"], e["policy_version"], e["revision"])
        for user in users
        for e in lineage("subject", user)["events"]
        if e["activity"] != "consent"
    }


def test_consents_that_come_after_all_events(lineage: Lineage, files: dict[str, Path]) -> None:
    ingest(lineage, files["events"])
    before = assert_verified(lineage)
    assert "7" in before["by_clause"]
    users = people(files["events"])
    first = judged(lineage, users)
    assert all(revision == 0 for *_, revision in first.values())
    ingest(lineage, files["half"])
    after = assert_verified(lineage)
    assert after["by_verdict"] != before["by_verdict"]
    assert sum(after["by_verdict"].values()) == sum(before["by_verdict"].values())
    second = judged(lineage, users)
    changed = {event for event, one in second.items() if one[:4] != first[event][:4]}
    assert changed
    assert {event for event, one in second.items() if one[4] > 0} >= changed
    # Exactly what changed got a revision, and each of them one of each change.
    for event, number in revisions(lineage, users).items():
        assert event in changed or event not in first or number == 1


def test_a_killed_workflow_loses_nothing(lineage: Lineage, files: dict[str, Path]) -> None:
    ingest(lineage, files["rest"])
    for _ in range(2):
        before = lineage("status")["parts"]["revisions"]
        os.kill(before["pid"], signal.SIGKILL)
        eventually(lambda old=before: lineage("status")["parts"]["revisions"]["pid"] not in (old["pid"], None))  # type: ignore[misc]
    assert_verified(lineage)
    assert lineage("status")["parts"]["revisions"]["restarts"] >= 2


def test_recipients_that_are_registered_late(lineage: Lineage) -> None:
    before = lineage("totals")
    lineage("recipients", "publish", str(RECIPIENTS))
    after = assert_verified(lineage)
    assert after["by_verdict"].get("gap", 0) < before["by_verdict"]["gap"]
    assert after["events"] == before["events"]


def test_a_policy_that_is_published_late(lineage: Lineage) -> None:
    before = lineage("totals")
    would = lineage("retag", "--policy", str(AMENDMENT), "--dry-run")
    assert lineage("totals") == before
    assert would["changed"] > 0
    refused = lineage.run("retag", "--policy", str(AMENDMENT))
    assert refused.returncode == 1
    assert "policy publish" in refused.stderr
    lineage("policy", "publish", str(AMENDMENT))
    after = assert_verified(lineage)
    assert after["by_clause"] != before["by_clause"]
    told = {verdict: count for verdict, count in would["by_verdict"]["after"].items() if count}
    assert {verdict: count for verdict, count in after["by_verdict"].items() if count} == told
    assert lineage("retag", "--policy", str(AMENDMENT), "--dry-run")["changed"] == 0


def test_people_who_left_long_ago_and_say_so_twice(lineage: Lineage, files: dict[str, Path]) -> None:
    users = people(files["events"], 3)
    events = [json.loads(line) for line in files["events"].read_text("utf-8").splitlines()]
    lines = []
    for i, user in enumerate(users):
        times = sorted(event["occurred_at"] for event in events if event["user_id"] == user)
        leave = {"topic": "consent", "user_id": user, "occurred_at": times[len(times) // 4], "action": "leave"}
        lines.append(json.dumps(leave | {"event_id": f"00000000-0000-4000-8000-{i:012d}", "source": "test"}))
    file = lineage.data.parent / "left.jsonl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    before, told = lineage("totals"), revisions(lineage, users)
    ingest(lineage, file)
    after = assert_verified(lineage)
    assert after["by_verdict"]["violation"] > before["by_verdict"]["violation"]
    told_then = revisions(lineage, users)
    assert told_then.total() > told.total() + len(users)
    ingest(lineage, file)
    assert assert_verified(lineage) == after
    assert revisions(lineage, users) == told_then
