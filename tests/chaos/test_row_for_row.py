"""Tagger and loader killed again and again in the middle of a load: the table must equal that of a quiet run, row for
row. And no user id may be found in the bytes that Kafka and ClickHouse keep."""

import csv
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sinks.clickhouse.client import connect
from tests.bytes_on_disk import occurrences
from tests.integration.test_cli_stack import Lineage
from tests.live_files import contents

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
OBSERVED = SHARED / "mobile-consent-dialogs" / "apps_trackers_data_types_initial.android.csv"
RUDDERSTACK = SHARED / "rudderstack-events" / "messages.ndjson"
KILLS = 6


class Killer(threading.Thread):
    """Kills tagger and loader in turn, by process id, at random moments."""

    def __init__(self, data: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._data = data
        self._random = random.Random(seed)
        self._finished = threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        while len(self.killed) < KILLS and not self._finished.wait(self._random.uniform(0.3, 1.2)):
            name = ("tagger", "loader")[len(self.killed) % 2]
            part = json.loads((self._data / "stack.json").read_text())["parts"][name]
            if part["state"] == "running" and part["pid"]:
                os.kill(part["pid"], signal.SIGKILL)
                self.killed.append(name)

    def finish(self) -> None:
        self._finished.set()
        self.join(30)


def rows(lineage: Lineage) -> tuple[list[tuple[Any, ...]], set[frozenset[UUID]]]:
    """All rows without what differs between any two runs (subjects are random; when and where a row was written),
    sorted; and the events of each subject."""
    url = json.loads((lineage.data / "stack.json").read_text())["clickhouse_url"]
    client = connect(url)
    columns = [
        name
        for name, *_ in client.execute("DESCRIBE TABLE lineage")
        if name not in {"subject", "judged_at", "kafka_partition", "kafka_offset"}
    ]
    table = client.execute(f"SELECT {', '.join(columns)} FROM lineage ORDER BY event_id, revision")
    people: dict[UUID, set[UUID]] = {}
    for subject, event in client.execute("SELECT subject, event_id FROM lineage"):
        people.setdefault(subject, set()).add(event)
    client.disconnect()
    return [tuple(map(repr, row)) for row in table], {frozenset(events) for events in people.values()}


def load(lineage: Lineage, files: list[tuple[Path, str]], killer: Killer | None) -> dict[str, int]:
    """Ingests the files, consents first and all of them before anything else, so that no run meets a late fact."""
    produced: dict[str, int] = {}
    for i, (file, mapping) in enumerate(files):
        answer = lineage("ingest", str(file), "--mapping", mapping)
        for topic in ("telemetry", "consent", "sharing"):
            produced[topic] = produced.get(topic, 0) + answer["produced"].get(topic, 0)
        if i == 0:
            lineage("wait", "--timeout", "120")
            if killer is not None:
                killer.start()
    if killer is not None:
        deadline = time.monotonic() + 60
        while len(killer.killed) < KILLS and time.monotonic() < deadline:
            time.sleep(0.2)
        killer.finish()
    lineage("wait", "--timeout", "240")
    return produced


def simulated(folder: Path, maker: Lineage) -> list[tuple[Path, str]]:
    whole = folder / "simulated.jsonl"
    maker("simulate", "--people", "250", "--months", "3", "--seed", "11", "--out", str(whole))
    parts = {True: folder / "consents.jsonl", False: folder / "events.jsonl"}
    with parts[True].open("w") as consents, parts[False].open("w") as events, whole.open() as lines:
        for line in lines:
            (consents if json.loads(line)["topic"] == "consent" else events).write(line)
    return [(parts[True], "jsonl"), (parts[False], "jsonl")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """A simulated load always; behind it the real data of others where it is present."""
    folder = tmp_path_factory.mktemp("input")
    chosen = simulated(folder, Lineage(folder / "unused"))
    for path, mapping in ((OBSERVED, "mobile-consent-dialogs"), (RUDDERSTACK, "rudderstack")):
        if path.exists():
            chosen.append((path, mapping))
    return chosen


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lineage, Lineage]]:
    quiet, disturbed = (Lineage(tmp_path_factory.mktemp(name) / "data") for name in ("quiet", "disturbed"))
    yield quiet, disturbed
    quiet.run("down")
    disturbed.run("down")


def user_ids(files: list[tuple[Path, str]]) -> set[bytes]:
    """User ids of the inputs that are long enough not to be in any bytes by chance, and no source's name with a byte
    behind it, as the tables have them."""
    found: set[str] = set()
    sources = {mapping for _, mapping in files}
    for file, mapping in files:
        with file.open(encoding="utf-8") as lines:
            if mapping == "mobile-consent-dialogs":
                found |= {row["app_id"] for row in csv.DictReader(lines)}
            elif mapping == "jsonl":
                found |= {json.loads(line)["user_id"] for line in lines}
            else:
                messages = [json.loads(line)["message"] for line in lines]
                found |= {m[key] for m in messages for key in ("userId", "anonymousId") if isinstance(m.get(key), str)}
    return {user.encode() for user in found if len(user) >= 9 and user[:-1] not in sources}


def test_killed_workers_leave_the_table_of_a_quiet_run(
    stacks: tuple[Lineage, Lineage], files: list[tuple[Path, str]]
) -> None:
    quiet, disturbed = stacks
    quiet("up", "--background")
    produced = load(quiet, files, None)
    expected = rows(quiet)
    assert len(expected[0]) == sum(produced.values()), "every record is one row"
    quiet("down")

    # The same pepper: event ids that a source lacks are derived with it.
    shutil.copytree(quiet.data / "secrets", disturbed.data / "secrets")
    disturbed("up", "--background")
    killer = Killer(disturbed.data, seed=3)
    assert load(disturbed, files, killer) == produced
    assert len(killer.killed) == KILLS
    table, people = rows(disturbed)
    assert table == expected[0]
    assert people == expected[1]
    restarts = {name: part["restarts"] for name, part in disturbed("status")["parts"].items()}
    assert restarts["tagger"] >= KILLS // 2
    assert restarts["loader"] >= KILLS // 2
    disturbed("down")


def test_the_search_finds_what_is_there() -> None:
    users = {b"com.example.app", b"com.example.application", b"user-0001"}
    for shift in range(9):
        assert occurrences(users, b"x" * shift + b"\0com.example.app\0user-0001") == {b"com.example.app", b"user-0001"}
    assert not occurrences(users, b"user-0002" * 9)


def test_no_user_id_is_in_the_bytes_on_disk(stacks: tuple[Lineage, Lineage], files: list[tuple[Path, str]]) -> None:
    """After the test above: the folders hold all that was loaded."""
    wanted = user_ids(files)
    assert len(wanted) > 200
    searched = 0
    for stack in stacks:
        for path, content in contents(stack.data / "kafka", stack.data / "clickhouse"):
            searched += len(content)
            found = occurrences(wanted, content)
            assert not found, f"{path} holds {sorted(found)[:3]}"
    assert searched > 1_000_000
