"""Why one event has its verdict: the facts, the clauses and the evidence, in words and for machines.

Reads only. The verdict is found anew by the very processors that the tagger uses, from all that is known now; where
the stored one differs it says so, and never hides either. What was published arrives as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from audit.facts import consents_of_rows, erasures_of_rows, event_of_row, ms
from audit.subject import events_for_json
from processors.case import DAY_MS, Retention
from processors.explaining import DecidingFact, Explanation, explain, revealed_by, unnamed
from processors.knowledge import Knowledge, Policy, Recipient
from processors.sentences import Titles, consent_text, iso, paragraphs, reason_text
from sinks.clickhouse.queries import events_of_subject, subject_of_event

Record = Mapping[str, Any]

# So wide is the column of labels in a text.
_LABEL = 10
_REVISION = ("revision", "verdict", "clauses", "legal_basis", "findings", "policy_version", "judged_at")


def explain_event(
    client: Client, event_id: UUID, policies: Sequence[Record], recipients: Sequence[Record]
) -> dict[str, Any] | None:
    """The explanation of an event, ready for JSON; None: there is no such event.

    policies, recipients: all that was published, as `PolicyPublished` and `RecipientRegistered` records.

    The keys of an event (as in `audit.subject`), and: `subject`; `facts`, what the verdict rests on; `findings`, each
    with `clause`, `heading`, `outcome`, `reason`, `text`; `recomputed`, the verdict by all that is known now, and
    `agrees`, whether it is the stored one; `revisions`, every verdict that the event ever had; `text`, all of it in
    words. A consent or an erasure has no verdict: its `facts` and `findings` are empty. Raises ClickHouseError.
    """
    subject = subject_of_event(client, event_id)
    if subject is None:
        return None
    rows = events_of_subject(client, subject, all_revisions=True)
    shown = [event for event in events_for_json(rows) if event["event_id"] == str(event_id)]
    row = [row for row in rows if row["event_id"] == event_id][-1]
    answer: dict[str, Any] = {**shown[-1], "subject": str(subject)}
    revisions = [{name: event[name] for name in _REVISION} for event in shown]
    if row["activity"] in ("consent", "erase"):
        words = _without_verdict(row)
        return answer | {"facts": {}, "findings": [], "text": words, "revisions": revisions}
    knowledge = Knowledge(map(Policy.from_record, policies), map(Recipient.from_record, recipients))
    explained = explain(
        event_of_row(row),
        ms(row["occurred_at"]),
        None if row["collected_at"] is None else ms(row["collected_at"]),
        knowledge,
        consents_of_rows(rows),
        erasures_of_rows(rows),
    )
    titles = _titles(explained, policies, recipients)
    decision = explained.decision
    recomputed = {
        "verdict": decision.verdict,
        "clauses": list(decision.clauses),
        "legal_basis": decision.legal_basis,
    }
    agrees = all(answer[name] == value for name, value in recomputed.items())
    told = paragraphs(explained, ms(row["occurred_at"]), titles)
    return answer | {
        "facts": _facts(explained, row, titles),
        "findings": [
            {**f._asdict(), "heading": titles.clauses.get(f.clause), "text": reason_text(f, explained.case)}
            for f in decision.findings
        ],
        "recomputed": recomputed,
        "agrees": agrees,
        "text": "\n".join([*_lines(told), *_differences(answer, recomputed, agrees, len(revisions))]),
        "revisions": revisions,
    }


def _titles(explained: Explanation, policies: Sequence[Record], recipients: Sequence[Record]) -> Titles:
    version = explained.decision.policy_version
    # Before any policy was in force, the first one's headings say what is meant.
    policy = next((p for p in policies if version is None or p["version"] == version), {})
    names = {entry["id"]: entry["name"] for entry in recipients if entry.get("name")}
    return Titles(policy.get("clauses") or {}, names, policy.get("name", "") if version is not None else "")


def _facts(explained: Explanation, row: Record, titles: Titles) -> dict[str, Any]:
    case, decision, state = explained.case, explained.decision, explained.state
    policy, rule = case.view.policy, case.rule
    categories, fields = unnamed(case)
    acceptance = _first(explained.deciding, "acceptance")
    erasure = _first(explained.deciding, "erasure")
    return {
        "policy_version": decision.policy_version,
        "policy_name": titles.policy or None,
        "policy_effective_at": iso(policy.effective_at) if policy else None,
        "accepted": policy is not None and policy.version in state.accepted,
        "accepted_by": None if acceptance is None else acceptance.fact.event_id,
        "accepted_at": None if acceptance is None else iso(acceptance.fact.occurred_at),
        "consents": [_consent(one) for one in explained.deciding if one.fact.event_id is not None],
        "band": state.band,
        "guardian": state.guardian,
        "suppressed": state.suppressed,
        "erased_at": None if erasure is None else iso(erasure.fact.occurred_at),
        "purpose": case.purpose,
        "purpose_given": case.facts.purpose is not None,
        "purpose_clause": rule.clause if rule else None,
        "purpose_basis": rule.basis if rule else None,
        "categories": list(case.categories),
        "revealed_by": revealed_by(case),
        "categories_beyond_policy": categories,
        "fields_beyond_policy": fields,
        "recipient": _entry(case.recipient, case.view.at, titles),
        "discloser": None if row["activity"] == "collect" else _discloser(explained, titles),
        "order": case.facts.order,
        "region": case.facts.region,
        "storage_country": case.facts.storage_country,
        "countries_allowed": _allowed(policy, case.facts.region),
        "retention": _retention(explained, row),
        "sensitive": decision.sensitive,
        "permitted_by": decision.permitted_by,
    }


def _first(deciding: Iterable[DecidingFact], role: str) -> DecidingFact | None:
    return next((one for one in deciding if one.role == role), None)


def _consent(one: DecidingFact) -> dict[str, Any]:
    fact = one.fact
    return {
        **fact._asdict(),
        "occurred_at": iso(fact.occurred_at),
        "categories": list(fact.categories),
        "role": one.role,
        "text": consent_text(fact),
    }


def _entry(entry: Recipient | None, at: int, titles: Titles) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "id": entry.id,
        "name": titles.recipients.get(entry.id),
        "kind": entry.kind,
        "effective_at": iso(entry.effective_at),
        "country": entry.country,
        "purposes": list(entry.purposes),
        "categories": list(entry.categories),
        "contract_from": None if entry.contract_from is None else iso(entry.contract_from),
        "contract_until": None if entry.contract_until is None else iso(entry.contract_until),
        "contract_holds": entry.contract_holds(at),
        "pledge": entry.pledge,
        "onward": list(entry.onward),
    }


def _discloser(explained: Explanation, titles: Titles) -> dict[str, Any] | None:
    view = explained.case.view
    return _entry(view.recipient(explained.case.facts.discloser), view.at, titles)


def _allowed(policy: Policy | None, region: str | None) -> list[str] | None:
    """None: the region is free, or not known."""
    allowed = None if policy is None or region is None else policy.residency.get(region)
    return None if allowed is None else list(allowed)


def _retention(explained: Explanation, row: Record) -> dict[str, Any]:
    checked = explained.retention is not Retention.UNCHECKED
    return {
        "checked": checked,
        "outcome": explained.retention.name.lower(),
        "collected_at": None if row["collected_at"] is None else iso(ms(row["collected_at"])),
        "age_days": None if explained.age is None else round(explained.age / DAY_MS, 3),
        "limit_days": None if explained.limit is None else explained.limit // DAY_MS,
    }


def _lines(told: Iterable[tuple[str, str]]) -> Iterable[str]:
    """A label once for all of its paragraphs."""
    before = ""
    for label, text in told:
        yield f"{'' if label == before else label:<{_LABEL}} {text}"
        before = label


def paragraphs_of(text: str) -> list[tuple[str, list[str]]]:
    """The `text` of an explanation taken apart again: each label with its paragraphs."""
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        label, told = line[:_LABEL].strip(), line[_LABEL:].strip()
        if label or not found:
            found.append((label, []))
        found[-1][1].append(told)
    return found


def _differences(answer: Record, recomputed: Record, agrees: bool, revisions: int) -> Iterable[str]:
    if not agrees:
        stored = " ".join([answer["verdict"], *answer["clauses"]])
        now = " ".join([recomputed["verdict"], *recomputed["clauses"]])
        yield f"{'stored':<10} the stored verdict is `{stored}`, all that is known now gives `{now}`: a fact came late"
        yield f"{'':<10} and its revision may be on the way (lineage wait), or lineage verify will name it"
    if revisions > 1:
        yield f"{'revisions':<10} judged {revisions} times as facts came late; revision {answer['revision']} counts"


def _without_verdict(row: Record) -> str:
    if row["activity"] == "erase" and not row["request_id"].int:
        return (
            f"{'event':<10} an erasure of this person was completed on {iso(ms(row['occurred_at']))}, under another "
            "subject, of which nothing is left. What happens after it is a violation until they accept the policy anew"
        )
    if row["activity"] == "erase":
        return f"{'event':<10} the person's erasure was {row['erasure_phase']} on {iso(ms(row['occurred_at']))}"
    [fact] = consents_of_rows([row])
    return "\n".join(
        [
            f"{'event':<10} on {iso(fact.occurred_at)} the person {consent_text(fact)}",
            f"{'verdict':<10} none: a consent is no use of data. It counts for every event from its moment on, until "
            "another, a leaving or an erasure ends it",
        ]
    )
