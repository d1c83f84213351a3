"""`lineage verify` on the tables that are projected from topics: whom aliases stand for, and how requests stand. Every
change of a row is named, and what was rightly erased is not missed.

One data directory serves the module, and the tests tell one story in their order: each leaves the tables as they were.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_driver import Client

from audit import projection_check
from infra.cli.verify_tables import check_tables, differing, tables_answer
from infra.settings import settings
from processors.pseudonyms import alias
from sinks.clickhouse.client import connect
from streams.sealed_log import SealedLog
from tests.integration.test_cli_stack import RECIPIENTS, Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

LEAVES = "the-one-who-leaves"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    """Some people, and one whose erasure is complete."""
    command = Lineage(tmp_path_factory.mktemp("tables") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS), "--json")
    assert done.returncode == 0, done.stderr
    file = command.simulate("some.jsonl", seed=17)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    seen = next(line for line in lines if line["topic"] == "telemetry")
    leaving = seen | {"user_id": LEAVES, "event_id": str(uuid.uuid4())}
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, leaving]), "utf-8")
    command("ingest", str(file), "--mapping", "jsonl")
    command("wait", "--timeout", "120")
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def client(lineage: Lineage) -> Iterator[Client]:
    made = connect(json.loads((lineage.data / "stack.json").read_text("utf-8"))["clickhouse_url"])
    yield made
    made.disconnect()


def looked(lineage: Lineage, client: Client) -> dict[str, Any]:
    """What the command answers about each of the tables."""
    found = settings({}, data=lineage.data)
    sealed = SealedLog(found.kafka(), found.registry())
    tables = check_tables(found, client, sealed.purged, lambda _name, _n: None)
    answer = tables_answer(tables)
    assert differing(tables) == sum(len(of["differences"]) for of in answer.values())
    assert all(of["different"] == sum(of["by_kind"].values()) for of in answer.values())
    return answer


def differences(lineage: Lineage, client: Client, table: str) -> list[dict[str, Any]]:
    """Of one table; the other has none."""
    answer = looked(lineage, client)
    assert [name for name, of in answer.items() if of["different"] and name != table] == []
    return list(answer[table]["differences"])


def remove(client: Client, table: str, condition: str) -> None:
    client.execute(f"ALTER TABLE {table} DELETE WHERE {condition}", settings={"mutations_sync": 2})


def restore(client: Client, table: str, condition: str = "1") -> None:
    """Rows as they were when the story began."""
    remove(client, table, condition)
    insert(client, f"INTO {table} SELECT * FROM kept_{table} WHERE {condition}")


def insert(client: Client, what: str) -> None:
    # What was inserted before is not to be taken for a repetition.
    client.execute(f"INSERT {what}", settings={"insert_deduplicate": 0})


def link(client: Client, alias_: str, subject: str, version: int) -> None:
    insert(client, f"INTO subjects (alias, subject, version) SELECT unhex('{alias_}'), '{subject}', {version}")


def test_nothing_differs_while_people_come_and_one_is_erased(lineage: Lineage, client: Client) -> None:
    known = looked(lineage, client)["subjects"]["checked"]
    assert known > 50
    request = lineage("erase", LEAVES)["request_id"]
    lineage("ingest", str(lineage.simulate("more.jsonl", seed=18)), "--mapping", "jsonl")
    deadline = time.monotonic() + 120
    while lineage("requests", request)["state"] != "completed":
        assert time.monotonic() < deadline
        # What is on its way is no difference, nor is a purge that is under way.
        assert [of["differences"] for of in looked(lineage, client).values()] == [[], []]
    lineage("wait", "--timeout", "120")
    answer = looked(lineage, client)
    assert [of["differences"] for of in answer.values()] == [[], []]
    assert answer["subjects"]["waiting"] == 0
    assert answer["subjects"]["checked"] > known
    # The policy opens requests of its own, at any time.
    assert answer["erasure_requests"]["checked"] >= 1
    assert client.execute("SELECT count() FROM subjects FINAL") == [(answer["subjects"]["checked"],)]
    done = lineage.run("verify", "--tampering")
    assert done.returncode == 0, done.stdout
    assert "subjects: " in done.stdout
    assert re.search(r"erasure_requests: \d+ compared with the topic erasure-state; ", done.stdout)
    for table in ("subjects", "erasure_requests"):
        client.execute(f"CREATE TABLE kept_{table} AS {table}")
        client.execute(f"INSERT INTO kept_{table} SELECT * FROM {table} FINAL")


def test_an_alias_that_leads_to_somebody_else_is_named(lineage: Lineage, client: Client) -> None:
    one, other = client.execute(
        f"SELECT lower(hex(alias)), toString(subject), version FROM subjects FINAL WHERE subject != '{NOBODY}' LIMIT 2"
    )
    # In place of the row; beside it; and in front of it, with a version that the topic has not reached.
    for version in (one[2], 10**9):
        link(client, one[0], other[1], version)
        [found] = differences(lineage, client, "subjects")
        # The engine may have put the new row in the place of the old one by now.
        assert found["kind"] in (("added", "changed") if version == one[2] else ("changed",))
        assert (found["alias"], found["version"]) == (one[0], version)
        assert found["columns"]["subject"] == {"stored": other[1], "topic": one[1]}
        restore(client, "subjects")
    remove(client, "subjects", f"alias = unhex('{one[0]}')")
    link(client, one[0], other[1], one[2])
    [found] = differences(lineage, client, "subjects")
    assert (found["kind"], found["alias"], list(found["columns"])) == ("changed", one[0], ["subject"])
    shown = lineage.run("verify", "--tampering")
    assert shown.returncode == 1
    assert one[0] in shown.stdout
    assert "1 changed" in shown.stdout
    restore(client, "subjects")
    assert differences(lineage, client, "subjects") == []


def test_links_that_were_taken_out_or_put_in_are_named(lineage: Lineage, client: Client) -> None:
    [(key,)] = client.execute(f"SELECT lower(hex(alias)) FROM subjects FINAL WHERE subject != '{NOBODY}' LIMIT 1")
    remove(client, "subjects", f"alias = unhex('{key}')")
    stranger, subject = uuid.uuid4().hex, str(uuid.uuid4())
    link(client, stranger, subject, 1)
    found = differences(lineage, client, "subjects")
    assert {(one["kind"], one["alias"]) for one in found} == {("removed", key), ("added", stranger)}
    restore(client, "subjects")
    # Without its whole table, everybody is missing.
    client.execute("TRUNCATE TABLE subjects")
    answer = looked(lineage, client)["subjects"]
    assert answer["by_kind"] == {"removed": answer["checked"]}
    restore(client, "subjects")
    assert differences(lineage, client, "subjects") == []


def test_a_link_that_comes_back_after_the_erasure_is_named(
    lineage: Lineage, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_check, "SETTLE_SECONDS", 1.0)
    key = alias(settings({}, data=lineage.data).pepper(), LEAVES).hex()
    [(subject, bare)] = client.execute(f"SELECT subject, version FROM subjects FINAL WHERE alias = unhex('{key}')")
    assert str(subject) == NOBODY
    found = settings({}, data=lineage.data)
    [gone] = SealedLog(found.kafka(), found.registry()).purged
    back = str(uuid.UUID(bytes=gone))
    # Beneath the row that says `erased`: nobody is led there, but the link stands in the table.
    link(client, key, back, bare - 1)
    expected = {"kind": "survived", "alias": key, "version": bare - 1, "columns": {}}
    assert differences(lineage, client, "subjects") == [expected]
    restore(client, "subjects")
    # In its place.
    link(client, key, back, bare + 10**9)
    assert {one["kind"] for one in differences(lineage, client, "subjects")} == {"changed", "survived"}
    restore(client, "subjects")
    assert differences(lineage, client, "subjects") == []


def test_a_request_that_was_changed_is_named_whatever_column_it_is_in(lineage: Lineage, client: Client) -> None:
    columns = client.execute(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'erasure_requests' "
        "AND name NOT IN ('request_id', 'version', 'updated_at')"
    )
    assert len(columns) > 20
    ours, kept = _ended(client)
    remove(client, "erasure_requests", ours)
    others = ", ".join(f"{_other(name, type_)} AS `{name}`" for name, type_ in columns)
    insert(client, f"INTO erasure_requests SELECT * REPLACE ({others}) {kept}")
    [found] = differences(lineage, client, "erasure_requests")
    assert (found["kind"], found["request_id"] in ours.replace("-", "")) == ("changed", True)
    assert found["columns"].keys() == {name for name, _ in columns}
    assert all(values["stored"] != values["topic"] for values in found["columns"].values())
    restore(client, "erasure_requests", ours)


def test_requests_that_were_taken_out_or_put_in_are_named(lineage: Lineage, client: Client) -> None:
    ours, kept = _ended(client)
    forged = uuid.uuid4()
    insert(client, f"INTO erasure_requests SELECT * REPLACE (toUUID('{forged}') AS request_id) {kept}")
    [found] = differences(lineage, client, "erasure_requests")
    assert (found["kind"], found["request_id"]) == ("added", forged.hex)
    remove(client, "erasure_requests", f"request_id = '{forged}' OR {ours}")
    [found] = differences(lineage, client, "erasure_requests")
    assert (found["kind"], found["request_id"] in ours.replace("-", "")) == ("removed", True)
    restore(client, "erasure_requests", ours)
    assert differences(lineage, client, "erasure_requests") == []


def _ended(client: Client) -> tuple[str, str]:
    """A condition for the row of the request that is over, and the end of a query for it as it was."""
    [(request,)] = client.execute("SELECT toString(request_id) FROM kept_erasure_requests WHERE isNotNull(ended_at)")
    ours = f"request_id = '{request}'"
    return ours, f"FROM (SELECT * FROM kept_erasure_requests WHERE {ours})"


def _other(column: str, type_: str) -> str:
    """An expression for another value."""
    if type_.startswith("Array"):
        if not column.startswith("targets."):
            return f"arrayConcat({column}, [''])"
        return f"arrayMap(x -> {_other('x', type_[6:-1])}, `{column}`)"
    if "DateTime64" in type_:
        return f"ifNull({column}, toDateTime64(0, 3, 'UTC')) + INTERVAL 1 MILLISECOND"
    if "Int" in type_:
        return f"ifNull({column}, 0) + 1"
    return f"toUUID('{uuid.uuid4()}')" if "UUID" in type_ else f"concat({column}, ' ')"
