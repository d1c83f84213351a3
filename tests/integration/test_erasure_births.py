"""Erasures that nobody asks for: found in the real table, told on real Kafka."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from clickhouse_driver import Client
from confluent_kafka.admin import AdminClient

from infra.cli.main import lineage
from processors.case import DAY_MS as DAY
from processors.erasure import Request, Terms, ended, to_record
from processors.erasure_births import Birth, births, kept_for
from processors.erasure_steps import take_step
from processors.knowledge import ERASURE_CAUSES, ErasureCause, Knowledge, Policy, Purpose, Recipient
from schemas import schema_dir
from sinks.clickhouse import migrate
from sinks.clickhouse.births import candidates, people
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasures import insert_erasure_states
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer
from streams.topics import ERASURE_REQUESTS, apply, plan
from streams.workflows.births import Births, due_now, due_people
from tests.kafka_fixture import KafkaForTests

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
START = int(EPOCH.timestamp() * 1000)
NOW = START + 100 * DAY
GRACE = 10
PURPOSES = {
    "service": Purpose("2.1", "policy_acceptance", ("*",)),
    "security": Purpose("2.4", "policy_acceptance", ("*",), 40),
    "ads": Purpose("2.6", "opt_out", ("*",), 20),
}
POLICY = Policy(
    1, 0, PURPOSES, ("*",), retention={"user.device": 30}, erasure={c: ErasureCause(c, GRACE) for c in ERASURE_CAUSES}
)
RECIPIENTS = [
    Recipient("heir", "successor", 0),
    Recipient("mended", "successor", 0),
    Recipient("mended", "successor", START + 90 * DAY, pledge=True),
]
KNOWLEDGE = Knowledge([POLICY], RECIPIENTS)


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


class Table:
    """Rows of the table, written as people live."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rows: list[dict[str, Any]] = []
        self.people: dict[UUID, bytes] = {}

    def person(self, subject: UUID | None = None) -> UUID:
        subject = subject or UUID(int=len(self.people) + 1)
        self.people[subject] = subject.bytes[::-1]
        return subject

    def add(self, subject: UUID, day: float, activity: str, **columns: Any) -> None:
        n = len(self.rows)
        row = {"event_id": UUID(int=10**6 + n), "kafka_offset": n, **columns}
        self.rows.append(row | {"subject": subject, "activity": activity, "occurred_at": EPOCH + timedelta(days=day)})

    def said(self, subject: UUID, day: float, action: str, **columns: Any) -> None:
        self.add(subject, day, "consent", consent_action=action, **columns)

    def collected(self, subject: UUID, day: float, verdict: str = "lawful", **columns: Any) -> None:
        given = {"purpose": "service", "data_categories": ["user.content"], "verdict": verdict, **columns}
        self.add(subject, day, "collect", **given)

    def write(self) -> None:
        columns = sorted({name for row in self.rows for name in row})
        # Columns that a row lacks hold what is none.
        none: dict[str, Any] = {"data_categories": [], "findings": [], "consent_action": "none", "verdict": "none"}
        none |= {"erasure_phase": "none", "revision": 0, "consent_version": 0}
        rows = [tuple(row.get(name, none.get(name)) for name in columns) for row in self.rows]
        self.client.execute(f"INSERT INTO lineage ({', '.join(columns)}) VALUES", rows)
        links = [(alias, subject, 1) for subject, alias in self.people.items()]
        self.client.execute("INSERT INTO subjects (alias, subject, version) VALUES", links)

    def due(self, cause: str, now: int = NOW) -> set[UUID]:
        aliases = {birth.alias for birth in due_people(self.client, KNOWLEDGE, cause, now)}
        return {subject for subject, alias in self.people.items() if alias in aliases}


@pytest.fixture
def table(client: Client) -> Table:
    return Table(client)


def broken(recipient: str = "heir") -> dict[str, Any]:
    return {"recipient": recipient, "verdict": "violation", "findings": ["violation 3.2(2) no_pledge"]}


def test_each_cause_is_found_and_counted(table: Table, client: Client) -> None:
    minor, merged, left, withdrawn, expired = (table.person() for _ in range(5))
    table.said(minor, 1, "age", age_band="14_17")
    table.collected(minor, 2, "violation")
    table.add(merged, 3, "transfer", **broken())
    table.said(left, 4, "leave")
    table.said(withdrawn, 5, "withdraw", consent_activity="use", purpose="*")
    table.collected(expired, 6, data_categories=["user.device"])
    table.write()
    by_cause = dict(zip(("minor", "merger", "leave", "withdrawal", "retention"), table.people, strict=True))
    assert {cause: table.due(cause) for cause in by_cause} == {c: {subject} for c, subject in by_cause.items()}
    assert due_now(client, KNOWLEDGE, NOW) == [(cause, cause, 1) for cause in ERASURE_CAUSES]
    assert due_now(client, KNOWLEDGE, START) == [(cause, cause, 0) for cause in ERASURE_CAUSES]
    assert due_now(client, Knowledge([], []), NOW) == []
    [birth] = due_people(client, KNOWLEDGE, "retention", NOW)
    assert birth == Birth(table.people[expired], "retention", "retention", START + 36 * DAY + 1)


def test_causes_that_were_put_right_find_nobody(table: Table) -> None:
    grown, guarded, unused, pledged, back, on, again = (table.person() for _ in range(7))
    table.said(grown, 1, "age", age_band="14_17")
    table.said(grown, 2, "age", age_band="adult")
    table.said(guarded, 1, "age", age_band="under_14")
    table.said(guarded, 3, "guardian", guardian_granted=True)
    for subject in (grown, guarded):
        table.collected(subject, 4)
    table.said(unused, 1, "age", age_band="14_17")
    table.add(pledged, 3, "transfer", **broken("mended"))
    table.said(back, 4, "leave")
    table.said(back, 5, "accept", consent_version=1)
    table.said(on, 5, "withdraw", consent_activity="use", purpose="*")
    table.collected(on, 50)
    for day in (6, 99):
        table.collected(again, day, data_categories=["user.device"])
    table.write()
    assert {cause: table.due(cause) for cause in ERASURE_CAUSES} == {cause: set() for cause in ERASURE_CAUSES}


def test_the_verdict_that_counts_is_the_highest_revision(table: Table) -> None:
    freed, caught, gone_on, not_on = (table.person() for _ in range(4))
    events = [UUID(int=n) for n in range(4)]
    table.add(freed, 3, "transfer", event_id=events[0], **broken())
    table.add(freed, 3, "transfer", event_id=events[0], revision=9, recipient="heir", verdict="lawful")
    table.add(caught, 3, "transfer", event_id=events[1], recipient="heir", verdict="lawful")
    table.add(caught, 3, "transfer", event_id=events[1], revision=9, **broken())
    for subject in (gone_on, not_on):
        table.said(subject, 5, "withdraw", consent_activity="use", purpose="*")
    for subject, event_id, verdicts in [(gone_on, events[2], "vl"), (not_on, events[3], "lv")]:
        for revision, verdict in enumerate(verdicts):
            given = {"l": "lawful", "v": "violation"}[verdict]
            table.collected(subject, 50, given, event_id=event_id, revision=revision)
    # Kept without a limit by an older revision only, and the other way round.
    short, long = table.person(), table.person()
    for subject, event_id, purposes in [(short, UUID(int=5), ("service", "ads")), (long, UUID(int=6), ("ads", None))]:
        for revision, purpose in enumerate(purposes):
            table.collected(subject, 6, event_id=event_id, revision=revision, purpose=purpose)
    table.write()
    assert table.due("merger") == {caught}
    assert table.due("withdrawal") == {not_on}
    assert table.due("retention") == {short}


def test_the_erased_the_open_and_the_refused_are_not_found_again(table: Table, client: Client) -> None:
    ended_facts, erased, open_elsewhere, refused, fresh = (table.person() for _ in range(5))
    for subject in table.people:
        table.said(subject, 4, "leave")
    table.add(ended_facts, 5, "erase", erasure_phase="completed")
    table.write()
    gone = [(table.people[erased], UUID(int=0), 2)]
    client.execute("INSERT INTO subjects (alias, subject, version) VALUES", gone)
    assert table.due("leave") == {open_elsewhere, refused, fresh}

    asked = Request(UUID(int=77), NOW, alias=table.people[open_elsewhere], subject=open_elsewhere)
    [birth] = [b for b in due_people(client, KNOWLEDGE, "leave", NOW) if b.alias == table.people[refused]]
    [opened] = take_step(None, None, birth.step(NOW), Terms())
    insert_erasure_states(client, [to_record(asked), to_record(opened)], [1, 2], "open")
    assert table.due("leave") == {fresh}
    closed = [to_record(ended(asked, "cancelled", NOW)), to_record(ended(opened, "refused", NOW))]
    insert_erasure_states(client, closed, [3, 4], "ended")
    # A request of the person's own that came to nothing says nothing about the policy's.
    assert table.due("leave") == {open_elsewhere, fresh}


@pytest.mark.parametrize("seed", range(3))
def test_the_sieves_keep_everybody_who_is_due(table: Table, client: Client, seed: int) -> None:
    """Random lives: who is due when all people are looked at one by one is found through the sieves, and no other."""
    draw = random.Random(seed)
    for _ in range(400):
        live(table, draw)
    table.write()
    for now in (NOW, START + 45 * DAY):
        view = KNOWLEDGE.view(KNOWLEDGE.epoch(now))
        kept = {subject: kept_until(table, subject) for subject in table.people}
        everybody = people(client, kept, now)
        assert len(everybody) == len(table.people)
        for cause in ERASURE_CAUSES:
            due = {birth.alias for birth in births(everybody, cause, view, now)}
            found = {birth.alias for birth in due_people(client, KNOWLEDGE, cause, now)}
            assert found == due, cause
            assert 5 < len(due) < 300 or now != NOW, cause
        # Not by letting everybody through.
        assert all(len(candidates(client, cause, view, now)) < 300 for cause in ERASURE_CAUSES)


def live(table: Table, draw: random.Random) -> None:
    subject = table.person()

    def day() -> int:
        # Few moments, so that many facts fall on one.
        return draw.choice([1, 10, 20, 30, 40, 85, 95, 99, 120])

    for _ in range(draw.randrange(5)):
        match draw.choice(["accept", "leave", "age", "guardian", "withdraw", "grant", "transfer_grant", "erased"]):
            case "accept":
                table.said(subject, day(), "accept", consent_version=1)
            case "leave":
                table.said(subject, day(), "leave")
            case "age":
                table.said(subject, day(), "age", age_band=draw.choice(["14_17", "under_14", "adult", "strange"]))
            case "guardian":
                table.said(subject, day(), "guardian", guardian_granted=draw.random() < 0.5)
            case "transfer_grant":
                given = {"consent_activity": "transfer", "recipient": "heir", "purpose": "*", "data_categories": ["*"]}
                table.said(subject, day(), draw.choice(["grant", "withdraw"]), **given)
            case "erased" if draw.random() < 0.3:
                table.add(subject, day(), "erase", erasure_phase="completed")
            case "withdraw" | "grant" as action:
                table.said(subject, day(), action, consent_activity="use", purpose=draw.choice(["*", "*", "ads"]))
    for _ in range(draw.randrange(4)):
        at = day()
        for revision in range(draw.choice([1, 1, 2])):
            tags: dict[str, Any] = {
                "purpose": draw.choice(["service", "security", "ads", "strange", None]),
                "revision": revision,
            }
            tags["data_categories"] = draw.choice([[], ["user.device"], ["user.device.ip"], ["user.content"]])
            tags["event_id"] = UUID(int=2 * 10**6 + len(table.rows) - revision)
            table.collected(subject, at, draw.choice(["lawful", "violation"]), **tags)
    if draw.random() < 0.2:
        table.add(subject, day(), "transfer", **broken(draw.choice(["heir", "mended"])))


def kept_until(table: Table, subject: UUID) -> int | None:
    """By the rows as they were written, in Python."""
    counting: dict[UUID, dict[str, Any]] = {}
    for row in table.rows:
        if row["subject"] == subject and row["activity"] == "collect":
            counting[row["event_id"]] = row
    ends = []
    for row in counting.values():
        days = kept_for(POLICY, row["purpose"], row["data_categories"])
        if days is None:
            return None
        ends.append(int(row["occurred_at"].timestamp() * 1000) + days * DAY)
    return max(ends, default=None)


# Told to Kafka


@pytest.fixture
def bus(kafka: KafkaForTests) -> Kafka:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    return Kafka(kafka.bootstrap)


def told(bus: Kafka, table: Table) -> list[tuple[UUID, dict[str, Any]]]:
    found = []
    of = {alias: subject for subject, alias in table.people.items()}
    for batch in scan(bus, ERASURE_REQUESTS):
        for message in batch:
            if message.key() in of:
                found.append((of[message.key()], Deserializer().decode(message.value())[1]))
    return found


def strangers(table: Table, n: int) -> list[UUID]:
    """People whom no other test of this broker has."""
    draw = random.SystemRandom()
    return [table.person(UUID(int=draw.getrandbits(128))) for _ in range(n)]


def test_who_is_due_is_told_once_to_the_topic_that_the_tagger_reads(table: Table, client: Client, bus: Kafka) -> None:
    left, minor = strangers(table, 2)
    for subject in (left, minor):
        table.said(subject, 4, "leave")
    table.said(minor, 1, "age", age_band="14_17")
    table.collected(minor, 2, "violation")
    table.write()
    looking = Births(bus, client, lambda: KNOWLEDGE)
    assert {step.alias: step.origin for step in looking.born(NOW)} == {
        table.people[left]: "leave",
        table.people[minor]: "minor",
    }
    assert looking.run_due(NOW) == 2
    assert looking.run_due(NOW + 60_000) == 0
    steps = dict(told(bus, table))
    assert {subject: step["origin"] for subject, step in steps.items()} == {left: "leave", minor: "minor"}
    step = steps[minor]
    assert UUID(bytes=step["request_id"]) == Birth(table.people[minor], "minor", "minor", START + 2 * DAY).request_id
    assert (step["step"], step["verified_by"], step["requester"]) == (
        "verified",
        "by the policy, clause minor",
        "lineage",
    )
    assert step["occurred_at"] == NOW

    # Another process, before the controller has heard: the same requests.
    assert Births(bus, client, lambda: KNOWLEDGE).run_due(NOW + 1000) == 2
    assert len(told(bus, table)) == 4
    assert {UUID(bytes=s["request_id"]) for _, s in told(bus, table)} == {
        UUID(bytes=s["request_id"]) for s in steps.values()
    }
    looking.close()


def test_many_are_told_in_runs_and_retention_is_looked_for_once_a_day(table: Table, client: Client, bus: Kafka) -> None:
    expired = strangers(table, 5)
    for subject in expired:
        table.collected(subject, 6, data_categories=["user.device"])
    table.write()
    looking = Births(bus, client, lambda: KNOWLEDGE, most=3)
    # What was left over does not wait for the next day.
    assert looking.run_due(NOW) == 3
    assert looking.run_due(NOW + 60_000) == 2
    late = strangers(table, 1)[0]
    columns = "subject, event_id, occurred_at, activity, purpose, data_categories, verdict"
    row: tuple[Any, ...] = (late, UUID(int=9), EPOCH, "collect", "ads", [], "lawful")
    client.execute(f"INSERT INTO lineage ({columns}) VALUES", [row])
    client.execute("INSERT INTO subjects (alias, subject, version) VALUES", [(table.people[late], late, 1)])
    assert looking.run_due(NOW + 120_000) == 0
    assert [step.alias for step in looking.born(NOW + 120_000)].count(table.people[late]) == 1
    # What was told and has come to nothing within the hour is told again as well.
    assert [looking.run_due(NOW + DAY + minute * 60_000) for minute in (2, 3, 4)] == [3, 3, 0]
    looking.close()


def test_a_policy_published_meanwhile_counts_at_once(table: Table, client: Client, bus: Kafka) -> None:
    [left] = strangers(table, 1)
    table.said(left, 4, "leave")
    table.write()
    known = [Knowledge([Policy(1, 0, PURPOSES)], [])]
    looking = Births(bus, client, lambda: known[0])
    assert looking.run_due(NOW) == 0
    known[0] = KNOWLEDGE
    assert looking.run_due(NOW + 60_000) == 1
    assert execute(client, "SELECT count() FROM erasure_requests") == [(0,)], "births write nothing but the topic"
    looking.close()


def test_the_command_counts_by_cause_and_changes_nothing(clickhouse: Any, kafka: KafkaForTests, bus: Kafka) -> None:
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    table = Table(client)
    for subject in strangers(table, 2):
        table.said(subject, 4, "leave")
    table.write()
    client.disconnect()
    policy = str(schema_dir() / "policies" / "aoxun.yaml")
    where = ["--kafka", kafka.bootstrap, "--clickhouse", url, "--policy", policy]

    def asked(*more: str) -> Result:
        result = CliRunner().invoke(lineage, ["policy", "erasures", *where, *more])
        assert result.exit_code == 0, result.output
        return result

    counted = {"minor": ("6", 0), "merger": ("3.2(2)", 0), "leave": ("4.2", 2), "withdrawal": ("4.2", 0)}
    counted["retention"] = ("4.2", 0)
    assert json.loads(asked("--at", "2026-04-01T00:00:00Z", "--json").stdout) == {
        "at": "2026-04-01T00:00:00.000Z",
        "policy_version": 1,
        "due": [{"cause": c, "clause": clause, "people": n} for c, (clause, n) in counted.items()],
    }
    # The Aoxun policy gives 30 days to come back.
    early = json.loads(asked("--at", "2026-02-01T00:00:00Z", "--json").stdout)
    assert [line["people"] for line in early["due"]] == [0, 0, 0, 0, 0]
    assert ["leave", "4.2", "2"] in [line.split() for line in asked("--at", "2026-04-01T00:00:00Z").stdout.splitlines()]
    assert told(bus, table) == []
