"""Rows of `lineage` as facts: what a table's default stands for, and the erasure that took its own rows along."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from audit.facts import consent_of_row, erasures_of_rows, event_of_row, ms
from processors.consent import ConsentFact
from processors.decide import EventFacts

AT = datetime(2026, 3, 1, 8, 0, 0, 7000, tzinfo=UTC)
AT_MS = 1_772_352_000_007
EMPTY: dict[str, Any] = {
    "event_id": UUID(int=5),
    "occurred_at": AT,
    "activity": "collect",
    "event_type": "",
    "discloser": "",
    "recipient": None,
    "purpose": "tagged",
    "given_purpose": None,
    "data_categories": ["tagged"],
    "given_categories": [],
    "fields": [],
    "region": None,
    "storage_country": None,
    "legal_order": None,
    "consent_action": "none",
    "consent_version": 0,
    "consent_activity": None,
    "age_band": None,
    "guardian_granted": None,
    "erasure_phase": "none",
    "findings": [],
}


def test_milliseconds_are_exact() -> None:
    assert ms(AT) == AT_MS


def test_an_event_is_what_was_given_not_what_was_tagged() -> None:
    assert event_of_row(EMPTY) == EventFacts("collect")
    row = EMPTY | {"activity": "share", "discloser": "a", "given_purpose": "p", "given_categories": ["user"]}
    row |= {"recipient": "b", "legal_order": "A-1", "region": "CN"}
    expected = EventFacts("share", None, "p", ("user",), (), "CN", None, "a", "b", "A-1")
    assert event_of_row(row) == expected


def test_a_consent_has_its_own_purpose_and_categories() -> None:
    row = EMPTY | {"activity": "consent", "consent_action": "grant", "consent_activity": "share", "purpose": "p"}
    row |= {"recipient": "*", "data_categories": ["*"]}
    fact = ConsentFact(str(UUID(int=5)), AT_MS, "grant", None, None, None, "share", "p", "*", ("*",))
    assert consent_of_row(row) == fact
    assert consent_of_row(EMPTY | {"consent_action": "accept", "consent_version": 2}).version == 2


def test_only_completed_erasures_count() -> None:
    rows = [EMPTY | {"activity": "erase", "erasure_phase": phase} for phase in ("requested", "completed")]
    assert erasures_of_rows(rows) == [AT_MS]
