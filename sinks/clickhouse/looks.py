"""The record of looks at people: who looked, when, why, and at whom while that person is not erased.

At whom and why stands in the table `looked_at`, whose rows go with the person; the rest in `looks`, which stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table
from sinks.clickhouse.errors import sorted_errors

_STORE_PEOPLE = "INSERT INTO looked_at (subject, look_id, reason) SETTINGS async_insert = 0 VALUES"
_STORE = (
    "INSERT INTO looks (look_id, at, client, role, operation, people, subject_matter) SETTINGS async_insert = 0 VALUES"
)
_COLUMNS = "look_id, at, client, role, operation, people, subject_matter"
_CONDITIONS: Mapping[str, str] = {
    "client": "client = %(client)s",
    "operation": "operation = %(operation)s",
    "since": "at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')",
    "until": "at < fromUnixTimestamp64Milli(%(until)s, 'UTC')",
    "subject": "look_id IN (SELECT look_id FROM looked_at WHERE subject IN (SELECT subject FROM asked))",
    "before": "(at, look_id) < (fromUnixTimestamp64Milli(%(before_at)s, 'UTC'), %(before_id)s)",
}
_PAGE = "SELECT {columns} FROM looks WHERE {conditions} ORDER BY at DESC, look_id DESC LIMIT %(limit)s"
_PEOPLE = "SELECT look_id, subject, reason FROM looked_at WHERE look_id IN (SELECT look_id FROM pages)"


@dataclass(frozen=True)
class Look:
    """One look. `at`: ms since 1970, UTC. `people`: how many were shown.

    `subject`: of a look at one person; None: of many (then `subject_matter` says what was asked, and why), of nobody
    known, or the person has been erased since (then `reason` is empty, too).
    """

    look_id: UUID
    at: int
    client: str
    role: str
    operation: str
    people: int
    subject: UUID | None = None
    reason: str = ""
    subject_matter: str = ""


@dataclass(frozen=True)
class LookFilter:
    """Which looks; None: any. `since`, `until`: ms, the end excluded."""

    client: str | None = None
    operation: str | None = None
    subject: UUID | None = None
    since: int | None = None
    until: int | None = None


def insert_looks(client: Client, looks: Sequence[Look]) -> None:
    """Returns when ClickHouse has them. Raises ClickHouseError: then some may be stored."""
    people = [(look.subject, look.look_id, look.reason) for look in looks if look.subject is not None]
    rows = [(x.look_id, _time(x.at), x.client, x.role, x.operation, x.people, x.subject_matter) for x in looks]
    with sorted_errors():
        # A look counts by its row in `looks`; so that one comes last.
        if people:
            client.execute(_STORE_PEOPLE, people)
        client.execute(_STORE, rows)


def looks_page(
    client: Client, wanted: LookFilter, before: tuple[int, UUID] | None = None, limit: int = 100
) -> list[Look]:
    """The newest looks first. before: (at, look_id) of the last one seen. Raises ClickHouseError."""
    values = {name: value for name, value in vars(wanted).items() if value is not None}
    asked = [external_table("asked", {"subject": "UUID"}, [(wanted.subject,)])] if wanted.subject else []
    names = list(values)
    if before is not None:
        names.append("before")
        values |= {"before_at": before[0], "before_id": before[1]}
    conditions = " AND ".join(_CONDITIONS[name] for name in names) or "1"
    rows = execute(client, _PAGE.format(columns=_COLUMNS, conditions=conditions), {**values, "limit": limit}, asked)
    pages = [external_table("pages", {"look_id": "UUID"}, [(row[0],) for row in rows])]
    people = {look: (subject, reason) for look, subject, reason in execute(client, _PEOPLE, {}, pages)} if rows else {}
    return [_look(row, *people.get(row[0], (None, ""))) for row in rows]


def _look(row: Sequence[Any], subject: UUID | None, reason: str) -> Look:
    look_id, at, client, role, operation, people, matter = row
    return Look(look_id, round(at.timestamp() * 1000), client, role, operation, people, subject, reason, matter)


def _time(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
