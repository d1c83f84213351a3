"""The subject access report: what we hold about a person, why, on which basis, who got it, and what they can do.

Pure. For the person, so in plain words, and never with their user id. `access_report` gives it for machines; the page
for people is made of the same (report_html.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from audit.exports.background import PUBLIC, UNNAMED, Background, Record, instant, iso, receiver
from audit.exports.consents import consents
from audit.exports.rights import rights
from audit.exports.words import (
    BASES,
    KINDS,
    STATES,
    VERDICTS,
    activity_words,
    category_words,
    consent_words,
    purpose_words,
)
from processors.hops import disclosure_hop, recipient_hops
from processors.reasons import REASONS

FORMAT = "lineage-access-report/1"
SELF = "self"
DISCLOSED = frozenset({"share", "transfer", "publish"})


def report_json(subject: str | None, events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """The report as one JSON document. events: each once, by time."""
    yield orjson.dumps(access_report(subject, events, background), option=orjson.OPT_INDENT_2)
    yield b"\n"


def access_report(subject: str | None, events: Sequence[Record], background: Background) -> dict[str, Any]:
    """The report, ready for JSON. Times are ISO 8601 in UTC.

    `collected`: by data category, with `purposes`; `recipients`: everybody who got something, nearest first, each with
    `from` (who gave it) and `passed_on_to`; `consents` with their `changes`; `erasures`; `rights`; and every single
    event in `collections` and `disclosures`. What nobody said is null.
    """
    policy = background.policy_at(background.exported_at if background.as_of is None else background.as_of)
    collections = [event for event in events if event["activity"] == "collect"]
    disclosures = [event for event in events if event["activity"] in DISCLOSED]
    return {
        "format": FORMAT,
        "subject": subject,
        "exported_at": iso(background.exported_at),
        "as_of": iso(background.as_of),
        "operator": _operator(background),
        "policy": _policy(policy),
        "summary": _summary(events, collections, disclosures),
        "collected": _collected(collections, background),
        "recipients": _recipients(disclosures, background),
        "consents": _consents(events, background),
        "erasures": _erasures(events, background),
        "rights": list(rights(policy, background)),
        "collections": [_collection(event, background) for event in collections],
        "disclosures": [_disclosure(event, background) for event in disclosures],
    }


def _operator(background: Background) -> dict[str, Any]:
    operator = background.operator
    names = ("name", "address", "contact", "url", "jurisdiction", "withdrawal", "requests", "complaints", "policy_url")
    return {name: getattr(operator, name) for name in names}


def _policy(policy: Record | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    return {"version": policy["version"], "name": policy["name"], "effective_at": iso(policy["effective_at"])}


def _summary(events: Sequence[Record], collections: Sequence[Record], disclosures: Sequence[Record]) -> dict[str, Any]:
    verdicts = [event["verdict"] for event in events]
    return {
        "events": len(events),
        "collections": len(collections),
        "disclosures": len(disclosures),
        "recipients": len({receiver(event) for event in disclosures}),
        **{verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "first_at": events[0]["occurred_at"] if events else None,
        "last_at": events[-1]["occurred_at"] if events else None,
        "stored_in": sorted({event["storage_country"] for event in collections if event["storage_country"]}),
    }


def _collected(collections: Iterable[Record], background: Background) -> list[dict[str, Any]]:
    """By category, then by purpose."""
    found: dict[str, dict[str | None, list[Record]]] = {}
    for event in collections:
        for category in event["data_categories"] or ["(not named)"]:
            found.setdefault(category, {}).setdefault(event["purpose"], []).append(event)
    return [
        {
            "category": category,
            "words": category_words(category),
            "purposes": [
                {
                    "purpose": purpose,
                    "words": purpose_words(purpose, background.policy_of(events[-1])),
                    **_of_events(events),
                }
                for purpose, events in by_purpose.items()
            ],
        }
        for category, by_purpose in sorted(found.items())
    ]


def _of_events(events: Sequence[Record]) -> dict[str, Any]:
    verdicts = [event["verdict"] for event in events]
    return {
        "bases": [BASES[basis] for basis in sorted({event["legal_basis"] for event in events} - {None, "none"})],
        "events": len(events),
        "first_at": events[0]["occurred_at"],
        "last_at": events[-1]["occurred_at"],
        "violations": verdicts.count("violation"),
        "gaps": verdicts.count("gap"),
    }


def _recipients(disclosures: Sequence[Record], background: Background) -> list[dict[str, Any]]:
    """Everybody who got something, those nearest to us first; a publication is the recipient `public`."""
    hops = recipient_hops((event["discloser"] or SELF, event["recipient"]) for event in disclosures)
    got: dict[str, list[Record]] = {}
    gave: dict[str, set[str]] = {}
    for event in disclosures:
        name = receiver(event)
        got.setdefault(name, []).append(event)
        gave.setdefault(event["discloser"] or SELF, set()).add(name)
    told = []
    for name, events in got.items():
        entry = background.newest_entry(name) or {}
        kind = entry.get("kind") or events[-1]["recipient_kind"] or (PUBLIC if name == PUBLIC else None)
        depths = [disclosure_hop(event["discloser"], hops) for event in events]
        told.append(
            {
                "recipient": name,
                "name": _who(name, background),
                "kind": KINDS.get(kind or "", None),
                "contact": entry.get("contact"),
                "country": entry.get("country"),
                "hop": min((depth for depth in depths if depth is not None), default=None),
                "from": [_who(one, background) for one in sorted({event["discloser"] or SELF for event in events})],
                "categories": _categories(events),
                "purposes": sorted({_why(event, background) for event in events}),
                **_of_events(events),
                "passed_on_to": [_who(one, background) for one in sorted(gave.get(name, ()))],
                "may_pass_on_to": [_who(one, background) for one in entry.get("onward") or ()],
            }
        )
    return sorted(told, key=lambda one: (one["hop"] is None, one["hop"] or 0, one["name"]))


def _who(recipient: str, background: Background) -> str:
    if recipient == SELF:
        return "us"
    if recipient == PUBLIC and background.newest_entry(recipient) is None:
        return "the public"
    if recipient == UNNAMED:
        return "somebody who is not named"
    if recipient.startswith("kind:"):
        return KINDS.get(recipient.removeprefix("kind:"), recipient).replace("a company", "companies", 1)
    return background.name_of(recipient)


def _categories(events: Iterable[Record]) -> list[dict[str, str]]:
    found = sorted({category for event in events for category in event["data_categories"]})
    return [{"category": category, "words": category_words(category)} for category in found]


def _why(event: Record, background: Background) -> str:
    return purpose_words(event["purpose"], background.policy_of(event))


def _consents(events: Sequence[Record], background: Background) -> list[dict[str, Any]]:
    told = []
    for consent in consents(events, background):
        policy = background.policy_at(instant(consent.changes[0].event["occurred_at"]))
        told.append(
            {
                "consent": consent.id,
                "words": consent_words(consent.scope, policy, background),
                "state": STATES[consent.changes[-1].state],
                "changes": [
                    {
                        "at": change.event["occurred_at"],
                        "state": STATES[change.state],
                        "because": _to_you(change.because) or None,
                        "event_id": change.event["event_id"],
                    }
                    for change in consent.changes
                ],
            }
        )
    return told


def _erasures(events: Iterable[Record], background: Background) -> dict[str, Any]:
    """`requests`: as they stand; `asked`: when one was made of which no more is told; `past`: when an erasure was
    completed of which nothing else is left."""
    told = {request["request_id"] for request in background.requests}
    phases = [event for event in events if event["activity"] == "erase" and event["request_id"] not in told]
    return {
        "requests": [_request(request, background) for request in background.requests],
        "asked": [event["occurred_at"] for event in phases if event["erasure_phase"] == "requested"],
        "past": [event["occurred_at"] for event in phases if event["erasure_phase"] == "completed"],
    }


def _request(request: Record, background: Background) -> dict[str, Any]:
    times = ("received_at", "verified_at", "due_at", "erased_at", "ended_at")
    return {
        "request_id": request["request_id"],
        "state": request["state"],
        **{name: iso(request[name]) for name in times},
        "ground": request["ground"] or None,
        "hold": request["hold"] or None,
        "recipients": [
            {
                "recipient": target["id"],
                "name": _who(target["id"], background),
                "state": target["state"],
                "evidence": target["grade"],
                "ground": target["ground"] or None,
            }
            for target in request["targets"]
            if not target["id"].startswith("store:")
        ],
    }


def _collection(event: Record, background: Background) -> dict[str, Any]:
    return {
        **_of_event(event, background),
        "event_type": event["event_type"],
        "fields": list(event["fields"]),
        "region": event["region"],
        "storage_country": event["storage_country"],
    }


def _disclosure(event: Record, background: Background) -> dict[str, Any]:
    name = receiver(event)
    entry = background.entry(name, instant(event["occurred_at"])) or background.newest_entry(name) or {}
    return {
        **_of_event(event, background),
        "done": activity_words(event["activity"]),
        "from": _who(event["discloser"] or SELF, background),
        "recipient": name,
        "to": _who(name, background),
        "contact": entry.get("contact"),
        "country": entry.get("country"),
        "collected_at": event["collected_at"],
        "legal_order": event["legal_order"],
    }


def _of_event(event: Record, background: Background) -> dict[str, Any]:
    return {
        "event_id": event["event_id"],
        "at": event["occurred_at"],
        "categories": _categories([event]),
        "purpose": event["purpose"],
        "why": _why(event, background),
        "basis": BASES.get(event["legal_basis"], BASES["none"]),
        "verdict": event["verdict"],
        "verdict_words": VERDICTS.get(event["verdict"], ""),
        "clauses": list(event["clauses"]),
        "reasons": _reasons(event),
        "policy_version": event["policy_version"],
    }


def _reasons(event: Record) -> list[str]:
    """What stands against it, in words: a finding is `outcome clause reason`."""
    found = []
    for finding in event["findings"]:
        words = finding.split(" ")
        reason = REASONS.get(words[-1], words[-1].replace("_", " "))
        found.append(f"{_to_you(reason)} ({' '.join(words[1:-1])})")
    return list(dict.fromkeys(found))


def _to_you(text: str) -> str:
    """What is said of the person, said to them."""
    for of_them, to_you in _PERSONS:
        text = text.replace(of_them, to_you)
    return text


_PERSONS = (("the person was", "you were"), ("the person", "you"), ("their use", "your use"))
