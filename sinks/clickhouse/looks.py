"""The record of looks at people: who looked and when, at whom and why while that person is not erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table
from sinks.clickhouse.errors import sorted_errors

_COLUMNS = "look_id, at, client, role, operation, people, subject, reason, subject_matter"
_STORE = f"INSERT INTO looks ({_COLUMNS}) SETTINGS async_insert = 0 VALUES"
_CONDITIONS: Mapping[str, str] = {
    "client": "client = %(client)s",
    "operation": "operation = %(operation)s",
    "since": "at >= fromUnixTimestamp64Milli(%(since)s, 'UTC')",
    "until": "at < fromUnixTimestamp64Milli(%(until)s, 'UTC')",
    "subject": "subject IN (SELECT subject FROM asked)",
    "before": "(at, look_id) < (fromUnixTimestamp64Milli(%(before_at)s, 'UTC'), %(before_id)s)",
}
_PAGE = "SELECT {columns} FROM looks WHERE {conditions} ORDER BY at DESC, look_id DESC LIMIT %(limit)s"
_NOBODY = UUID(int=0)


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
    """Returns when ClickHouse has them. Raises ClickHouseError: then they may be stored, or not.

    Why somebody looked is stored with at whom only: what names a person must go with them.
    """
    with sorted_errors():
        client.execute(_STORE, [_row(look) for look in looks])


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
    return [_look(row) for row in rows]


def _row(look: Look) -> tuple[Any, ...]:
    whom = (_NOBODY, "") if look.subject is None else (look.subject, look.reason)
    return (
        look.look_id,
        _time(look.at),
        look.client,
        look.role,
        look.operation,
        look.people,
        *whom,
        look.subject_matter,
    )


def _look(row: Sequence[Any]) -> Look:
    look_id, at, client, role, operation, people, subject, reason, matter = row
    whom = None if subject == _NOBODY else subject
    return Look(look_id, round(at.timestamp() * 1000), client, role, operation, people, whom, reason, matter)


def _time(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
