"""One person's lineage: what was collected, why, who received it, and whether it was lawful.

Reads only. Takes the alias, never the user id: whoever asks has turned the one into the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from processors.hops import disclosure_hop, recipient_hops
from sinks.clickhouse.queries import events_of_subject, subject_of_alias

DISCLOSURES = frozenset({"share", "transfer", "publish"})


def subject_lineage(
    client: Client, alias: bytes, as_of: datetime | None = None, all_revisions: bool = False
) -> dict[str, Any]:
    """The lineage of the person with this alias (16 bytes), ready for JSON.

    `subject`: the subject's UUID, null when the alias is unknown or erased. `events`, by time: each event once with
    the revision that counts, or with `all_revisions` every revision of it. Times are ISO 8601 in UTC with
    milliseconds; ids are text; what an event does not have is null, or an empty list.

    `hop`: 0 for what the person gave (collections, consents, erasures); for a disclosure how many disclosures lie
    between the app and the recipient at the least, itself included; null when its discloser is not seen, in this
    lineage, to have got the data.

    as_of: only what occurred until then, an aware datetime. Raises ClickHouseError.
    """
    subject = subject_of_alias(client, alias)
    if subject is None:
        return {"subject": None, "events": []}
    events = events_of_subject(client, subject, as_of, all_revisions)
    hops = recipient_hops((e["discloser"], e["recipient"]) for e in events if e["activity"] in DISCLOSURES)
    return {"subject": str(subject), "events": [_for_json(event, hops) for event in events]}


def _for_json(event: Mapping[str, Any], hops: Mapping[str, int]) -> dict[str, Any]:
    disclosed = event["activity"] in DISCLOSURES
    shown = {name: _plain(value) for name, value in event.items()}
    shown["hop"] = disclosure_hop(event["discloser"], hops) if disclosed else 0
    # Where the table has a default for "none", JSON has null.
    for name in ("event_type", "discloser", "policy_version", "consent_version"):
        shown[name] = shown[name] or None
    for name in ("consent_action", "erasure_phase"):
        shown[name] = None if shown[name] == "none" else shown[name]
    if event["activity"] in ("consent", "erase"):
        shown["verdict"] = shown["legal_basis"] = None
    if event["activity"] != "erase":
        shown["request_id"] = None
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value
