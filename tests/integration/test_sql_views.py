"""The views for questions in SQL on the real engine: every question of docs/sql.md is asked, and what the views count
is what the API counts and what is counted here from the events themselves."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from clickhouse_driver import Client

from processors.consent import ConsentFact, timeline
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.counting import DIMENSIONS, Counting
from sinks.clickhouse.erasable import PLACES, Shown
from sinks.clickhouse.incident_pages import reach
from sinks.clickhouse.purge import purge
from tests import audit_world, sql_world
from tests.audit_world import ANN, event, named
from tests.sql_questions import DOCUMENT, answered, questions

pytestmark = pytest.mark.clickhouse

TEXT = DOCUMENT.read_text("utf-8")


@pytest.fixture(scope="module")
def url(clickhouse: Any) -> str:
    database: str = clickhouse.database().url
    return database


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with connect(url) as connected:
        migrate.apply(connected)
        sql_world.fill(connected, b"p" * 32)
        yield connected


# The document


def test_every_answer_of_the_document_is_what_the_engine_answers(client: Client) -> None:
    """When this fails: `python -m tests.sql_questions` writes the answers anew; read the difference."""
    assert len(list(questions(TEXT))) >= 20
    assert answered(TEXT, client) == TEXT


def test_the_notebook_of_the_document_runs(client: Client, url: str) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(re.sub(r'"clickhouse://.*?"', repr(url), snippet), names)
    frame, by_week = names["frame"], names["by_week"]
    assert isinstance(frame, pl.DataFrame)
    judged = sum(n for (_, _, verdict), n in counted_here("activity").items() if verdict)
    assert frame["events"].sum() == by_week["events"].sum() == judged


def test_the_document_tells_every_view_and_every_column(client: Client) -> None:
    section = TEXT.partition("## The views")[2].partition("\n## ")[0]
    told = {
        line.split("`")[1]: re.findall(r"`(\w+)`", line.split("|")[3])
        for line in section.splitlines()
        if "| `" in line[:3]
    }
    found: dict[str, list[str]] = {}
    sql = """SELECT table, name, comment FROM system.columns
        WHERE database = currentDatabase() AND table IN (SELECT name FROM system.tables WHERE engine = 'View')
        ORDER BY table, position"""
    for view, column, _ in execute(client, sql):
        found.setdefault(view, []).append(column)
    assert told == found
    assert found.keys() == {name for name, place in PLACES.items() if isinstance(place, Shown)}
    assert {(view, column) for view, column, comment in execute(client, sql) if "random id" in comment} == {
        (view, "subject") for view, columns in found.items() if "subject" in columns and view != "looks_taken"
    }, "whoever finds a subject is told what it is"


# Each thing once


def rows_that_count() -> dict[UUID, dict[str, Any]]:
    """Of every event of the world the row that counts: event id → row."""
    found: dict[UUID, dict[str, Any]] = {}
    for row in audit_world.rows() + sql_world.rows():
        last = found.get(row["event_id"])
        if last is None or row.get("revision", 0) >= last.get("revision", 0):
            found[row["event_id"]] = row
    return found


def counted_here(*_: str) -> Counter[tuple[Any, ...]]:
    """(activity, recipient, verdict; none for consents) → events."""
    return Counter((r["activity"], r.get("recipient"), r.get("verdict")) for r in rows_that_count().values())


def test_each_event_is_there_once_by_the_row_that_counts(client: Client) -> None:
    found: Counter[tuple[Any, ...]] = Counter()
    for sql in (
        "SELECT toString(activity), recipient, toString(verdict) FROM disclosures",
        "SELECT 'collect', NULL, toString(verdict) FROM collections",
        "SELECT 'consent', recipient, NULL FROM consents",
    ):
        found.update(execute(client, sql))
    assert found == counted_here()
    assert execute(client, "SELECT count() FROM lineage")[0][0] > found.total(), "there is something to resolve"


def test_violations_have_a_row_for_each_clause_as_the_api_counts_them(client: Client) -> None:
    of_api: Counter[str] = Counter()
    for (verdict, clauses), events in Counting().count(client, ["verdict", "clauses"]).items():
        if verdict == "violation":
            of_api.update(dict.fromkeys(clauses, events))
    found = Counter(dict(execute(client, "SELECT clause, count() FROM violations GROUP BY clause")))
    assert found == of_api
    assert found["6"] == 2
    reasons = set(execute(client, "SELECT clause, arrayJoin(reasons) FROM violations"))
    assert reasons == {("6", "no_guardian"), ("3.1(1)", "no_consent"), ("3.1(1)", "withdrawn"), ("3.1(4)", "onward")}


def test_daily_counts_are_those_of_the_api_and_of_the_events(client: Client) -> None:
    found = {(*values[:-2], tuple(values[-2])): values[-1] for values in execute(client, "SELECT * FROM daily_counts")}
    assert found == Counting().count(client, DIMENSIONS)
    sql = "SELECT toDate(occurred_at), recipient, toString(verdict), count() FROM {} GROUP BY ALL"
    of_days = (
        "SELECT day, recipient, toString(verdict), sum(events) FROM daily_counts WHERE activity = 'share' GROUP BY ALL"
    )
    assert sorted(execute(client, sql.format("disclosures")), key=str) == sorted(execute(client, of_days), key=str)


def test_reach_is_that_of_the_incident_report(client: Client) -> None:
    rows = execute(client, "SELECT * FROM recipient_reach")
    assert len(rows) == 5
    for recipient, *found in rows:
        known = reach(client, recipient)
        assert found == [
            *(known.people, known.direct, known.onward, known.disclosures),
            *(known.first_at, known.last_at),
        ], recipient


def test_a_disclosure_does_not_hide_behind_a_repeated_id(clickhouse: Any) -> None:
    with connect(clickhouse.database().url) as client:
        migrate.apply(client)
        first = audit_world.shared(ANN, "one id", "2026-03-03T08:00:00", "lumen-analytics")
        for change in ({}, {"recipient": "glacier-backup"}, {"occurred_at": audit_world.at("2026-04-03")}):
            sql_world.insert(client, [first | change])
        [(event_id, things)] = execute(client, "SELECT event_id, count() FROM disclosures GROUP BY event_id")
        assert (event_id, things) == (named("one id"), 3)


def test_what_is_purged_is_in_no_view(clickhouse: Any) -> None:
    with connect(clickhouse.database().url) as client:
        migrate.apply(client)
        sql_world.fill(client, b"p" * 32)
        purge(client, [named(ANN), named(sql_world.KIM)])
        for view, place in PLACES.items():
            if isinstance(place, Shown) and "subject" in place.columns:
                left = {subject for (subject,) in execute(client, f"SELECT subject FROM {view}")}
                assert not left & {named(ANN), named(sql_world.KIM)}, view
        assert execute(client, "SELECT count() FROM looks_taken") == [(4,)], "that somebody looked stays"
        assert execute(client, "SELECT count() FROM looks_taken WHERE reason != ''") == [(0,)]


# Filters


def read_rows(client: Client, sql: str) -> tuple[int, int]:
    """(granules read, granules there) of the last index of the scan."""
    plan = "\n".join(line for (line,) in execute(client, f"EXPLAIN indexes = 1 {sql}"))
    return tuple(map(int, re.findall(r"Granules: (\d+)/(\d+)", plan)[-1]))  # type: ignore[return-value]


@pytest.mark.parametrize("view", ["disclosures", "collections", "violations", "consents", "consent_intervals"])
def test_a_filter_on_the_person_reads_that_person_only(client: Client, clickhouse: Any, view: str) -> None:
    """Of 40 granules one or two: the filter goes below what resolves the rows."""
    with connect(clickhouse.database().url) as many:
        migrate.apply(many)
        activity = {"consents": "consent", "consent_intervals": "consent", "collections": "collect"}.get(view, "share")
        many.execute(
            f"""INSERT INTO lineage (subject, event_id, occurred_at, activity, consent_action, consent_version)
            SELECT reinterpretAsUUID(sipHash128(number % 1000)), generateUUIDv4(), toDateTime64('2026-03-01', 3, 'UTC'),
                '{activity}', '{"accept" if activity == "consent" else "none"}', 1 FROM numbers(40000)"""
        )
        [(subject,)] = execute(many, "SELECT subject FROM lineage LIMIT 1")
        sql = f"SELECT * FROM {view} WHERE subject = toUUID('{subject}')"
        read, there = read_rows(many, sql)
        assert read <= 2 < 30 < there


@pytest.mark.parametrize("view", ["disclosures", "collections", "violations", "consents"])
def test_a_filter_on_time_reads_its_months_only(client: Client, view: str) -> None:
    sql = f"SELECT * FROM {view} WHERE occurred_at >= '2026-04-01' AND occurred_at < '2026-05-01'"
    plan = "\n".join(line for (line,) in execute(client, f"EXPLAIN indexes = 1 {sql}"))
    parts = [tuple(map(int, found)) for found in re.findall(r"Parts: (\d+)/(\d+)", plan)]
    assert parts[0][0] < parts[0][1], plan


# Consents, against the states that verdicts are given by

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SCOPES = [
    {"consent_activity": "use", "purpose": "*"},
    {"consent_activity": "use", "purpose": "personalisation"},
    {"consent_activity": "share", "purpose": "ad_measurement", "recipient": "a", "data_categories": ["user.device"]},
    {"consent_activity": "share", "purpose": "ad_measurement", "recipient": "*", "data_categories": ["*"]},
    {"consent_activity": "publish", "data_categories": ["user.content", "user.device"]},
]


def drawn(rng: random.Random, user: str) -> list[dict[str, Any]]:
    """Facts of a person in any order, often several at one moment, some of them told twice."""
    told = []
    for n in range(rng.randrange(1, 14)):
        day = (EPOCH + timedelta(days=rng.randrange(9))).isoformat()[:19]
        action = rng.choice(["accept", "accept", "age", "guardian", "grant", "grant", "withdraw", "leave", "erased"])
        of_action: dict[str, dict[str, Any]] = {
            "accept": {"consent_version": rng.choice([1, 2])},
            "age": {"age_band": rng.choice(["adult", "14_17", "under_14"])},
            "guardian": {"guardian_granted": rng.choice([True, False])},
            "grant": rng.choice(SCOPES),
            "withdraw": rng.choice(SCOPES),
        }
        if action == "erased":
            told.append(event(user, f"{user} {n}", day, "erase", erasure_phase="completed"))
        else:
            told.append(sql_world.said(user, f"{user} {n}", day, action, **of_action.get(action, {})))
    return told + [dict(row, kafka_offset=row["kafka_offset"] + 10**6) for row in told if rng.random() < 0.2]


def standing(intervals: Sequence[tuple[Any, ...]], time: datetime) -> list[tuple[Any, ...]]:
    return [i for i in intervals if i[1] <= time and (i[2] is None or time < i[2])]


def test_intervals_are_the_states_that_verdicts_are_given_by(clickhouse: Any) -> None:
    rng = random.Random(7)
    lives = {f"person {n}": drawn(rng, f"person {n}") for n in range(250)}
    with connect(clickhouse.database().url) as client:
        migrate.apply(client)
        sql_world.insert(client, [row for life in lives.values() for row in life])
        columns = "kind, since, until, given, policy_version, age_band, activity, purpose, recipient, data_categories"
        of_person: dict[UUID, list[tuple[Any, ...]]] = {}
        for subject, *interval in execute(client, f"SELECT subject, {columns} FROM consent_intervals"):
            of_person.setdefault(subject, []).append(tuple(interval))
    asked = 0
    for user, life in lives.items():
        steps = timeline([fact(row) for row in life if row["activity"] == "consent"], erased(life))
        for day in range(10):
            time = EPOCH + timedelta(days=day, hours=1)
            state = next((s for at, s in reversed(steps) if at <= time.timestamp() * 1000), None)
            stood = standing(of_person.get(named(user), []), time)
            of_kind: dict[str, list[tuple[Any, ...]]] = {}
            for interval in stood:
                of_kind.setdefault(interval[0], []).append(interval)
            assert {i[4] for i in of_kind.get("acceptance", [])} == (state.accepted if state else set())
            # Who never told is an adult without a guardian's consent.
            assert ([i[5] for i in of_kind.get("age", [])] or ["adult"]) == [state.band if state else "adult"]
            assert ([i[3] for i in of_kind.get("guardian", [])] or [False]) == [bool(state and state.guardian)]
            assert choices_of(life, time) == {(*i[6:9], tuple(i[9])): i[3] for i in of_kind.get("choice", [])}
            asked += len(stood)
    assert asked > 2000


def fact(row: dict[str, Any]) -> ConsentFact:
    return ConsentFact(
        row["event_id"],
        round(row["occurred_at"].timestamp() * 1000),
        row["consent_action"],
        row.get("consent_version"),
        row.get("age_band"),
        row.get("guardian_granted"),
        row.get("consent_activity"),
        row.get("purpose"),
        row.get("recipient"),
        tuple(row.get("data_categories", ())),
    )


def erased(life: Sequence[dict[str, Any]]) -> list[int]:
    return [round(row["occurred_at"].timestamp() * 1000) for row in life if row["activity"] == "erase"]


def choices_of(life: Sequence[dict[str, Any]], time: datetime) -> dict[tuple[Any, ...], bool]:
    """Of each scope the last choice since the last end; counted by hand."""
    ends = [r["occurred_at"] for r in life if r["activity"] == "erase" or r.get("consent_action") == "leave"]
    last_end = max((end for end in ends if end <= time), default=EPOCH - timedelta(days=1))
    made = [r for r in life if r.get("consent_action") in ("grant", "withdraw") and last_end < r["occurred_at"] <= time]
    found: dict[tuple[Any, ...], bool] = {}
    for row in sorted(made, key=lambda r: (r["occurred_at"], r["consent_action"] == "withdraw")):
        scope = (row["consent_activity"], row.get("purpose"), row.get("recipient"))
        found[*scope, tuple(row.get("data_categories", ()))] = row["consent_action"] == "grant"
    return found
