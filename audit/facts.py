"""Rows of the table `lineage` as the facts that the decision takes: events, consents, erasures. Pure; the way back
from `sinks/clickhouse/rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from processors.consent import ConsentFact
from processors.decide import EventFacts

Row = Mapping[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_of_row(row: Row) -> EventFacts:
    """What a collection or a disclosure said when it came, before anything was added to it."""
    return EventFacts(
        activity=row["activity"],
        event_type=row["event_type"] or None,
        purpose=row["given_purpose"],
        categories=tuple(row["given_categories"]),
        fields=tuple(row["fields"]),
        region=row["region"],
        storage_country=row["storage_country"],
        discloser=row["discloser"] or "self",
        recipient=row["recipient"],
        order=row["legal_order"],
    )


def consent_of_row(row: Row) -> ConsentFact:
    """A consent, its id as text."""
    return ConsentFact(
        event_id=str(row["event_id"]),
        occurred_at=ms(row["occurred_at"]),
        action=row["consent_action"],
        version=row["consent_version"] or None,
        band=row["age_band"],
        granted=row["guardian_granted"],
        activity=row["consent_activity"],
        purpose=row["purpose"],
        recipient=row["recipient"],
        categories=tuple(row["data_categories"]),
    )


def consents_of_rows(rows: Iterable[Row]) -> list[ConsentFact]:
    return [consent_of_row(row) for row in rows if row["activity"] == "consent"]


def erasures_of_rows(rows: Iterable[Row]) -> list[int]:
    """When erasures of the person completed, ms: under another subject, before this one was theirs."""
    return [ms(r["occurred_at"]) for r in rows if r["activity"] == "erase" and r["erasure_phase"] == "completed"]


def ms(moment: datetime) -> int:
    """Milliseconds since 1970 UTC of an aware time."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
