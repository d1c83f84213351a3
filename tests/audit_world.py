"""A small world for the audit API: a few people whose events are told one by one, and a crowd; and the tables it fills.

Rows go in as SQL inserts, so that each says no more than it means; every other column has its default.
"""

import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_driver import Client

from processors.erasure import DAY, Request, Target, to_record
from processors.pseudonyms import alias
from schemas import schema_dir
from sinks.clickhouse.erasures import insert_erasure_states
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
    purpose = values.get("purpose", "development")
    given = {"given_purpose": purpose, "purpose": purpose, "region": "CN", "recipient_kind": "partner"}
    categories = ["user.device", "user.telemetry"]
    judged = {"verdict": "lawful", "clauses": ["3.1(4)"], "legal_basis": "policy_acceptance", "policy_version": 1}
    data = {"data_categories": categories, "given_categories": categories}
    places = {"recipient": recipient, "discloser": discloser}
    return event(user, name, day, "share", **{**given, **data, **judged, **places, **values})


VIOLATION: dict[str, Any] = {
    "verdict": "violation",
    "clauses": ["3.1(4)"],
    "legal_basis": "none",
    "findings": ["violation 3.1(4) onward"],
}
GAP: dict[str, Any] = {
    "verdict": "gap",
    "clauses": ["3.1"],
    "legal_basis": "none",
    "findings": ["gap 3.1 unknown_recipient"],
}


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


DONE, OPEN = named("a finished request"), named("an open request")
RECEIVED = 1_772_352_000_000  # 2026-03-01T08:00:00Z
CERTIFICATE = "eyJhbGciOiJFZDI1NTE5In0.eyJyZXF1ZXN0X2lkIjoiLi4uIn0.c2lnbmF0dXJl"


def requests() -> list[Request]:
    """Gone's, which has ended with a certificate after lumen had confirmed, and one that waits for glacier."""
    lumen = Target("lumen-analytics", 1, "completed", "signed", "opendsr", attempts=1, ended_at=RECEIVED + 2 * DAY)
    store = Target("store:lineage", 0, "completed", "verified", "purge", ended_at=RECEIVED + 3 * DAY)
    glacier = Target("glacier-backup", 1, "acknowledged", "acknowledged", "kafka", attempts=1)
    given: dict[str, Any] = {
        "verified_at": RECEIVED,
        "verified_by": "shop",
        "requester": "shop",
        "due_at": RECEIVED + 30 * DAY,
    }
    done = Request(
        DONE,
        RECEIVED,
        state="completed",
        erased_at=RECEIVED + 2 * DAY,
        ended_at=RECEIVED + 3 * DAY,
        targets=(lumen, store),
        history=((RECEIVED, "received from shop"), (RECEIVED + 3 * DAY, "completed")),
        certificate=CERTIFICATE,
        **given,
    )
    waiting = Request(OPEN, RECEIVED + DAY, b"x" * 16, named(BOB), state="awaiting", targets=(glacier,), **given)
    return [done, waiting]


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
    insert_erasure_states(client, [to_record(request) for request in requests()], [1, 2], "requests")


def policies() -> list[dict[str, Any]]:
    return [policy_record(load_policy(schema_dir() / "policies" / "aoxun.yaml"))]


def recipients() -> list[dict[str, Any]]:
    return recipient_records(load_recipients(schema_dir() / "policies" / "recipients-example.yaml"))
