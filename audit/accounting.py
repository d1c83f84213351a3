"""The accounting of disclosures: for each disclosure of a person's data its date, nature and purpose, and who received
it, with name and contact (NIST SP 800-53 rev. 5, PM-21). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.exports.background import Background, Record, instant, that_count
from audit.subject import DISCLOSURES


def accounting(
    lineage: Mapping[str, Any], background: Background, since: int | None = None, until: int | None = None
) -> list[dict[str, Any]]:
    """One entry for each disclosure, whatever its verdict, by time; ready for JSON.

    lineage: of `audit.subject.subject_lineage`. since, until: ms, the end excluded. `nature`: what was done with which
    data. `recipient`: as the registry had it at that moment, else its newest entry; what nobody registered is null.
    """
    entries = []
    for event in that_count(lineage):
        at = instant(event["occurred_at"])
        if event["activity"] in DISCLOSURES and (since is None or at >= since) and (until is None or at < until):
            entries.append(_entry(event, at, background))
    return entries


def _entry(event: Record, at: int, background: Background) -> dict[str, Any]:
    name = event["recipient"]
    entry = background.entry(name, at) or background.newest_entry(name) or {}
    rule = background.purpose_of(event) or {}
    policy = background.policy_of(event) or {}
    clause = rule.get("clause")
    return {
        "date": event["occurred_at"],
        "nature": {
            "activity": event["activity"],
            "data_categories": list(event["data_categories"]),
            "discloser": event["discloser"],
            "hop": event["hop"],
        },
        "purpose": {
            "id": event["purpose"],
            "clause": clause,
            "heading": policy.get("clauses", {}).get(clause) if clause else None,
        },
        "recipient": {
            "id": name,
            # A publication reaches everybody, and nobody by name.
            "name": entry.get("name") or ("the public" if event["activity"] == "publish" and name is None else None),
            "contact": entry.get("contact"),
            "kind": entry.get("kind") or event["recipient_kind"],
            "country": entry.get("country"),
        },
        "legal_basis": event["legal_basis"],
        "verdict": event["verdict"],
        "clauses": list(event["clauses"]),
        "event_id": event["event_id"],
    }
