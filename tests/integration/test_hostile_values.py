"""Hostile values through every function of sinks/clickhouse that an auditor's filters reach, on the real engine: each
is a value like any other, finds what is called so and nothing else, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_driver import Client

from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.counting import DIMENSIONS, Counting, Filter
from sinks.clickhouse.erasures import erasure_requests
from sinks.clickhouse.event_pages import events_page
from sinks.clickhouse.incident_pages import affected_page, reach
from sinks.clickhouse.looks import Look, LookFilter, insert_looks, looks_page
from sinks.clickhouse.request_pages import open_requests_at, requests_page
from tests import sql_world
from tests.audit_world import named, shared

pytestmark = pytest.mark.clickhouse

HOSTILE = [
    "' OR 1=1 --",
    "' OR '1'='1",
    "\\' OR 1=1 --",
    "\\",
    "%s %(recipient)s {recipient} ${recipient}",
    "x'; DROP TABLE lineage; --",
    "x') UNION ALL SELECT * FROM subjects --",
    "'||(SELECT hex(alias) FROM subjects LIMIT 1)||'",
    "`lineage`",
    "*/ SELECT 1 /*",
    "a\x00b",
    "\n\t\r",
    "{x:String}",
    "\N{FULLWIDTH APOSTROPHE} OR 1=1",
]
EVER = 4_000_000_000_000


@pytest.fixture(scope="module")
def client(clickhouse: Any) -> Iterator[Client]:
    """The sample world, and a recipient of each hostile name that got something of somebody."""
    with connect(clickhouse.database().url) as connected:
        migrate.apply(connected)
        sql_world.fill(connected, b"p" * 32)
        values = {"purpose": "p", "verdict": "violation"}
        called = [
            shared(f"victim {n}", f"event {n}", "2026-05-01T08:00:00", name, **values, clauses=[name])
            for n, name in enumerate(HOSTILE)
        ]
        sql_world.insert(connected, called)
        insert_looks(
            connected, [Look(named(f"look at {n}"), n, name, "auditor", name, 1) for n, name in enumerate(HOSTILE)]
        )
        yield connected


@pytest.fixture(autouse=True)
def unchanged(client: Client) -> Iterator[None]:
    sql = "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    before = execute(client, sql)
    yield
    assert execute(client, sql) == before


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_is_a_value(client: Client, text: str) -> None:
    n = HOSTILE.index(text)
    event_id, subject = named(f"event {n}"), named(f"victim {n}")
    for wanted in (Filter(recipient=text), Filter(clause=text), Filter(recipient=text, clause=text, purpose="p")):
        page, _ = events_page(client, wanted, since=0, until=EVER)
        assert [event["event_id"] for event in page] == [event_id], wanted
        [(values, events)] = Counting().count(client, DIMENSIONS, wanted).items()
        assert (values[DIMENSIONS.index("recipient")], events) == (text, 1)
    for wanted in (Filter(purpose=text), Filter(recipient="lumen-analytics", clause=text)):
        assert events_page(client, wanted)[0] == []
        assert Counting().count(client, ["recipient"], wanted) == {}
    found, _ = affected_page(client, text, 0, EVER)
    assert [person.subject for person in found] == [subject]
    assert (reach(client, text).people, reach(client, text).passed_on) == (1, {})
    assert [look.look_id for look in looks_page(client, LookFilter(client=text))] == [named(f"look at {n}")]
    assert [look.look_id for look in looks_page(client, LookFilter(operation=text))] == [named(f"look at {n}")]
    assert requests_page(client, state=text) == erasure_requests(client, state=text) == []
    assert open_requests_at(client, text, 10) == []


def test_the_search_would_notice(client: Client) -> None:
    """The same filters find what is there."""
    assert len(events_page(client, Filter(recipient="lumen-analytics"), limit=1000)[0]) == 33
    assert requests_page(client, state="awaiting")
