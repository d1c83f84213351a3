"""A small world for the audit API: a few people whose events are told one by one, and a crowd; and the tables it fills.

Rows go in as SQL inserts, so that each says no more than it means; every other column has its default.
"""

import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_driver import Client

from processors.pseudonyms import alias
from schemas import schema_dir
from streams.policies import load_policy, load_recipients, policy_record, recipient_records

ANN, BOB, GONE, STRANGER = "ann@shop", "bob", "gone", "never-seen"
CROWD = [f"crowd-{n:02d}" for n in range(30)]
JUDGED_AT = datetime(2026, 5, 1, tzinfo=UTC)
_offsets = itertools.count()


def named(what: str) -> uuid.UUID:
    """The id of a thing that a test calls by name."""
    return uuid.uuid5(uuid.NAMESPACE_URL, what)


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def event(user: str, name: str, day: str, activity: str, **values: Any) -> dict[str, Any]:
    """A row of `lineage`."""
    return {
        "subject": named(user),
        "event_id": named(name),
        "occurred_at": at(day),
        "activity": activity,
        "judged_at": JUDGED_AT,
        "kafka_partition": 1,
        "kafka_offset": next(_offsets),
        **values,
    }


def collected(user: str, name: str, day: str, **values: Any) -> dict[str, Any]:
    given = {"event_type": "app_open", "fields": ["ip"], "region": "CN", "storage_country": "CN", "purpose": "service"}
    judged = {"verdict": "lawful", "clauses": ["2.1"], "legal_basis": "policy_acceptance", "policy_version": 1}
    return event(user, name, day, "collect", **{"data_categories": ["user.device"], **given, **judged, **values})


def shared(user: str, name: str, day: str, recipient: str, discloser: str = "self", **values: Any) -> dict[str, Any]:
    given = {"given_purpose": "development", "purpose": "development", "region": "CN", "recipient_kind": "partner"}
    categories = ["user.device", "user.telemetry"]
    judged = {"verdict": "lawful", "clauses": ["3.1(4)"], "legal_basis": "policy_acceptance", "policy_version": 1}
    data = {"data_categories": categories, "given_categories": categories}
    places = {"recipient": recipient, "discloser": discloser}
    return event(user, name, day, "share", **{**given, **data, **judged, **places, **values})


VIOLATION = {
    "verdict": "violation",
    "clauses": ["3.1(4)"],
    "legal_basis": "none",
    "findings": ["violation 3.1(4) onward"],
}
GAP = {"verdict": "gap", "clauses": ["3.1"], "legal_basis": "none", "findings": ["gap 3.1 unknown_recipient"]}


def rows() -> list[dict[str, Any]]:
    """Ann: an acceptance, two collections, and disclosures of every verdict, one of them passed on and one judged anew;
    Bob: given on directly and by another; Gone: only a disclosure, and then nothing (she was erased); the crowd: a
    collection and a disclosure each, on thirty days of two months."""
    told = [
        event(ANN, "ann accepts", "2026-03-01T08:00:00", "consent", consent_action="accept", consent_version=1),
        collected(ANN, "ann opens", "2026-03-02T08:00:00"),
        shared(ANN, "ann to lumen", "2026-03-03T08:00:00", "lumen-analytics"),
        shared(ANN, "ann to glacier", "2026-03-04T08:00:00", "glacier-backup", "lumen-analytics", **VIOLATION),
        shared(ANN, "ann to ads", "2026-03-05T08:00:00", "brightlane-ads", purpose="ad_measurement", **VIOLATION),
        shared(ANN, "ann to ads", "2026-03-05T08:00:00", "brightlane-ads", purpose="ad_measurement", revision=7),
        shared(ANN, "ann to nobody", "2026-03-06T08:00:00", "nobody-knows", recipient_kind="unknown", **GAP),
        shared(BOB, "bob to glacier", "2026-03-10T08:00:00", "glacier-backup"),
        shared(BOB, "bob to glacier", "2026-03-10T08:00:00", "glacier-backup"),
        shared(BOB, "bob to lumen", "2026-04-10T08:00:00", "lumen-analytics", data_categories=["user.unique_id"]),
    ]
    for n, user in enumerate(CROWD):
        day = (at("2026-03-17T00:00:00") + timedelta(days=n, hours=n % 24)).isoformat()[:19]
        told.append(collected(user, f"{user} opens", day))
        told.append(shared(user, f"{user} to lumen", day, "lumen-analytics", **(VIOLATION if n % 3 == 0 else {})))
    return told


def fill(client: Client, pepper: bytes) -> None:
    """Puts the world into a migrated database."""
    by_columns: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows():
        by_columns.setdefault(tuple(row), []).append(row)
    for columns, group in by_columns.items():
        client.execute(f"INSERT INTO lineage ({', '.join(columns)}) VALUES", [tuple(row.values()) for row in group])
    known = [(alias(pepper, user), named(user), 1) for user in (ANN, BOB, *CROWD)]
    erased = [(alias(pepper, GONE), uuid.UUID(int=0), 2)]
    client.execute("INSERT INTO subjects (alias, subject, version) VALUES", known + erased)


def policies() -> list[dict[str, Any]]:
    return [policy_record(load_policy(schema_dir() / "policies" / "aoxun.yaml"))]


def recipients() -> list[dict[str, Any]]:
    return recipient_records(load_recipients(schema_dir() / "policies" / "recipients-example.yaml"))
