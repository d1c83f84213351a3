"""Erasures that nobody asks for: found in the real table."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from clickhouse_driver import Client

from processors.case import DAY_MS as DAY
from processors.erasure import Request, Terms, ended, to_record
from processors.erasure_births import Birth, births, kept_for
from processors.erasure_steps import take_step
from processors.knowledge import ERASURE_CAUSES, Knowledge
from sinks.clickhouse import migrate
from sinks.clickhouse.births import candidates, people
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasures import insert_erasure_states
from streams.workflows.births import due_now, due_people
from tests.lives_table import KNOWLEDGE, NOW, POLICY, START, Table, broken


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


@pytest.fixture
def table(client: Client) -> Table:
    return Table(client)


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
    assert birth == Birth(table.people[expired], expired, "retention", "retention", START + 36 * DAY + 1)


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
