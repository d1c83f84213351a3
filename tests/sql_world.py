"""The world of tests/audit_world.py with more to ask about: minors, choices made and taken back, and looks.

As docs/sql.md shows its answers, nothing here is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickhouse_driver import Client

from sinks.clickhouse.looks import Look, insert_looks
from tests import audit_world as world
from tests.audit_world import ANN, at, event, named, shared

KIM, LEA = "kim", "lea"
PLACE = {"data_categories": ["user.location.imprecise", "user.device"], "purpose": "ad_measurement"}
CHOICE = {"consent_activity": "share", "purpose": "ad_measurement", "recipient": "brightlane-ads"}
NO_GUARDIAN: dict[str, Any] = {
    "verdict": "violation",
    "clauses": ["6", "3.1(1)"],
    "legal_basis": "none",
    "findings": ["violation 6 no_guardian", "violation 3.1(1) no_consent"],
}
WITHDRAWN: dict[str, Any] = {
    "verdict": "violation",
    "clauses": ["3.1(1)"],
    "legal_basis": "none",
    "findings": ["violation 3.1(1) withdrawn"],
}
BY_CONSENT: dict[str, Any] = {"legal_basis": "explicit_consent", "clauses": ["3.1(1)"]}


def said(user: str, name: str, day: str, action: str, **values: Any) -> dict[str, Any]:
    return event(user, name, day, "consent", consent_action=action, **values)


def rows() -> list[dict[str, Any]]:
    """Kim is a minor all the time, Lea until 10 March. Kim's guardian consents on 20 March. Lea consents to an ad
    partner on 1 March, takes it back on the 15th, and leaves in April. Some is told twice, and one fact comes late."""
    return [
        said(KIM, "kim accepts", "2026-02-01T09:00:00", "accept", consent_version=1),
        said(KIM, "kim is young", "2026-02-01T09:00:00", "age", age_band="14_17"),
        shared(KIM, "kim to lumen", "2026-03-08T10:00:00", "lumen-analytics", **PLACE | NO_GUARDIAN),
        said(KIM, "kim's mother", "2026-03-20T18:00:00", "guardian", guardian_granted=True),
        said(KIM, "kim's mother", "2026-03-20T18:00:00", "guardian", guardian_granted=True),
        shared(KIM, "kim to ads", "2026-03-25T10:00:00", "brightlane-ads", **PLACE | BY_CONSENT),
        said(LEA, "lea accepts", "2026-01-05T09:00:00", "accept", consent_version=1),
        said(LEA, "lea is young", "2026-01-05T09:00:00", "age", age_band="14_17"),
        said(LEA, "lea is of age", "2026-03-10T00:00:00", "age", age_band="adult"),
        said(LEA, "lea consents", "2026-03-01T12:00:00", "grant", **CHOICE),
        said(LEA, "lea takes it back", "2026-03-15T12:00:00", "withdraw", **CHOICE),
        shared(LEA, "lea to ads as a minor", "2026-03-09T10:00:00", "brightlane-ads", **PLACE | NO_GUARDIAN),
        shared(LEA, "lea to ads", "2026-03-11T10:00:00", "brightlane-ads", **PLACE | BY_CONSENT),
        shared(LEA, "lea to ads", "2026-03-11T10:00:00", "brightlane-ads", **PLACE | BY_CONSENT),
        # At first lawful; then the withdrawal came.
        shared(LEA, "lea to ads after all", "2026-03-16T10:00:00", "brightlane-ads", **PLACE | BY_CONSENT),
        shared(LEA, "lea to ads after all", "2026-03-16T10:00:00", "brightlane-ads", revision=9, **PLACE | WITHDRAWN),
        shared(LEA, "lea, onward", "2026-03-17T10:00:00", "meridian-exchange", "brightlane-ads", **PLACE | WITHDRAWN),
        said(LEA, "lea leaves", "2026-04-20T12:00:00", "leave"),
    ]


def looks() -> list[Look]:
    def look(n: int, day: str, client: str, operation: str, people: int, **values: Any) -> Look:
        return Look(
            named(f"look {n}"), round(at(day).timestamp() * 1000), client, "auditor", operation, people, **values
        )

    return [
        look(1, "2026-04-01T09:00:00", "ada", "lineage", 1, subject=named(ANN), reason="case 17"),
        look(2, "2026-04-01T09:05:00", "ada", "export", 1, subject=named(ANN), reason="case 17"),
        look(3, "2026-04-02T14:00:00", "cleo", "lineage", 1, subject=named(KIM), reason="a complaint"),
        look(4, "2026-04-03T08:30:00", "ada", "incident", 2, subject_matter="glacier-backup: incident 12"),
    ]


def fill(client: Client, pepper: bytes) -> None:
    """Puts the world into a migrated database."""
    world.fill(client, pepper)
    insert(client, rows())
    insert_looks(client, looks())


def insert(client: Client, told: list[dict[str, Any]]) -> None:
    by_columns: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in told:
        by_columns.setdefault(tuple(row), []).append(row)
    for columns, group in by_columns.items():
        client.execute(f"INSERT INTO lineage ({', '.join(columns)}) VALUES", [tuple(row.values()) for row in group])
