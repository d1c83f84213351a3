"""Consent records with the fields of ISO/IEC TS 27560:2023: one for each consent that the person gave or withdrew.

Pure. A field that nobody filled is null, and its JSON Pointer stands in `not_on_record`: nothing is made up. Fields
and their grouping: W3C DPV guide "Consent Records and Receipts as per ISO/IEC TS 27560", §7.2; the JSON is ours
(schemas/exports/consent-records.schema.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from audit.exports.background import Background, Record, instant, iso
from audit.exports.consents import STANDING, WITHDRAWN, Change, Consent, consents

SCHEMA_VERSION = "ISO/IEC TS 27560:2023, lineage-consent-record/1"
OPERATOR = "operator"
_TO_COMPANIES = ("affiliate", "partner")
_KINDS = {
    "affiliate": "dpv:Recipient",
    "partner": "dpv:ThirdParty",
    "authority": "dpv:Authority",
    "successor": "dpv:ThirdParty",
    "public": "dpv:Recipient",
}
_PROCESSING = {
    "use": "dpv:Use",
    "share": "dpv:Share",
    "transfer": "dpv:Transfer",
    "publish": "dpv:MakeAvailable",
}


def consent_records(subject: str | None, events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """One JSON document: `schema_version`, `pii_principal_id`, `exported_at`, `as_of` and `records`.

    events: each once, by time.
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "pii_principal_id": subject,
        "exported_at": iso(background.exported_at),
        "as_of": iso(background.as_of),
    }
    yield orjson.dumps(head)[:-1] + b',"records":['
    stored = stored_in(events)
    for number, consent in enumerate(consents(events, background)):
        record = consent_record(subject, consent, background, stored)
        yield (b",\n" if number else b"\n") + orjson.dumps(record)
    yield b"\n]}\n"


def stored_in(events: Iterable[Record]) -> list[str]:
    """The countries where the person's data were stored when they were collected."""
    return sorted({event["storage_country"] for event in events if event["storage_country"]})


def consent_record(
    subject: str | None, consent: Consent, background: Background, stored: Sequence[str]
) -> dict[str, Any]:
    """One record. stored: countries on record where the person's data are stored."""
    first = consent.changes[0].event
    at = instant(first["occurred_at"])
    policy = _policy(consent, background, at)
    purposes = list(_purposes(consent, background, policy, at, stored))
    named = sorted({party for purpose in purposes for party in purpose["recipient_third_parties"]})
    record: dict[str, Any] = {
        "header": {
            "schema_version": SCHEMA_VERSION,
            "record_id": consent.id,
            "pii_principal_id": subject,
        },
        "pii_processing": {
            "privacy_notice": _notice(policy, background),
            "language": background.operator.policy_language,
            "purposes": purposes,
        },
        "party_identification": [_operator(background), *(_party(party, background, at) for party in named)],
        "events": [_event(subject, consent, change) for change in consent.changes],
    }
    return record | {"not_on_record": list(_missing(record, ""))}


def _policy(consent: Consent, background: Background, at: int) -> Record | None:
    if consent.scope.kind == "accept":
        return background.policy(consent.scope.version)
    return background.policy_at(at)


def _notice(policy: Record | None, background: Background) -> dict[str, Any]:
    known = policy or {"version": None, "name": None, "effective_at": None}
    return {
        "version": known["version"],
        "name": known["name"] or None,
        "effective_at": iso(known["effective_at"]),
        "url": background.operator.policy_url,
    }


def _purposes(
    consent: Consent, background: Background, policy: Record | None, at: int, stored: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What was consented to. An acceptance is one to every purpose that the policy rests on it."""
    scope = consent.scope
    rules: Record = {} if policy is None else policy["purposes"]
    if scope.kind != "choice":
        names = [name for name, rule in rules.items() if rule["basis"] != "explicit_consent"]
        for name in names:
            whom = [
                entry["id"]
                for entry in background.registered(at)
                if entry["kind"] in _TO_COMPANIES and name in entry["purposes"]
            ]
            needs = rules[name]["needs"]
            yield _purpose(name, rules[name], policy, needs, whom, background, stored) | {
                "lawful_basis": "dpv:ExpressedConsent",
                "processing": ["dpv:Collect", "dpv:Use"],
            }
        return
    names = (list(rules) or ["*"]) if scope.purpose in ("*", None) else [str(scope.purpose)]
    for name in names:
        rule = rules.get(name)
        categories = scope.categories or (rule["needs"] if rule is not None and scope.activity == "use" else ())
        whom = [scope.recipient or "*"] if scope.activity in ("share", "transfer") else []
        yield _purpose(name, rule, policy, categories, whom, background, stored) | {
            "lawful_basis": "dpv:ExplicitlyExpressedConsent",
            "processing": [_PROCESSING.get(scope.activity or "", "dpv:Processing")],
        }


def _purpose(
    name: str,
    rule: Record | None,
    policy: Record | None,
    categories: Iterable[str],
    recipients: Sequence[str],
    background: Background,
    stored: Sequence[str],
) -> dict[str, Any]:
    clauses: Record = {} if policy is None else policy["clauses"]
    limits: Record = {} if policy is None else policy["retention"]
    operator = background.operator
    return {
        "purpose": name,
        "description": None if rule is None else clauses.get(rule["clause"]),
        "clause": None if rule is None else rule["clause"],
        "purpose_type": None if rule is None else rule["dpv"],
        "data_use": None if rule is None else rule["data_use"],
        "pii_information": [
            {"pii_type": category, "retention_limit": _days(limits.get(category))} for category in categories
        ],
        "pii_controllers": [OPERATOR],
        "storage_locations": list(stored) or list(operator.storage_countries) or None,
        "retention_period": None if rule is None else _days(rule["retention_days"]) or "as long as the purpose needs",
        "jurisdiction": operator.jurisdiction,
        "recipient_third_parties": list(recipients),
        "withdrawal_method": operator.withdrawal,
    }


def _days(days: int | None) -> str | None:
    """An ISO 8601 duration."""
    return None if days is None else f"P{days}D"


def _operator(background: Background) -> dict[str, Any]:
    operator = background.operator
    return {
        "party_id": OPERATOR,
        "party_type": "dpv:DataController",
        "party_name": operator.name,
        "party_address": operator.address,
        "party_contact": operator.contact,
        "party_country": operator.country,
        "party_url": operator.url,
    }


def _party(recipient: str, background: Background, at: int) -> dict[str, Any]:
    """A recipient as registered when the consent was given; `kind:K` and `*` stand for every such recipient."""
    if recipient == "*" or recipient.startswith("kind:"):
        kind = recipient.removeprefix("kind:")
        name = "any recipient" if recipient == "*" else f"any {kind}"
        entry: Record = {"name": name, "contact": None, "country": None, "kind": kind}
    else:
        entry = background.entry(recipient, at) or background.newest_entry(recipient) or {}
    return {
        "party_id": recipient,
        "party_type": _KINDS.get(entry.get("kind") or "", "dpv:Recipient"),
        "party_name": entry.get("name") or None,
        # The registry holds contact and country, no postal address.
        "party_address": None,
        "party_contact": entry.get("contact"),
        "party_country": entry.get("country"),
        "party_url": None,
    }


def _event(subject: str | None, consent: Consent, change: Change) -> dict[str, Any]:
    by_guardian = change.event["consent_action"] == "guardian"
    if change.state in STANDING:
        explicit = consent.scope.kind != "accept"
        kind = "dpv:ExplicitlyExpressedConsent" if explicit else "dpv:ExpressedConsent"
    else:
        kind = "dpv:WithdrawConsent" if change.state == WITHDRAWN else change.state
    return {
        "event_id": change.event["event_id"],
        "event_time": change.event["occurred_at"],
        "validity_duration": "until withdrawn" if change.state in STANDING else "P0D",
        "entity_id": f"guardian of {subject}" if by_guardian else subject,
        "event_type": kind,
        "event_state": change.state,
        "because": change.because or None,
        "source": change.event["source"] or None,
    }


# Where null says that there is nothing, and not that nobody knows.
_MAY_BE_NULL = frozenset({"because", "source", "retention_limit", "party_url", "data_use"})


def _missing(value: Any, pointer: str) -> Iterator[str]:
    """JSON Pointers (RFC 6901) of what is not on record."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _MAY_BE_NULL:
                yield from _missing(inner, f"{pointer}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _missing(inner, f"{pointer}/{number}")
    elif value is None:
        yield pointer
