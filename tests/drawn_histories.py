"""Histories drawn at random: policies, registries, people, consents, erasures and events that get in each other's way.

Few words and few moments, so that ties, neighbours one millisecond apart and near misses of names are common. Facts
are dictionaries in the form of the verdicts page, times in ms since 1970 UTC, ids of events 16 bytes. The generator may
be one of hypothesis, which then knows how to make a failing history smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

Fact = dict[str, Any]

DAY = 86_400_000
FIRST_DAY = 1_772_323_200_000  # 2026-03-01T00:00:00Z
DAYS = 12

PURPOSES = {"service": "2.1", "push": "2.5", "ads": "2.6", "crash": "2.3"}
CATEGORIES = (
    "user.device",
    "user.device.ip_address",
    "user.devices",
    "user.contact",
    "user.contact.email",
    "user",
    "system",
)
FIELDS = {"ip": "user.device.ip_address", "mail": "user.contact.email", "uptime": "system"}
EVENT_TYPES = ("view", "push_open", "odd", "unheard")
RECIPIENTS = ("ann", "bob", "cat", "dan", "eve")
KINDS = ("affiliate", "partner", "authority", "successor", "public")
COUNTRIES = ("CN", "HK", "DE")
BANDS = ("under_14", "14_17", "adult")
# Rules that a policy may let cite clauses of its own; some then sort otherwise among those of rule 9.
OWN_CLAUSES = {"share_partner": "0.9", "categories": "C-1", "publish": "9.9", "transfer_consent": "T", "minor": "M"}


@dataclass
class History:
    """Everything there is; `people` are the subjects. Nothing is in any order."""

    people: tuple[str, ...]
    policies: list[Fact] = field(default_factory=list)
    recipients: list[Fact] = field(default_factory=list)
    consents: list[Fact] = field(default_factory=list)
    erased: list[Fact] = field(default_factory=list)
    events: list[Fact] = field(default_factory=list)


class Drawing:
    """One history being drawn."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ids = 0
        self._orderly = False

    def history(self) -> History:
        random = self._random
        history = History(("one", "two")[: random.choice((1, 1, 2))])
        # Where all goes wrong at once, findings hide each other: in most histories most is in order.
        self._orderly = self._chance(0.65)
        versions = random.choice((2, 2, 3))
        history.policies = [self._policy(version) for version in range(1, versions + 1)]
        for name in RECIPIENTS:
            moments = {self._moment(3 if self._usually(0.5) else DAYS) for _ in range(random.choice((0, 1, 1, 2)))}
            history.recipients += [self._recipient(name, moment) for moment in sorted(moments)]
        for person in history.people:
            for version in range(1, versions + 1):
                if self._usually(0.75):
                    before = FIRST_DAY - 2 * DAY if self._usually(0.3) else None
                    history.consents.append(
                        self._consent(person, "accept", version=version, early=True, occurred_at=before)
                    )
            history.consents += [self._any_consent(person, versions) for _ in range(random.randrange(8))]
            history.events += [self._event(person) for _ in range(random.randrange(4, 12))]
            history.consents += [
                self._choice_about(event)
                for event in history.events
                if event["subject"] == person
                for _ in range(random.choice((0, 0, 0, 1, 2)))
            ]
            changed = [fact for fact in history.consents if fact["subject"] == person and self._chance(0.2)]
            history.consents += [second for fact in changed for second in self._second_thoughts(fact)]
            if self._chance(0.1):
                history.erased.append({"subject": person, "occurred_at": self._moment()})
        return history

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _usually(self, probability: float) -> bool:
        """True with that probability, in an orderly history nearly always."""
        return self._chance(1 - (1 - probability) / 6 if self._orderly else probability)

    def _some(self, among: tuple[str, ...], most: int) -> list[str]:
        return [self._random.choice(among) for _ in range(self._random.randrange(most + 1))]

    def _categories(self, most: int, all_of_them: float) -> list[str]:
        return ["*"] if self._usually(all_of_them) else sorted(set(self._some(CATEGORIES, most)))

    def _moment(self, last: int = DAYS) -> int:
        day = FIRST_DAY + self._random.randrange(last) * DAY
        return day + self._random.choice((-1, 0, 0, 0, 1))

    def _id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    def _policy(self, version: int) -> Fact:
        random = self._random
        return {
            "version": version,
            "effective_at": self._moment(2 if version == 1 else DAYS),
            "purposes": {
                name: {
                    "clause": clause,
                    "basis": random.choice(("policy_acceptance", "policy_acceptance", "opt_out", "explicit_consent")),
                    "needs": self._categories(3, 0.4),
                    "retention_days": random.choice((None, None, 0, 1, 3)),
                }
                for name, clause in PURPOSES.items()
                if self._usually(0.8)
            },
            "categories": self._categories(4, 0.5),
            "events": {kind: random.choice((*PURPOSES, "resale")) for kind in EVENT_TYPES[:3] if self._chance(0.8)},
            "fields": {name: category for name, category in FIELDS.items() if self._chance(0.7)},
            "residency": {
                region: sorted(set(self._some(COUNTRIES, 3))) for region in ("CN", "EU") if not self._usually(0.7)
            },
            "retention": {
                random.choice(CATEGORIES): random.choice((0, 2, 5)) for _ in range(random.choice((0, 0, 1, 2)))
            },
            "rules": {name: clause for name, clause in OWN_CLAUSES.items() if self._chance(0.05)},
        }

    def _recipient(self, name: str, effective_at: int) -> Fact:
        random = self._random
        others = (*RECIPIENTS, "kind:partner", "kind:affiliate", "kind:public", "kind:successor")
        return {
            "id": name,
            "kind": random.choice((*KINDS, "affiliate", "partner")),
            "effective_at": effective_at,
            "country": random.choice((*COUNTRIES, None)),
            "purposes": [p for p in (*PURPOSES, "resale") if self._usually(0.5)],
            "categories": self._categories(3, 0.4),
            "contract_from": self._moment(4) if self._usually(0.7) else None,
            "contract_until": None if self._usually(0.7) else self._moment(),
            "pledge": self._usually(0.5),
            "onward": sorted(set(self._some(others, 4))),
        }

    def _consent(
        self, person: str, action: str, early: bool = False, occurred_at: int | None = None, **more: Any
    ) -> Fact:
        nothing = dict.fromkeys(("version", "band", "granted", "activity", "purpose", "recipient"))
        return {
            "event_id": self._id(),
            "subject": person,
            "occurred_at": self._moment(3 if early else DAYS) if occurred_at is None else occurred_at,
            "action": action,
            **nothing,
            "categories": [],
            **more,
        }

    def _any_consent(self, person: str, versions: int) -> Fact:
        random = self._random
        match (
            "choose" if self._chance(0.5) else random.choice(("accept", "leave", "age", "age", "guardian", "guardian"))
        ):
            case "accept":
                return self._consent(person, "accept", version=random.randrange(1, versions + 2))
            case "leave":
                return self._consent(person, "leave")
            case "age":
                return self._consent(person, "age", band=random.choice(BANDS))
            case "guardian":
                return self._consent(person, "guardian", granted=self._chance(0.6), early=self._chance(0.5))
        activity = random.choice(("use", "use", "share", "share", "transfer", "publish"))
        addressed = activity in ("share", "transfer")
        recipients = (*RECIPIENTS, "ghost", *(f"kind:{kind}" for kind in KINDS), "*", "*", "*")
        return self._consent(
            person,
            random.choice(("grant", "grant", "withdraw")),
            activity=activity,
            purpose=random.choice((*PURPOSES, "resale", "*", "*")),
            recipient=random.choice(recipients) if addressed else None,
            categories=[] if activity == "use" else self._categories(3, 0.4),
        )

    def _choice_about(self, event: Fact) -> Fact:
        """A choice that one event may turn on, at its moment or shortly before."""
        random = self._random
        activity = event.get("activity", "use") if self._chance(0.7) else "use"
        addressed = activity in ("share", "transfer")
        categories = event["categories"] or ["user"]
        return self._consent(
            event["subject"],
            random.choice(("grant", "grant", "withdraw")),
            occurred_at=event["occurred_at"] - random.choice((0, 1, DAY, 2 * DAY)),
            activity=activity,
            purpose=random.choice((event["purpose"] or "*", event["purpose"] or "*", "*")),
            recipient=random.choice((event.get("recipient") or "*", "*", "kind:partner")) if addressed else None,
            categories=[] if activity == "use" else random.choice((categories, categories[:1], ["*"], ["user"])),
        )

    def _second_thoughts(self, fact: Fact) -> Iterator[Fact]:
        """The opposite of a fact, word for word, at another time or in the same moment."""
        opposite = {"grant": "withdraw", "withdraw": "grant"}
        other = {"event_id": self._id(), "occurred_at": fact["occurred_at"] if self._chance(0.4) else self._moment()}
        if fact["action"] in opposite:
            yield fact | other | {"action": opposite[fact["action"]]}
        elif fact["action"] == "guardian":
            yield fact | other | {"granted": not fact["granted"]}
        elif fact["action"] == "age":
            yield fact | other | {"band": self._random.choice(BANDS)}

    def _event(self, person: str) -> Fact:
        random = self._random
        event = {
            "event_id": self._id(),
            "subject": person,
            "occurred_at": self._moment(),
            "purpose": random.choice(tuple(PURPOSES) if self._usually(0.7) else ("resale", None)),
            "categories": sorted({random.choice(CATEGORIES), *self._some(CATEGORIES, 1)} if self._usually(0.8) else ()),
            "region": random.choice(("CN", "EU", "EU", None)),
        }
        if self._chance(0.4):
            fields = [] if self._usually(0.5) else self._some((*FIELDS, "iris"), 2)
            return event | {
                "event_type": random.choice(EVENT_TYPES),
                "fields": sorted(set(fields)),
                "storage_country": random.choice((*COUNTRIES, None)),
            }
        activity = random.choice(("share", "share", "share", "transfer", "publish"))
        return event | {
            "activity": activity,
            "discloser": "self" if self._chance(0.6) else random.choice((*RECIPIENTS, *RECIPIENTS, "ghost")),
            "recipient": None if activity == "publish" else random.choice((*RECIPIENTS, *RECIPIENTS, "ghost", None)),
            "collected_at": event["occurred_at"] + self._age() if self._chance(0.4) else None,
            "order": random.choice((None, None, None, None, "", "A-1")),
        }

    def _age(self) -> int:
        return -DAY * self._random.choice((0, 1, 2, 3, 5)) + self._random.choice((-1, 0, 0, 1))


def draw_history(random: Random) -> History:
    return Drawing(random).history()
