"""The local stack by its command, for real: up, ingest, wait, ask, kill what runs, down, and up again.

One data directory serves the whole module, and the tests tell one story in their order.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from infra.settings import settings
from processors.pseudonyms import alias
from schemas import schema_dir
from tests.live_files import contents

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

RECIPIENTS = schema_dir() / "policies" / "recipients-example.yaml"
AMENDMENT = schema_dir() / "policies" / "examples" / "aoxun-v2.yaml"
PARTS = {"kafka", "clickhouse", "tagger", "loader", "links", "revisions", "erasures", "requests", "api"}
SUBJECT_KEYS = {
    "event_id",
    "occurred_at",
    "activity",
    "discloser",
    "recipient",
    "recipient_kind",
    "purpose",
    "data_categories",
    "legal_basis",
    "verdict",
    "clauses",
    "policy_version",
    "revision",
    "hop",
}


@dataclass
class Lineage:
    """The command on one data directory."""

    data: Path

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("LINEAGE_")}
        for kept in ("LINEAGE_MAVEN_REPOSITORY", "LINEAGE_ERASURE_TERM_DAYS"):
            if kept in os.environ:
                env[kept] = os.environ[kept]
        env["LINEAGE_DATA"] = str(self.data)
        command = [sys.executable, "-m", "infra.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)

    def __call__(self, *arguments: str) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    def simulate(self, name: str, seed: int, people: int = 60) -> Path:
        file = self.data.parent / name
        # In the range of the amendment as well.
        self("simulate", "--people", str(people), "--months", "3", "--seed", str(seed), "--out", str(file))
        return file


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("stack") / "data")
    yield command
    command.run("down")


def events_in(*files: Path) -> dict[str, dict[str, Any]]:
    """Event id → event: what must be in the table, each once."""
    lines = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    return {event["event_id"]: event for event in lines}


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_counts(answer: dict[str, Any], events: dict[str, dict[str, Any]]) -> None:
    activities = Counter(
        {"telemetry": "collect", "consent": "consent"}.get(event["topic"]) or event["activity"]
        for event in events.values()
    )
    assert answer["by_activity"] == dict(activities)
    assert answer["events"] == len(events)
    assert sum(answer["by_verdict"].values()) == len(events) - activities["consent"]
    assert answer["subjects"] == len({event["user_id"] for event in events.values()})
    named = Counter(
        event["recipient"] for event in events.values() if event["topic"] == "sharing" and event.get("recipient")
    )
    assert answer["by_recipient"] == dict(named)


def test_nothing_runs_before_up(lineage: Lineage) -> None:
    done = lineage.run("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["parts"] == {}
    assert lineage("down")["stopped"] is False


def test_up_returns_when_everything_runs(lineage: Lineage) -> None:
    done = lineage.run("up", "--background", "--recipients", str(RECIPIENTS), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"kafka", "clickhouse", "api", "parts"} <= answer.keys()
    assert answer["parts"].keys() == PARTS
    for part in answer["parts"].values():
        assert part["state"] == "running"
        assert is_alive(part["pid"])
        assert "lag" in part
    # Nothing is created silently.
    assert "created telemetry" in done.stderr
    assert "migrated: 0001_lineage" in done.stderr
    assert "published version 1" in done.stderr
    for part in PARTS:
        assert re.search(rf"^{part} .*process {answer['parts'][part]['pid']} ", done.stderr, re.MULTILINE)


def test_a_second_up_is_refused(lineage: Lineage) -> None:
    pid = lineage("status")["pid"]
    for arguments in (["up"], ["up", "--background"]):
        done = lineage.run(*arguments)
        assert done.returncode == 1
        assert f"process {pid}" in done.stderr
    assert lineage("status")["parts"].keys() == PARTS


def test_policies_are_published_once_and_never_contradicted(lineage: Lineage, tmp_path: Path) -> None:
    assert lineage("policy", "publish", str(AMENDMENT)) == {"published": ["2"], "unchanged": []}
    assert lineage("policy", "publish", str(AMENDMENT)) == {"published": [], "unchanged": ["2"]}
    assert [policy["version"] for policy in lineage("policy", "list")["policies"]] == [1, 2]
    other = tmp_path / "other.yaml"
    other.write_text(AMENDMENT.read_text("utf-8").replace("response_days: 30", "response_days: 31"), "utf-8")
    done = lineage.run("policy", "publish", str(other))
    assert done.returncode == 1
    assert "response_days" in done.stderr
    assert lineage("policy", "show", "2")["response_days"] == 30


def test_recipients_keep_all_their_entries(lineage: Lineage) -> None:
    told = lineage("recipients", "publish", str(RECIPIENTS))
    assert told["published"] == []
    entries = lineage("recipients", "list")["recipients"]
    assert {f"{entry['id']}@{entry['effective_at']}" for entry in entries} == set(told["unchanged"])


def test_what_is_ingested_is_judged_once_and_counted(lineage: Lineage) -> None:
    file = lineage.simulate("first.jsonl", seed=1)
    events = events_in(file)
    answer = lineage("ingest", str(file), "--mapping", "jsonl")
    lines = len(file.read_text("utf-8").splitlines())
    assert (answer["read"], answer["mapped"], answer["rejected"]) == (lines, lines, 0)
    assert sum(answer["produced"][topic] for topic in ("telemetry", "consent", "sharing")) == lines
    assert not any(lineage("wait", "--timeout", "120")["lag"].values())
    totals = lineage("totals")
    assert totals["dead_letters"] == 0
    assert_counts(totals, events)
    assert set(totals["by_verdict"]) == {"lawful", "violation", "gap"}


def test_a_person_has_their_whole_lineage(lineage: Lineage) -> None:
    events = events_in(lineage.data.parent / "first.jsonl")
    people = Counter(event["user_id"] for event in events.values())
    user, count = people.most_common(1)[0]
    answer = lineage("subject", user)
    assert len(answer["events"]) == count
    assert {event["event_id"] for event in answer["events"]} == {
        event_id for event_id, event in events.items() if event["user_id"] == user
    }
    for event in answer["events"]:
        assert event.keys() >= SUBJECT_KEYS
    times = [event["occurred_at"] for event in answer["events"]]
    assert times == sorted(times)
    half = times[len(times) // 2]
    until = lineage("subject", user, "--as-of", half)
    assert [event["occurred_at"] for event in until["events"]] == [time for time in times if time <= half]
    shown = lineage.run("subject", user)
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == count + 2
    assert lineage("subject", "nobody") == {"subject": None, "events": []}


def test_the_same_file_again_is_the_same_events(lineage: Lineage) -> None:
    file = lineage.data.parent / "first.jsonl"
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")
    assert_counts(lineage("totals"), events_in(file))


def test_killed_workers_come_back_and_nothing_is_lost_or_doubled(lineage: Lineage) -> None:
    first, second = lineage.data.parent / "first.jsonl", lineage.simulate("second.jsonl", seed=2, people=400)
    lineage("ingest", str(second), "--mapping", "jsonl")
    for part in ("tagger", "loader", "links"):
        before = lineage("status")["parts"][part]
        os.kill(before["pid"], signal.SIGKILL)
        eventually(lambda part=part, old=before: lineage("status")["parts"][part]["pid"] not in (old["pid"], None))  # type: ignore[misc]
    lineage("wait", "--timeout", "180")
    status = lineage("status")
    for part in ("tagger", "loader", "links"):
        assert status["parts"][part]["restarts"] >= 1
        assert status["parts"][part]["error"] == "ended by signal 9"
        assert status["parts"][part]["lag"] == 0
    assert_counts(lineage("totals"), events_in(first, second))


def test_a_killed_api_comes_back_where_it_was(lineage: Lineage) -> None:
    before = lineage("status")
    os.kill(before["parts"]["api"]["pid"], signal.SIGKILL)
    eventually(lambda: lineage("status")["parts"]["api"]["restarts"] == 1)
    eventually(lambda: lineage("status")["parts"]["api"]["state"] == "running")
    assert lineage("status")["api"] == before["api"]
    assert httpx.get(f"http://{before['api']}/readyz").json() == {"ready": True, "missing": []}


def test_a_message_that_is_no_event_becomes_a_dead_letter(lineage: Lineage) -> None:
    producer = Producer({"bootstrap.servers": lineage("status")["kafka"], "partitioner": "murmur2"})
    key = alias(settings({}, data=lineage.data).pepper(), "somebody")
    for value in (b"no event at all", b"\xc3\x01" + bytes(8)):
        producer.produce("telemetry", key=key, value=value)
    assert producer.flush(30) == 0
    lineage("wait", "--timeout", "60")
    assert lineage("totals")["dead_letters"] == 2
    told = lineage("dead-letters", "list")
    assert told["count"] == 2
    assert Counter(group["error_class"] for group in told["groups"]) == {"undecodable": 1, "unknown_schema": 1}
    letter = next(letter for letter in told["letters"] if letter["error_class"] == "undecodable")
    assert letter["source"].startswith("telemetry/")
    shown = lineage.run("dead-letters", "show", letter["id"])
    assert "no event at all" in shown.stdout


def test_doctor_finds_nothing_wrong(lineage: Lineage) -> None:
    checks = {check["name"]: check for check in lineage("doctor")["checks"]}
    assert all(check["ok"] for check in checks.values())
    assert {
        "java",
        "jars",
        "engine",
        "stack",
        "kafka",
        "clickhouse",
        "topics",
        "tables",
        "policy",
        "api",
    } <= checks.keys()
    assert lineage("topics", "plan") == {"changes": []}
    assert lineage("migrate", "plan") == {"pending": []}


def test_no_user_id_is_in_the_bytes_of_kafka_or_clickhouse(lineage: Lineage) -> None:
    users = {event["user_id"].encode() for event in events_in(lineage.data.parent / "first.jsonl").values()}
    pattern = re.compile(b"|".join(map(re.escape, sorted(users))))
    searched = 0
    for folder in ("kafka", "clickhouse", "workers", "logs"):
        for file, content in contents(lineage.data / folder):
            searched += 1
            assert pattern.search(content) is None, f"{file} holds a user id"
    assert searched > 100


def test_down_and_up_go_on_with_the_same_data(lineage: Lineage) -> None:
    before, totals = lineage("status"), lineage("totals")
    assert lineage("down") == {"stopped": True, "pid": before["pid"]}
    for part in before["parts"].values():
        assert not is_alive(part["pid"])
    done = lineage.run("up", "--background", "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    where = ("kafka", "clickhouse", "api")
    assert [after[name] for name in where] == [before[name] for name in where]
    assert "created" not in done.stderr
    assert "published" not in done.stderr
    lineage("wait", "--timeout", "60")
    assert lineage("totals") == totals


def test_parts_do_not_outlive_a_killed_supervisor(lineage: Lineage) -> None:
    before, totals = lineage("status"), lineage("totals")
    os.kill(before["pid"], signal.SIGKILL)
    # Whoever starts again at once has to wait for them, and does.
    done = lineage.run("up", "--background", "--json")
    assert done.returncode == 0, done.stderr
    assert not any(is_alive(part["pid"]) for part in before["parts"].values())
    lineage("wait", "--timeout", "60")
    assert lineage("totals") == totals


def test_a_killed_broker_and_database_come_back(lineage: Lineage) -> None:
    file = lineage.simulate("third.jsonl", seed=3)
    totals = lineage("totals")
    for part in ("kafka", "clickhouse"):
        before = lineage("status")["parts"][part]
        os.kill(before["pid"], signal.SIGKILL)
        eventually(
            lambda part=part, old=before: (  # type: ignore[misc]
                (now := lineage("status")["parts"][part])["state"] == "running" and now["pid"] != old["pid"]
            )
        )
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")
    assert lineage("totals")["events"] == totals["events"] + len(events_in(file))


def test_wait_tells_what_is_not_done(lineage: Lineage) -> None:
    lineage("down")
    done = lineage.run("wait", "--timeout", "5")
    assert done.returncode == 1
    assert "lineage up" in done.stderr
