"""One person's lineage: what was collected, why, who received it, and whether it was lawful.

Reads only. Takes the alias, never the user id: whoever asks has turned the one into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from audit.facts import consents_of_rows, erasures_of_rows, event_of_row, ms
from processors.consent import ConsentFact
from processors.decide import consider
from processors.explaining import deciding_facts
from processors.hops import disclosure_hop, recipient_hops
from processors.knowledge import Knowledge
from sinks.clickhouse.queries import events_of_subject, subject_of_alias

DISCLOSURES = frozenset({"share", "transfer", "publish"})
_TIMES = ("occurred_at", "collected_at", "recipient_effective_at", "judged_at")
_IDS = ("event_id", "request_id")


def subject_lineage(
    client: Client,
    alias: bytes,
    as_of: datetime | None = None,
    all_revisions: bool = False,
    knowledge: Knowledge | None = None,
    whose: Callable[[UUID | None], None] = lambda _: None,
) -> dict[str, Any]:
    """The lineage of the person with this alias (16 bytes), ready for JSON.

    `subject`: the subject's UUID, null when the alias is unknown or erased. `events`, by time: each event once with
    the revision that counts, or with `all_revisions` every revision of it. Times are ISO 8601 in UTC with
    milliseconds; ids are text; what an event does not have is null, or an empty list.

    `hop`: 0 for what the person gave (collections, consents, erasures); for a disclosure how many disclosures lie
    between the app and the recipient at the least, itself included; null when its discloser is not seen, in this
    lineage, to have got the data.

    as_of: only what occurred until then, an aware datetime. knowledge: all policies and registry entries; with it
    each event has `consents`, the ids of the consents that its verdict rests on. whose: is told the subject as soon as
    it is known, before the events are read. Raises ClickHouseError.
    """
    subject = subject_of_alias(client, alias)
    whose(subject)
    if subject is None:
        return {"subject": None, "events": []}
    events = events_of_subject(client, subject, as_of, all_revisions)
    shown = events_for_json(events)
    if knowledge is not None:
        consents, erased_at = consents_of_rows(events), erasures_of_rows(events)
        for event, row in zip(shown, events, strict=True):
            event["consents"] = _deciding_consents(row, knowledge, consents, erased_at)
    return {"subject": str(subject), "events": shown}


def events_for_json(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows of a subject, ready for JSON, each with its `hop`."""
    hops = recipient_hops((e["discloser"], e["recipient"]) for e in events if e["activity"] in DISCLOSURES)
    return [_for_json(event, hops) for event in events]


def _deciding_consents(
    row: Mapping[str, Any], knowledge: Knowledge, consents: list[ConsentFact], erased_at: list[int]
) -> list[str]:
    if row["activity"] in ("consent", "erase"):
        return []
    at = ms(row["occurred_at"])
    case = consider(event_of_row(row), knowledge.view(knowledge.epoch(at)))
    known = [fact for fact in consents if fact.occurred_at <= at]
    erased = [time for time in erased_at if time <= at]
    return [one.fact.event_id for one in deciding_facts(case, known, erased) if one.fact.event_id is not None]


def _for_json(event: Mapping[str, Any], hops: Mapping[str, int]) -> dict[str, Any]:
    disclosed = event["activity"] in DISCLOSURES
    shown = dict(event)
    for name in _TIMES:
        if (moment := event[name]) is not None:
            shown[name] = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for name in _IDS:
        shown[name] = str(event[name])
    shown["hop"] = disclosure_hop(event["discloser"], hops) if disclosed else 0
    # Where the table has a default for "none", JSON has null.
    for name in ("event_type", "discloser", "policy_version", "consent_version"):
        shown[name] = shown[name] or None
    for name in ("consent_action", "erasure_phase"):
        shown[name] = None if shown[name] == "none" else shown[name]
    if event["activity"] in ("consent", "erase"):
        shown["verdict"] = shown["legal_basis"] = None
    # An erasure of the past tells no request: it was made under another subject.
    if event["activity"] != "erase" or not event["request_id"].int:
        shown["request_id"] = None
    return shown
