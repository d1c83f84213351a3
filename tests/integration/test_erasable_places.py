"""Every column and every topic is registered: somebody has said what becomes of a person's data there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_driver import Client

from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute, quoted
from sinks.clickhouse.erasable import PLACES, Erased, Exempt, Shown, purged_places
from sinks.clickhouse.erasures import insert_erasure_states
from sinks.clickhouse.looks import Look, insert_looks
from sinks.clickhouse.purge import purge, purge_stale
from streams.topics import CATALOGUE
from tests.integration.test_erasures import erasure_state
from tests.integration.test_purge import disclose, link

COLUMNS = "SELECT table, name FROM system.columns WHERE database = currentDatabase()"


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


def unregistered(columns: Iterable[tuple[str, str]]) -> list[str]:
    """What is to be done about columns that the register does not know, or that it has and the database has not."""
    found, known = set(columns), {(table, name) for table, place in PLACES.items() for name in place.columns}
    return [
        f"{table}.{column}: register it in sinks/clickhouse/erasable.py, and say there what becomes of it when a "
        "person is erased, or why it may stay"
        for table, column in sorted(found - known)
    ] + [
        f"{table}.{column}: is not in the database; take it out of sinks/clickhouse/erasable.py"
        for table, column in sorted(known - found)
    ]


def test_every_column_is_registered(client: Client) -> None:
    problems = unregistered(execute(client, COLUMNS))
    assert not problems, "\n".join(problems)


def test_a_new_column_and_a_new_table_are_told(client: Client) -> None:
    execute(client, "ALTER TABLE lineage ADD COLUMN nickname String")
    execute(client, "CREATE TABLE friends (a UUID) ENGINE = MergeTree ORDER BY a")
    execute(client, "ALTER TABLE subjects DROP COLUMN updated_at")
    problems = unregistered(execute(client, COLUMNS))
    assert [problem.partition(":")[0] for problem in problems] == [
        "friends.a",
        "lineage.nickname",
        "subjects.updated_at",
    ]


def test_every_topic_says_what_becomes_of_a_person() -> None:
    silent = [topic.name for topic in CATALOGUE if len(topic.erasure.split()) < 3 or not topic.erasure.endswith(".")]
    assert not silent, f"{', '.join(silent)}: say in streams/topics.py what becomes of a person's records there"


def test_what_the_register_says_is_so() -> None:
    for name, place in PLACES.items():
        match place:
            case Erased():
                assert place.how, name
                assert place.key in place.columns, name
                assert not place.emptied or {place.key} <= {*place.emptied} <= place.columns, name
            case Exempt():
                assert place.reason, name
                assert not {"subject", "alias"} & place.columns, name
            case Shown():
                assert place.tables <= PLACES.keys(), name
                assert "alias" not in place.columns, f"{name}: with the subject beside it, it would name people"
    assert list(purged_places()) == ["lineage", "subjects", "looks"]


def test_views_are_views_of_what_the_register_says(client: Client) -> None:
    """So they hold nothing that could stay behind."""
    views = execute(
        client, "SELECT name, as_select FROM system.tables WHERE engine = 'View' AND database = currentDatabase()"
    )
    read = {name: set(re.findall(r"(?:FROM|JOIN) \w+\.(\w+)", sql)) for name, sql in views}
    assert read == {name: set(place.tables) for name, place in PLACES.items() if isinstance(place, Shown)}


def tables_with(client: Client, identifier: bytes) -> set[str]:
    """The tables that hold 16 bytes in any column, as bytes or in text, in any version of a row."""
    found, text = set(), str(UUID(bytes=identifier))
    for table, column in execute(client, COLUMNS):
        name = quoted(column)
        as_text = f"lower(toString({name}))"
        sql = f"""SELECT count() FROM {quoted(table)}
            WHERE position({as_text}, %(text)s) > 0 OR position(lower(hex(toString({name}))), %(hex)s) > 0
               OR position({as_text}, %(hex)s) > 0"""
        if execute(client, sql, {"text": text, "hex": identifier.hex()})[0][0]:
            found.add(table)
    return found


def test_no_table_holds_the_person_after_the_request_has_ended(client: Client) -> None:
    """Whatever the register says: all columns of all tables are searched, all versions of their rows."""
    subject, alias, request_id = uuid4(), uuid4().bytes, uuid4()
    disclose(client, [subject])
    link(client, alias, subject, 1)
    insert_looks(client, [Look(uuid4(), 1, "ada", "auditor", "lineage", 1, subject, f"asked by {alias.hex()}")])
    open_state = erasure_state(request_id, alias=alias, subject=subject.bytes)
    insert_erasure_states(client, [open_state], [1], "open")
    assert tables_with(client, subject.bytes) == {"lineage", "subjects", "looks", "disclosures", "looks_taken"}
    assert tables_with(client, alias) == {"subjects", "erasing", "looks", "looks_taken"}

    purge(client, [subject])
    ended = erasure_state(request_id, state="completed", ended_at=open_state["received_at"] + 1, version=2)
    insert_erasure_states(client, [ended], [2], "ended")
    purge_stale(client, "erasing")

    assert tables_with(client, subject.bytes) == tables_with(client, alias) == set()
    assert tables_with(client, request_id.bytes) == {"erasure_requests", "erasures"}, (
        "the search must be able to find something"
    )
