"""`lineage verify` on the real parts: what the tagger judged is confirmed, and whatever is tampered with is named.

Consents are loaded before what they govern, so that no verdict waits for a revision. One data directory serves the
module, and the tests tell one story in their order.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client

from sinks.clickhouse.client import connect
from tests.integration.test_cli_stack import RECIPIENTS, Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("verified") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS), "--json")
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def events(lineage: Lineage) -> dict[str, dict[str, Any]]:
    """What was ingested but the consents, by id."""
    lines = [json.loads(line) for line in lineage.simulate("all.jsonl", seed=11).read_text("utf-8").splitlines()]
    for name, wanted in (("consents", True), ("events", False)):
        file: Path = lineage.data.parent / f"{name}.jsonl"
        chosen = [line for line in lines if (line["topic"] == "consent") is wanted]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in chosen), "utf-8")
        lineage("ingest", str(file), "--mapping", "jsonl")
        lineage("wait", "--timeout", "120")
    return {line["event_id"]: line for line in lines if line["topic"] != "consent"}


@contextmanager
def table(lineage: Lineage) -> Iterator[Client]:
    client = connect(json.loads((lineage.data / "stack.json").read_text("utf-8"))["clickhouse_url"])
    try:
        yield client
    finally:
        client.disconnect()


def update(lineage: Lineage, event_id: str, change: str) -> None:
    with table(lineage) as client:
        client.execute(
            f"ALTER TABLE lineage UPDATE {change} WHERE event_id = %(id)s",
            {"id": event_id},
            settings={"mutations_sync": 2},
        )


def differences(lineage: Lineage) -> list[dict[str, Any]]:
    done = lineage.run("verify", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["differences"] else 0), done.stderr
    assert answer["different"] == len(answer["differences"])
    return list(answer["differences"])


def a_row(lineage: Lineage, verdict: str) -> dict[str, Any]:
    """Some event with that verdict, and what the table says of it."""
    with table(lineage) as client:
        [row] = client.execute(
            "SELECT toString(event_id), verdict, clauses, legal_basis FROM lineage WHERE verdict = %(verdict)s "
            "ORDER BY occurred_at LIMIT 1",
            {"verdict": verdict},
        )
    return {"event_id": row[0], "told": {"verdict": row[1], "clauses": row[2], "legal_basis": row[3]}}


def test_an_empty_log_has_no_differences(lineage: Lineage) -> None:
    answer = lineage("verify")
    assert (answer["checked"], answer["different"], answer["differences"]) == (0, 0, [])


def test_every_verdict_is_confirmed(lineage: Lineage, events: dict[str, dict[str, Any]]) -> None:
    answer = lineage("verify")
    assert (answer["checked"], answer["different"], answer["differences"]) == (len(events), 0, [])
    shown = lineage.run("verify")
    assert shown.returncode == 0
    assert f"{len(events):,} events checked, no differences" in shown.stdout


@pytest.mark.parametrize(
    ("verdict", "change", "reason", "told"),
    [
        ("violation", "verdict = 'lawful'", "verdict", {"verdict": "lawful"}),
        ("violation", "clauses = ['9.9']", "clauses", {"clauses": ["9.9"]}),
        ("lawful", "legal_basis = 'legal_obligation'", "legal_basis", {"legal_basis": "legal_obligation"}),
    ],
)
def test_a_changed_row_is_named(
    lineage: Lineage, events: dict[str, Any], verdict: str, change: str, reason: str, told: dict[str, Any]
) -> None:
    row = a_row(lineage, verdict)
    update(lineage, row["event_id"], change)
    assert differences(lineage) == [
        {
            "event_id": row["event_id"],
            "reason": reason,
            "stored": row["told"] | told,
            "recomputed": row["told"],
        }
    ]
    [name] = told
    # Whether that undoes it, the next test tells: it expects no difference but its own.
    update(lineage, row["event_id"], f"{name} = {row['told'][name]!r}")


def test_a_forged_revision_is_named(lineage: Lineage, events: dict[str, Any]) -> None:
    row = a_row(lineage, "violation")
    with table(lineage) as client:
        client.execute(
            "INSERT INTO lineage SELECT * REPLACE (toUInt64(1000000) AS revision, 'lawful' AS verdict) "
            "FROM lineage WHERE event_id = %(id)s",
            {"id": row["event_id"]},
        )
    assert [(one["event_id"], one["reason"]) for one in differences(lineage)] == [(row["event_id"], "verdict")]
    shown = lineage.run("verify")
    assert shown.returncode == 1
    assert row["event_id"] in shown.stdout
    remove(lineage, "revision = 1000000")


def remove(lineage: Lineage, condition: str) -> None:
    with table(lineage) as client:
        client.execute(f"ALTER TABLE lineage DELETE WHERE {condition}", settings={"mutations_sync": 2})


@pytest.mark.parametrize(
    "place", ["kafka_offset", "toUInt64(99999999) AS kafka_offset", "toUInt16(999) AS kafka_partition"]
)
def test_a_row_without_a_record_is_named(lineage: Lineage, events: dict[str, Any], place: str) -> None:
    row, forged = a_row(lineage, "lawful"), str(uuid.uuid4())
    replaced = f"toUUID('{forged}') AS event_id" + (f", {place}" if " AS " in place else "")
    with table(lineage) as client:
        client.execute(
            f"INSERT INTO lineage SELECT * REPLACE ({replaced}) FROM (SELECT * FROM lineage WHERE event_id = %(id)s)",
            {"id": row["event_id"]},
        )
    assert differences(lineage) == [
        {"event_id": forged, "reason": "not_in_log", "stored": row["told"], "recomputed": None}
    ]
    remove(lineage, f"event_id = '{forged}'")


def test_a_missing_row_is_named(lineage: Lineage, events: dict[str, Any]) -> None:
    row = a_row(lineage, "gap")
    remove(lineage, f"event_id = '{row['event_id']}'")
    assert differences(lineage) == [
        {"event_id": row["event_id"], "reason": "missing_in_table", "stored": None, "recomputed": row["told"]}
    ]
