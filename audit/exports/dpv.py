"""A person's lineage in the W3C Data Privacy Vocabulary (https://w3id.org/dpv, 2.2), as JSON-LD 1.1.

Pure. The context stands inline: nothing is loaded to read it. DPV speaks of processes, not of single events: events
that differ in time, categories and consents only are one `dpv:Process`, which names them all. Terms beyond DPV are
`urn:disclosure-lineage:term:…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from audit.exports.background import Background, Record, instant, iso
from audit.exports.consents import Consent, consents

_TERM = "urn:disclosure-lineage:term:"
_NODE = {"@type": "@id"}
_TIME = {"@type": "xsd:dateTime"}


def _context() -> dict[str, Any]:
    of_dpv = (
        *("hasDataSubject", "hasDataController", "hasPurpose", "hasPersonalData", "hasProcessing", "hasRecipient"),
        *("hasLegalBasis", "hasLawfulness", "hasNotice", "hasConsentStatus", "hasProcess", "isIndicatedBy"),
    )
    return {
        "@version": 1.1,
        "dpv": "https://w3id.org/dpv#",
        "dct": "http://purl.org/dc/terms/",
        "skos": "http://www.w3.org/2004/02/skos/core#",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
        "lin": _TERM,
        **{name: {"@id": f"dpv:{name}", **_NODE} for name in of_dpv},
        "isIndicatedAtTime": {"@id": "dpv:isIndicatedAtTime", **_TIME},
        "hasName": "dpv:hasName",
        "hasContact": "dpv:hasContact",
        "hasAddress": "dpv:hasAddress",
        "hasJurisdiction": "dpv:hasJurisdiction",
        "hasLocation": "dpv:hasLocation",
        "broader": {"@id": "skos:broader", **_NODE},
        "identifier": "dct:identifier",
        "title": "dct:title",
        "created": {"@id": "dct:created", **_TIME},
        "conformsTo": {"@id": "dct:conformsTo", **_NODE},
        "dataUse": "lin:dataUse",
        "clause": "lin:clause",
        "legalBasis": "lin:legalBasis",
        "verdict": "lin:verdict",
        "recipientKind": "lin:recipientKind",
        "policyVersion": "lin:policyVersion",
        "discloser": {"@id": "lin:discloser", **_NODE},
        "restsOn": {"@id": "lin:restsOn", **_NODE},
        "event": {"@id": "lin:event", **_NODE},
        "events": {"@id": "lin:events", "@type": "xsd:integer"},
        "firstAt": {"@id": "lin:firstAt", **_TIME},
        "lastAt": {"@id": "lin:lastAt", **_TIME},
        "asOf": {"@id": "lin:asOf", **_TIME},
        "effectiveAt": {"@id": "lin:effectiveAt", **_TIME},
    }


OPERATOR = "lin:operator"
_PROCESSING = {
    "collect": "dpv:Collect",
    "share": "dpv:Share",
    "transfer": "dpv:Transfer",
    "publish": "dpv:MakeAvailable",
    "use": "dpv:Use",
}
BASES = {
    "explicit_consent": "dpv:ExplicitlyExpressedConsent",
    "policy_acceptance": "dpv:ExpressedConsent",
    "legal_obligation": "dpv:LegalObligation",
}
LAWFULNESS = {"lawful": "dpv:Lawful", "violation": "dpv:Unlawful", "gap": "dpv:LawfulnessUnknown"}
_PARTIES = {"partner": "dpv:ThirdParty", "successor": "dpv:ThirdParty", "authority": "dpv:Authority"}
_RECORD = "https://w3id.org/dpv/schema/dpv-27560#record"

# What makes events one process.
_SAME = (
    *("activity", "purpose", "discloser", "recipient", "recipient_kind"),
    *("legal_basis", "verdict", "policy_version"),
)


def dpv_jsonld(subject: str | None, events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """One JSON-LD document with `@context` and `@graph`. events: each once, by time."""
    yield b'{"@context":' + orjson.dumps(_context()) + b',\n"@graph":['
    nodes = _graph(subject, events, background) if subject is not None else iter(())
    for number, node in enumerate(nodes):
        yield (b",\n" if number else b"\n") + orjson.dumps({key: value for key, value in node.items() if value})
    yield b"\n]}\n"


def _graph(subject: str, events: Sequence[Record], background: Background) -> Iterator[dict[str, Any]]:
    person = f"urn:uuid:{subject}"
    yield {"@id": person, "@type": "dpv:DataSubject", "identifier": subject}
    yield _operator(background)
    processes: dict[tuple[Any, ...], list[Record]] = {}
    for event in events:
        if event["verdict"] is not None:
            key = (*(event[name] for name in _SAME), tuple(event["clauses"]))
            processes.setdefault(key, []).append(event)
    given = consents(events, background)
    yield from _policies(events, background)
    yield from _purposes(events, background)
    yield from _parties(events, background)
    yield from _categories(events)
    names = [f"urn:disclosure-lineage:process:{subject}:{number}" for number in range(1, len(processes) + 1)]
    for name, same in zip(names, processes.values(), strict=True):
        yield _process(name, person, same)
    for consent in given:
        yield _consent(person, consent, background)
    yield {
        "@id": f"urn:disclosure-lineage:export:{subject}",
        "@type": "dpv:DataProcessingRecord",
        "created": iso(background.exported_at),
        "asOf": iso(background.as_of),
        "hasDataSubject": person,
        "hasDataController": OPERATOR,
        "hasProcess": names,
    }


def _operator(background: Background) -> dict[str, Any]:
    operator = background.operator
    return {
        "@id": OPERATOR,
        "@type": ["dpv:DataController", "dpv:Organisation"],
        "hasName": operator.name,
        "hasContact": operator.contact,
        "hasAddress": operator.address,
        "hasLocation": operator.country,
        "hasJurisdiction": operator.jurisdiction,
    }


def _policies(events: Iterable[Record], background: Background) -> Iterator[dict[str, Any]]:
    versions = {event["policy_version"] or event["consent_version"] for event in events} - {None, 0}
    for version in sorted(versions):
        policy = background.policy(version) or {"name": None, "effective_at": None}
        yield {
            "@id": f"lin:policy:{version}",
            "@type": "dpv:PrivacyNotice",
            "title": policy["name"],
            "policyVersion": version,
            "effectiveAt": iso(policy["effective_at"]),
        }


def _purposes(events: Iterable[Record], background: Background) -> Iterator[dict[str, Any]]:
    """Each purpose by the newest policy that has it; one of no policy is a `dpv:Purpose` and nothing more."""
    for name in sorted({event["purpose"] for event in events} - {None, "*"}):
        having = [policy for policy in background.policies if name in policy["purposes"]]
        policy = max(having, key=lambda policy: int(policy["version"]), default=None)
        rule = {} if policy is None else policy["purposes"][name]
        dpv = rule.get("dpv") or ""
        yield {
            "@id": _node("purpose", name),
            "@type": "dpv:Purpose",
            "identifier": name,
            "title": None if policy is None else policy["clauses"].get(rule["clause"]),
            "broader": dpv if dpv.startswith("dpv:") else None,
            "dataUse": rule.get("data_use"),
            "clause": rule.get("clause"),
        }


def _parties(events: Iterable[Record], background: Background) -> Iterator[dict[str, Any]]:
    names = {event[name] for event in events for name in ("recipient", "discloser")} - {None, "self", "*"}
    for name in sorted(names):
        entry = background.newest_entry(name) or {}
        kind = entry.get("kind")
        yield {
            "@id": _node("recipient", name),
            "@type": ["dpv:Recipient", *([_PARTIES[kind]] if kind in _PARTIES else [])],
            "identifier": name,
            "hasName": entry.get("name"),
            "hasContact": entry.get("contact"),
            "hasLocation": entry.get("country"),
            "recipientKind": kind,
        }


def _categories(events: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for category in sorted({category for event in events for category in event["data_categories"]} - {"*"}):
        yield {"@id": _node("category", category), "@type": "dpv:PersonalData", "identifier": category}


def _process(name: str, person: str, events: Sequence[Record]) -> dict[str, Any]:
    first = events[0]
    disclosed = first["activity"] != "collect"
    rests_on = {consent for event in events for consent in event.get("consents", ())}
    return {
        "@id": name,
        "@type": "dpv:Process",
        "hasDataSubject": person,
        "hasDataController": OPERATOR,
        "hasProcessing": _PROCESSING[first["activity"]],
        "hasPurpose": None if first["purpose"] is None else _node("purpose", first["purpose"]),
        "hasPersonalData": _data(category for event in events for category in event["data_categories"]),
        "discloser": _discloser(first) if disclosed else None,
        "hasRecipient": _node("recipient", first["recipient"]) if disclosed and first["recipient"] else None,
        "hasLegalBasis": BASES.get(first["legal_basis"]),
        "legalBasis": first["legal_basis"],
        "hasLawfulness": LAWFULNESS.get(first["verdict"]),
        "verdict": first["verdict"],
        "clause": list(first["clauses"]),
        "hasNotice": f"lin:policy:{first['policy_version']}" if first["policy_version"] else None,
        "restsOn": [f"urn:uuid:{consent}" for consent in sorted(rests_on)],
        "events": len(events),
        "firstAt": first["occurred_at"],
        "lastAt": events[-1]["occurred_at"],
        "event": [f"urn:uuid:{event['event_id']}" for event in events],
    }


def _discloser(event: Record) -> str:
    return OPERATOR if event["discloser"] in (None, "self") else _node("recipient", event["discloser"])


def _consent(person: str, consent: Consent, background: Background) -> dict[str, Any]:
    scope, first = consent.scope, consent.changes[0].event
    policy = background.policy_at(instant(first["occurred_at"]))
    version = scope.version if scope.kind == "accept" else policy and policy["version"]
    explicit = scope.kind != "accept"
    return {
        "@id": f"lin:consent:{consent.id}",
        "@type": "dpv:ConsentRecord",
        "identifier": consent.id,
        "conformsTo": _RECORD,
        "hasDataSubject": person,
        "hasDataController": OPERATOR,
        "hasLegalBasis": BASES["explicit_consent" if explicit else "policy_acceptance"],
        "hasNotice": f"lin:policy:{version}" if version else None,
        "hasProcessing": _PROCESSING.get(scope.activity or ""),
        "hasPurpose": _node("purpose", scope.purpose) if scope.purpose not in (None, "*") else None,
        "hasRecipient": _node("recipient", scope.recipient) if scope.recipient not in (None, "*") else None,
        "hasPersonalData": _data(scope.categories),
        "hasConsentStatus": [
            {
                "@id": f"lin:consent:{consent.id}:{number}",
                "@type": change.state,
                "isIndicatedAtTime": change.event["occurred_at"],
                **({} if change.event["consent_action"] == "guardian" else {"isIndicatedBy": person}),
                "event": f"urn:uuid:{change.event['event_id']}",
            }
            for number, change in enumerate(consent.changes, 1)
        ],
    }


def _data(categories: Iterable[str]) -> list[str]:
    return [_node("category", category) for category in sorted(set(categories))]


def _node(kind: str, name: str) -> str:
    """An absolute IRI, whatever the name is made of."""
    return f"urn:disclosure-lineage:{kind}:{quote(name, safe='')}"
