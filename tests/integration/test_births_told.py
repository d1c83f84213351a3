"""Erasures that nobody asks for: told on real Kafka, and counted by the command."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from clickhouse_driver import Client
from confluent_kafka.admin import AdminClient

from infra.cli.main import lineage
from processors.case import DAY_MS as DAY
from processors.erasure import Step, Terms, to_record
from processors.erasure_births import Birth
from processors.erasure_steps import take_step
from processors.knowledge import Knowledge, Policy
from schemas import schema_dir
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasures import insert_erasure_states
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer
from streams.topics import ERASURE_REQUESTS, apply, plan
from streams.workflows.births import Births
from tests.kafka_fixture import KafkaForTests
from tests.lives_table import EPOCH, KNOWLEDGE, NOW, PURPOSES, START, Table

STEP = Step(UUID(int=0), b"", 0, "received")


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


@pytest.fixture
def table(client: Client) -> Table:
    return Table(client)


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
    assert (
        UUID(bytes=step["request_id"])
        == Birth(table.people[minor], minor, "minor", "minor", START + 2 * DAY).request_id
    )
    assert (step["step"], step["verified_by"], step["requester"]) == ("received", "", "lineage")
    assert step["occurred_at"] == NOW

    # Another process, before the controller has heard: the same requests.
    assert Births(bus, client, lambda: KNOWLEDGE).run_due(NOW + 1000) == 2
    assert len(told(bus, table)) == 4
    assert {UUID(bytes=s["request_id"]) for _, s in told(bus, table)} == {
        UUID(bytes=s["request_id"]) for s in steps.values()
    }
    looking.close()


def test_after_the_notice_it_is_verified_or_the_cause_is_gone(table: Table, client: Client, bus: Kafka) -> None:
    stays, returns = strangers(table, 2)
    for subject in (stays, returns):
        table.said(subject, 4, "leave")
    table.write()
    looking = Births(bus, client, lambda: KNOWLEDGE)
    assert looking.run_due(NOW) == 2
    opened = [
        to_record(request)
        for subject, step in told(bus, table)
        for request in take_step(
            None,
            None,
            replace(
                STEP,
                request_id=UUID(bytes=step["request_id"]),
                alias=table.people[subject],
                occurred_at=NOW,
                origin=step["origin"],
                requester=step["requester"],
            ),
            Terms(),
        )
    ]
    insert_erasure_states(client, opened, [1, 2], "opened")
    table.said(returns, 5, "accept", consent_version=1)
    table.write()
    assert looking.run_due(NOW + DAY - 1) == 0
    assert len(told(bus, table)) == 2, "within the notice nothing more is told"
    looking.run_due(NOW + DAY)
    looking.run_due(NOW + DAY + 60_000)
    steps = {
        subject: (step["step"], step["verified_by"], step["ground"])
        for subject, step in told(bus, table)
        if step["step"] != "received"
    }
    assert steps == {
        stays: ("verified", "the policy, clause leave", ""),
        returns: ("cancelled", "", "the cause is gone"),
    }
    assert len(told(bus, table)) == 4
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
