"""A person's lineage as W3C provenance: PROV-JSON (Member Submission of 24 April 2013).

Pure. What the lineage says becomes

- entities: what one collection brought (`data:EVENT`), what a recipient got by one disclosure (`copy:EVENT`), what
  somebody holds of a category (`held:SUBJECT/HOLDER/CATEGORY`, a collection of the former), a consent
  (`consent:EVENT`), a policy version (`policy:N`);
- activities: each collection, disclosure, consent and erasure, by its event id;
- agents: the person by the random id, the guardian, the app, every recipient.

Never says which collection a disclosed value came from: that is not on record, so a disclosure uses what its discloser
holds of the categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from audit.exports.background import Background, Record, instant, iso, receiver
from audit.exports.consents import STANDING, consents

PREFIXES = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dpv": "https://w3id.org/dpv#",
    "lin": "urn:disclosure-lineage:term:",
    "uuid": "urn:uuid:",
    "data": "urn:disclosure-lineage:data:",
    "copy": "urn:disclosure-lineage:copy:",
    "held": "urn:disclosure-lineage:held:",
    "consent": "urn:disclosure-lineage:consent:",
    "policy": "urn:disclosure-lineage:policy:",
    "recipient": "urn:disclosure-lineage:recipient:",
}
APP = "lin:app"
SELF = "self"
_TYPES = {
    "collect": "lin:Collection",
    "share": "lin:Sharing",
    "transfer": "lin:Transfer",
    "publish": "lin:Publication",
    "consent": "lin:Consent",
    "erase": "lin:Erasure",
}
DISCLOSED = frozenset({"share", "transfer", "publish"})
# Bound to the policy by the group or by a contract; an authority, a successor and the public act for themselves.
_DELEGATES = frozenset({"affiliate", "partner"})
_SECTIONS = (
    *("entity", "activity", "agent", "wasGeneratedBy", "used", "wasInvalidatedBy", "wasDerivedFrom"),
    *("wasAttributedTo", "wasAssociatedWith", "actedOnBehalfOf", "hadMember"),
)


def prov_json(subject: str | None, events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """One PROV-JSON document, section by section. events: each once, by time."""
    document = _Document(subject, background)
    if subject is not None:
        document.take(events)
    yield b'{"prefix":' + orjson.dumps(PREFIXES)
    for section in _SECTIONS:
        if document.sections[section]:
            yield b',\n"' + section.encode() + b'":' + orjson.dumps(document.sections[section])
    yield b"}\n"


class _Document:
    def __init__(self, subject: str | None, background: Background) -> None:
        self.sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
        self._id = subject
        self._subject = f"uuid:{subject}"
        self._background = background
        # What somebody holds: holder → entities that stand for it.
        self._of_holder: dict[str, list[str]] = {}

    def take(self, events: Sequence[Record]) -> None:
        self._agents()
        for event in events:
            self._activity(event)
            if event["activity"] == "collect":
                self._collection(event)
            elif event["activity"] in DISCLOSED:
                self._disclosure(event)
        self._consents(events)
        self._erasures(events)

    def _agents(self) -> None:
        operator = self._background.operator
        self._put("agent", self._subject, {"prov:type": _name("prov:Person"), "prov:label": "the person"})
        app = {"prov:type": _name("prov:Organization"), "prov:label": operator.name or "the app"}
        if operator.contact:
            app["lin:contact"] = operator.contact
        self._put("agent", APP, app)

    def _recipient(self, name: str, at: int) -> str:
        agent = f"recipient:{_local(name)}"
        if agent not in self.sections["agent"]:
            entry = self._background.entry(name, at) or self._background.newest_entry(name) or {}
            found = {"prov:type": _name("prov:Organization"), "prov:label": entry.get("name") or name}
            for key in ("kind", "contact", "country"):
                if entry.get(key):
                    found[f"lin:{key}"] = entry[key]
            self._put("agent", agent, found)
            if entry.get("kind") in _DELEGATES:
                self._relate("actedOnBehalfOf", {"prov:delegate": agent, "prov:responsible": APP})
        return agent

    def _discloser(self, event: Record) -> str:
        discloser = event["discloser"] or SELF
        return APP if discloser == SELF else self._recipient(discloser, instant(event["occurred_at"]))

    def _activity(self, event: Record) -> None:
        time = event["occurred_at"]
        told: dict[str, Any] = {
            "prov:startTime": time,
            "prov:endTime": time,
            "prov:type": _name(_TYPES[event["activity"]]),
            "prov:label": _label(event),
        }
        for name in ("event_type", "legal_basis", "verdict", "consent_action", "erasure_phase", "legal_order"):
            if event[name] is not None:
                told[f"lin:{name}"] = event[name]
        if event["purpose"] is not None:
            told["lin:purpose"] = event["purpose"]
            rule = self._background.purpose_of(event)
            if rule is not None and (rule["dpv"] or "").startswith("dpv:"):
                told["lin:dpv_purpose"] = _name(rule["dpv"])
        for name in ("clauses", "data_categories"):
            if event[name]:
                told[f"lin:{name}"] = list(event[name])
        activity = f"uuid:{event['event_id']}"
        self._put("activity", activity, told)
        who = self._discloser(event) if event["activity"] in DISCLOSED else APP
        if event["activity"] == "consent":
            who = self._who_consents(event)
        association = {"prov:activity": activity, "prov:agent": who}
        if event["policy_version"]:
            association["prov:plan"] = self._policy(event["policy_version"])
        self._relate("wasAssociatedWith", association)

    def _who_consents(self, event: Record) -> str:
        if event["consent_action"] != "guardian":
            return self._subject
        guardian = f"{self._subject}-guardian"
        if guardian not in self.sections["agent"]:
            self._put("agent", guardian, {"prov:type": _name("prov:Person"), "prov:label": "a guardian of the person"})
            self._relate("actedOnBehalfOf", {"prov:delegate": guardian, "prov:responsible": self._subject})
        return guardian

    def _policy(self, version: int) -> str:
        entity = f"policy:{version}"
        if entity not in self.sections["entity"]:
            policy = self._background.policy(version) or {}
            told: dict[str, Any] = {
                "prov:type": _name("prov:Plan"),
                "prov:label": f"{policy.get('name') or 'policy'}, version {version}",
            }
            if policy:
                told["lin:effective_at"] = _time(iso(policy["effective_at"]))
            self._put("entity", entity, told)
        return entity

    def _collection(self, event: Record) -> None:
        data, activity = f"data:{event['event_id']}", f"uuid:{event['event_id']}"
        self._data(data, event, "what a collection brought", APP)
        self._relate("wasGeneratedBy", _pair(data, activity, event))
        self._relate("wasAttributedTo", {"prov:entity": data, "prov:agent": self._subject})
        self._evidence(event, activity)

    def _disclosure(self, event: Record) -> None:
        copy, activity = f"copy:{event['event_id']}", f"uuid:{event['event_id']}"
        discloser = self._discloser(event)
        recipient = self._recipient(receiver(event), instant(event["occurred_at"]))
        for category in event["data_categories"]:
            held = self._holding(discloser, category)
            self._relate("used", {"prov:activity": activity, "prov:entity": held, "prov:time": event["occurred_at"]})
            self._relate("wasDerivedFrom", {"prov:generatedEntity": copy, "prov:usedEntity": held})
        self._data(copy, event, "what a recipient got", recipient)
        self._relate("wasGeneratedBy", _pair(copy, activity, event))
        self._relate("wasAttributedTo", {"prov:entity": copy, "prov:agent": recipient})
        self._evidence(event, activity)

    def _data(self, entity: str, event: Record, label: str, holder: str) -> None:
        told: dict[str, Any] = {"prov:type": _name("dpv:PersonalData"), "prov:label": label}
        if event["data_categories"]:
            told["lin:data_categories"] = list(event["data_categories"])
        self._put("entity", entity, told)
        self._of_holder.setdefault(holder, []).append(entity)
        for category in event["data_categories"]:
            self._relate("hadMember", {"prov:collection": self._holding(holder, category), "prov:entity": entity})

    def _holding(self, holder: str, category: str) -> str:
        held = f"held:{self._id}/{holder.replace(':', '.', 1)}/{_local(category)}"
        if held not in self.sections["entity"]:
            told = {"prov:type": _name("prov:Collection"), "prov:label": category, "lin:data_category": category}
            self._put("entity", held, told)
            self._relate("wasAttributedTo", {"prov:entity": held, "prov:agent": holder})
            self._of_holder.setdefault(holder, []).append(held)
        return held

    def _evidence(self, event: Record, activity: str) -> None:
        """The consents that the verdict rests on."""
        for consent in event.get("consents", ()):
            self._consent(consent)
            used = {"prov:activity": activity, "prov:entity": f"consent:{consent}", "prov:time": event["occurred_at"]}
            self._relate("used", used)

    def _consent(self, event_id: str) -> str:
        entity = f"consent:{event_id}"
        self._put("entity", entity, {"prov:type": _name("dpv:Consent"), "prov:label": "what the person said"})
        return entity

    def _consents(self, events: Sequence[Record]) -> None:
        for event in events:
            if event["activity"] == "consent":
                consent, activity = self._consent(event["event_id"]), f"uuid:{event['event_id']}"
                self._relate("wasGeneratedBy", _pair(consent, activity, event))
                who = self._who_consents(event)
                self._relate("wasAttributedTo", {"prov:entity": consent, "prov:agent": who})
        for one in consents(events, self._background):
            standing: list[str] = []
            for change in one.changes:
                if change.state in STANDING:
                    standing.append(change.event["event_id"])
                    continue
                for given in standing:
                    pair = _pair(f"consent:{given}", f"uuid:{change.event['event_id']}", change.event)
                    self._relate("wasInvalidatedBy", pair)
                standing = []

    def _erasures(self, events: Sequence[Record]) -> None:
        """Invalidates what the app held when the erasure was complete, and what recipients said that they erased."""
        targets = {request["request_id"]: request["targets"] for request in self._background.requests}
        of_request = {e["request_id"]: e for e in events if e["activity"] == "erase" and e["request_id"]}
        for event in of_request.values():
            if event["erasure_phase"] == "completed":
                self._invalidate(self._of_holder.get(APP, ()), event["event_id"], event["occurred_at"])
        for request_id, event in of_request.items():
            for target in targets.get(request_id, ()):
                if target["state"] == "completed" and target["ended_at"] is not None:
                    held = self._of_holder.get(f"recipient:{_local(target['id'])}", ())
                    self._invalidate(held, event["event_id"], str(iso(target["ended_at"])))

    def _invalidate(self, entities: Iterable[str], activity: str, time: str) -> None:
        for entity in entities:
            self._relate(
                "wasInvalidatedBy", {"prov:entity": entity, "prov:activity": f"uuid:{activity}", "prov:time": time}
            )

    def _put(self, section: str, name: str, told: dict[str, Any]) -> None:
        self.sections[section].setdefault(name, told)

    def _relate(self, section: str, told: dict[str, Any]) -> None:
        known = self.sections[section]
        known[f"_:{section}{len(known) + 1}"] = told


def _pair(entity: str, activity: str, event: Record) -> dict[str, Any]:
    return {"prov:entity": entity, "prov:activity": activity, "prov:time": event["occurred_at"]}


def _label(event: Record) -> str:
    if event["activity"] == "collect":
        return f"collection ({event['event_type'] or 'unnamed'})"
    if event["activity"] in DISCLOSED:
        return f"{event['activity']} to {receiver(event)}"
    return f"{event['activity']}: {event['consent_action'] or event['erasure_phase']}"


def _name(name: str) -> dict[str, str]:
    """A qualified name as a value (PROV-JSON, 2.4)."""
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _time(text: str | None) -> dict[str, str | None]:
    return {"$": text, "type": "xsd:dateTime"}


def _local(name: str) -> str:
    """The local part of a qualified name, whatever the name is made of."""
    return quote(name, safe="")
