"""`lineage verify` on the real parts: every change of a row, in any column, is found and named; every row that is taken
out or put in; and what was rightly erased is not.

One data directory serves the module, and the tests tell one story in their order: each leaves the table as it was.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client

from infra.cli.verify import _trusted, log_answer, look_for_tampering, rows_answer
from infra.settings import generate_signing_keys, settings
from sinks.clickhouse.client import connect
from streams.serdes import Serializer
from streams.topics import ERASED_SUBJECTS
from tests.integration.test_cli_stack import RECIPIENTS, Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

LEAVES = "the-one-who-leaves"


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("tampered") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS), "--json")
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@contextmanager
def table(lineage: Lineage) -> Iterator[Client]:
    client = connect(json.loads((lineage.data / "stack.json").read_text("utf-8"))["clickhouse_url"])
    try:
        yield client
    finally:
        client.disconnect()


def looked(lineage: Lineage) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the command answers about the log, and about the rows."""
    found = settings({}, data=lineage.data)
    log, rows, _ = look_for_tampering(found, _trusted(found, None))
    return log_answer(log), rows_answer(rows)


def differences(lineage: Lineage) -> list[dict[str, Any]]:
    """Of the rows; the log has none."""
    log, rows = looked(lineage)
    assert log["differences"] == []
    assert rows["different"] == len(rows["differences"]) == sum(rows["by_kind"].values())
    return list(rows["differences"])


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def ingest(lineage: Lineage, file: Path) -> None:
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")


@pytest.fixture(scope="module")
def loaded(lineage: Lineage) -> Lineage:
    """Events of some people, and of one who will leave."""
    file = lineage.simulate("some.jsonl", seed=11)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    collections = [line for line in lines if line["topic"] == "telemetry"][:20]
    leaving = [line | {"user_id": LEAVES, "event_id": str(uuid.uuid4())} for line in collections]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines + leaving), "utf-8")
    ingest(lineage, file)
    return lineage


def places(wanted: Iterable[tuple[int, int]]) -> str:
    """A condition: rows at these (partition, offset)."""
    return f"(kafka_partition, kafka_offset) IN ({', '.join(map(str, wanted))})"


def restore(lineage: Lineage, wanted: Iterable[tuple[int, int]]) -> None:
    """Rows as they were, from the copy `kept`."""
    with table(lineage) as client:
        client.execute(f"INSERT INTO lineage SELECT * FROM kept WHERE {places(wanted)}")


def remove(client: Client, condition: str) -> None:
    client.execute(f"ALTER TABLE lineage DELETE WHERE {condition}", settings={"mutations_sync": 2})


def test_everything_is_sealed_and_nothing_differs(loaded: Lineage) -> None:
    def is_sealed() -> bool:
        log, rows = looked(loaded)
        assert (log["differences"], rows["differences"]) == ([], [])
        assert log["records"] == rows["checked"] > 5000
        return bool(log["sealed"] == log["records"])

    until(is_sealed)
    with table(loaded) as client:
        client.execute("CREATE TABLE kept AS lineage")
        client.execute("INSERT INTO kept SELECT * FROM lineage")


def other_value(column: str, type_: str) -> str:
    """An expression for a value that differs as little as can be."""
    if type_.startswith("Enum8"):
        names = [item.split(" = ")[0] for item in type_[6:-1].split(", ")]
        return f"CAST(if(toString({column}) = {names[0]}, {names[1]}, {names[0]}), {_quoted(type_)})"
    if "DateTime64" in type_:
        return f"ifNull({column}, toDateTime64(0, 3, 'UTC')) + INTERVAL 1 MILLISECOND"
    if type_.startswith("Array"):
        return f"arrayConcat({column}, [''])"
    if "Bool" in type_:
        return f"NOT ifNull({column}, true)"
    if "String" in type_:
        # Nothing, and an empty text, are not the same.
        return f"if(isNull({column}), '', concat(assumeNotNull({column}), ' '))"
    if type_ == "UUID":
        return f"reinterpretAsUUID(bitXor(reinterpretAsUInt128({column}), toUInt128(1)))"
    return f"{column} + 1"


def _quoted(type_: str) -> str:
    return "'" + type_.replace("'", "\\'") + "'"


def test_a_value_that_was_changed_is_named_whatever_column_it_is_in(loaded: Lineage) -> None:
    """One row for each column: collections, disclosures and consents in turn."""
    with table(loaded) as client:
        columns = client.execute(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'lineage'"
        )
        kinds = ("collect", "share", "consent")
        wanted: dict[tuple[int, int], tuple[str, str]] = {}
        for number, (name, _) in enumerate(columns):
            if name.startswith("kafka_"):
                continue
            [(partition, offset, event_id)] = client.execute(
                "SELECT kafka_partition, kafka_offset, toString(event_id) FROM kept WHERE activity = %(kind)s "
                "ORDER BY event_id LIMIT 1 OFFSET %(number)s",
                {"kind": kinds[number % len(kinds)], "number": number},
            )
            wanted[partition, offset] = (name, event_id)
        remove(client, places(wanted))
        types = dict(columns)
        changed = [
            f"SELECT * REPLACE ({other_value(name, types[name])} AS {name}) FROM kept WHERE {places([place])}"
            for place, (name, _) in wanted.items()
        ]
        client.execute(f"INSERT INTO lineage {' UNION ALL '.join(changed)}")
    assert len(wanted) > 30
    found = {(one["partition"], one["offset"]): one for one in differences(loaded)}
    assert found.keys() == wanted.keys()
    for place, (name, event_id) in wanted.items():
        assert (found[place]["kind"], found[place]["event_id"]) == ("changed", event_id)
        assert list(found[place]["columns"]) == [name]
        values = found[place]["columns"][name]
        assert values["stored"] != values["log"]
    shown = loaded.run("verify", "--tampering", "--limit", "3")
    assert shown.returncode == 1
    assert f"{len(wanted)} changed" in shown.stdout
    with table(loaded) as client:
        remove(client, places(wanted))
    # And without them, each is missing.
    assert {(one["partition"], one["offset"], one["kind"]) for one in differences(loaded)} == {
        (*place, "removed") for place in wanted
    }
    restore(loaded, wanted)
    assert differences(loaded) == []


def test_one_row_that_was_deleted_is_named(loaded: Lineage) -> None:
    with table(loaded) as client:
        [(partition, offset, event_id)] = client.execute(
            "SELECT kafka_partition, kafka_offset, toString(event_id) FROM lineage ORDER BY event_id LIMIT 1"
        )
        # The row, not the event: a late fact may have given it a revision, which is a row of its own.
        remove(client, places([(partition, offset)]))
    expected = {"kind": "removed", "event_id": event_id, "partition": partition, "offset": offset, "columns": {}}
    assert differences(loaded) == [expected]
    restore(loaded, [(partition, offset)])


@pytest.mark.parametrize(
    ("replaced", "columns"),
    [
        ("event_id AS event_id", set()),
        ("toUUID('{forged}') AS event_id", {"event_id"}),
        ("'lawful' AS verdict, toUInt64(revision + 1) AS revision", {"verdict", "revision"}),
        ("toUInt64(99999999) AS kafka_offset", set()),
        ("toUInt16(999) AS kafka_partition", set()),
        ("toUInt64({gap}) AS kafka_offset", set()),
    ],
    ids=["its double", "another event in its place", "a forged revision", "behind the log", "no partition", "a gap"],
)
def test_one_row_that_was_added_is_named(loaded: Lineage, replaced: str, columns: set[str]) -> None:
    forged = str(uuid.uuid4())
    with table(loaded) as client:
        # Transactions leave markers in the log: offsets without a record.
        [(partition, gap)] = client.execute(
            "SELECT kafka_partition, min(kafka_offset) + 1 AS gap FROM kept AS k "
            "WHERE (kafka_partition, kafka_offset + 1) NOT IN (SELECT kafka_partition, kafka_offset FROM kept) "
            "GROUP BY kafka_partition ORDER BY kafka_partition LIMIT 1"
        )
        [(offset, event_id)] = client.execute(
            "SELECT kafka_offset, toString(event_id) FROM kept "
            f"WHERE kafka_partition = {partition} AND verdict = 'violation' ORDER BY kafka_offset LIMIT 1"
        )
        before = client.execute("SELECT count() FROM lineage")
        client.execute(
            f"INSERT INTO lineage SELECT * REPLACE ({replaced.format(forged=forged, gap=gap)}) "
            f"FROM (SELECT * FROM kept WHERE {places([(partition, offset)])})"
        )
        assert client.execute("SELECT count() FROM lineage") == [(before[0][0] + 1,)]
    [found] = differences(loaded)
    assert found["kind"] == "added"
    assert found["event_id"] == (forged if "forged" in replaced else event_id)
    assert set(found["columns"]) == columns
    with table(loaded) as client:
        client.execute("TRUNCATE TABLE lineage")
        # Whether all is as it was, the next test tells: it finds its own difference and no other.
        client.execute("INSERT INTO lineage SELECT * FROM kept")


def test_a_head_that_was_written_down_is_in_the_chain_of_later(loaded: Lineage) -> None:
    told = loaded.run("verify", "--head")
    assert told.returncode == 0, told.stderr
    file = loaded.data.parent / "heads.json"
    file.write_text(told.stdout)
    heads = json.loads(told.stdout)["heads"]
    assert loaded.run("verify", "--head", "--since-heads", str(file)).returncode == 0
    first = next(iter(heads))
    heads[first]["hash"] = "00" * 32
    file.write_text(json.dumps({"heads": heads}))
    done = loaded.run("verify", "--tampering", "--since-heads", str(file))
    assert done.returncode == 1
    assert "cut off or rewritten" in done.stdout


def test_an_auditor_needs_nothing_but_the_public_key(loaded: Lineage, tmp_path: Path) -> None:
    public = loaded.data / "secrets" / "seal-public.pem"
    aside = public.rename(tmp_path / "given.pem")
    try:
        assert loaded.run("verify", "--tampering", "--seals-key", str(aside)).returncode == 0
        (tmp_path / "other.pem").write_bytes(generate_signing_keys()[1])
        done = loaded.run("verify", "--head", "--seals-key", str(tmp_path / "other.pem"))
        assert done.returncode == 1
        assert "not trusted here" in done.stderr
        assert "seal-public.pem" in loaded.run("verify", "--tampering").stderr
    finally:
        aside.rename(public)


def test_a_loader_that_is_killed_leaves_one_chain(loaded: Lineage) -> None:
    before = looked(loaded)[0]["records"]
    for seed in (12, 13, 14):
        loaded("ingest", str(loaded.simulate("more.jsonl", seed=seed, people=30)), "--mapping", "jsonl")
        part = json.loads((loaded.data / "stack.json").read_text())["parts"]["loader"]
        if part["pid"]:
            os.kill(part["pid"], signal.SIGKILL)
        # What is on its way is no difference.
        assert differences(loaded) == []
    loaded("wait", "--timeout", "120")

    def is_sealed() -> bool:
        log, rows = looked(loaded)
        assert (log["differences"], rows["differences"]) == ([], [])
        return bool(log["sealed"] == log["records"] > before)

    until(is_sealed)
    assert loaded("status")["parts"]["loader"]["restarts"] >= 1


def test_whoever_is_erased_is_not_missed(loaded: Lineage) -> None:
    request = loaded("erase", LEAVES)["request_id"]

    def is_over() -> bool:
        # Nor is a purge that is under way.
        log, rows = looked(loaded)
        assert (log["differences"], rows["differences"], rows["uncertified"]) == ([], [], 0)
        return bool(loaded("requests", request)["state"] == "completed")

    until(is_over, 120)
    with table(loaded) as client:
        assert client.execute("SELECT count() FROM lineage WHERE request_id = %(id)s", {"id": request}) == [(0,)]
    log, rows = looked(loaded)
    assert (log["differences"], rows["differences"], rows["uncertified"]) == ([], [], 0)
    # Twenty events, what was asked, and that it is done.
    assert rows["erased"] == 22
    assert "22 of erased people" in loaded.run("verify", "--tampering").stdout


def test_a_row_that_comes_back_after_the_erasure_is_named(loaded: Lineage) -> None:
    with table(loaded) as client:
        gone = "event_id NOT IN (SELECT event_id FROM lineage)"
        client.execute(f"INSERT INTO lineage SELECT * FROM kept WHERE {gone} LIMIT 1")
        [found] = differences(loaded)
        assert found["kind"] == "survived"
        remove(client, f"event_id = '{found['event_id']}'")


def test_somebody_who_is_only_said_to_be_erased_is_missed(loaded: Lineage) -> None:
    with table(loaded) as client:
        [(subject, partition, n)] = client.execute(
            "SELECT subject, kafka_partition, count() AS n FROM lineage GROUP BY ALL ORDER BY n LIMIT 1"
        )
        now = int(time.time() * 1000)
        value = Serializer("SubjectErased").encode({"erased_at": now, "purged_at": now})
        producer = settings({}, data=loaded.data).kafka().producer()
        producer.produce(ERASED_SUBJECTS, value, subject.bytes, partition)
        producer.flush()
        remove(client, f"subject = '{subject}'")
    _, rows = looked(loaded)
    assert rows["uncertified"] == 1
    assert rows["by_kind"] == {"removed": n}
    assert {one["partition"] for one in rows["differences"]} == {partition}
    assert all(one["event_id"] for one in rows["differences"])
