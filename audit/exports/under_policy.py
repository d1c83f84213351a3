"""A person's lineage as it would be judged had one version of the policy been in force all the time.

Pure. The same decision as the tagger's, on the facts that the lineage holds: what the person accepted counts as it is,
so whoever never accepted that version had not accepted the policy. Nothing that is stored changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from audit.exports.background import instant, that_count
from audit.facts import consents_of_rows, erasures_of_rows, event_of_row
from processors.explaining import explain
from processors.knowledge import Knowledge

ALWAYS = -(2**62)
_TIMES = ("occurred_at", "collected_at")


def under_policy(lineage: Mapping[str, Any], knowledge: Knowledge, version: int) -> dict[str, Any]:
    """The lineage (`audit.subject.subject_lineage`) with the verdicts of a version, each event once.

    What depends on the policy is anew: `purpose`, `data_categories`, `verdict`, `clauses`, `legal_basis`, `findings`,
    `policy_version`, `sensitive`, `consents`. knowledge: all that was published. Raises `KeyError` of a version that
    was not.
    """
    policy = replace(knowledge.policies[version], effective_at=ALWAYS)
    alone = Knowledge([policy], knowledge.recipients.values())
    events = that_count(lineage)
    rows = [_row(event) for event in events]
    consents, erased_at = consents_of_rows(rows), erasures_of_rows(rows)
    judged = []
    for event, row in zip(events, rows, strict=True):
        if event["verdict"] is None:
            judged.append(dict(event))
            continue
        collected_at = None if event["collected_at"] is None else instant(event["collected_at"])
        told = explain(event_of_row(row), instant(event["occurred_at"]), collected_at, alone, consents, erased_at)
        decision = told.decision
        judged.append(
            {
                **event,
                "purpose": told.case.purpose,
                "data_categories": list(told.case.categories),
                "verdict": decision.verdict,
                "clauses": list(decision.clauses),
                "legal_basis": decision.legal_basis,
                "findings": [f"{f.outcome} {f.clause} {f.reason}" for f in decision.findings],
                "policy_version": version,
                "sensitive": decision.sensitive,
                "consents": [one.fact.event_id for one in told.deciding if one.fact.event_id is not None],
            }
        )
    return {**lineage, "events": judged}


def _row(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a row of the table: its times are moments again."""
    times = {name: None if event[name] is None else datetime.fromisoformat(event[name]) for name in _TIMES}
    return {**event, **times}
