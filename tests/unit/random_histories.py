"""Random histories of verdicts.md's format in a small world: few words and few moments, so that everything meets
everything, ties included. Weighted so that most events get past acceptance and age, and consents decide often."""

from __future__ import annotations

import random
from typing import Any

MOMENTS = [f"2026-01-{day:02}T00:00:00.000Z" for day in range(1, 13)]
PURPOSES = ["a", "b", "c", "outside"]
CATEGORIES = ["user", "user.x", "user.x.y", "user.z"]
IDS = ["r0", "r1", "r2", "r3"]
KINDS = ["affiliate", "partner", "authority", "successor", "public"]


def random_history(rng: random.Random) -> dict[str, Any]:
    history = _Random(rng)
    consents = [*history.acceptances(), *(history.consent() for _ in range(rng.randrange(9)))]
    rng.shuffle(consents)
    return {
        "policies": [history.policy(version) for version in rng.sample([1, 2, 3], rng.choice([1, 1, 2, 3]))],
        "recipients": history.registry(),
        "consents": [{"event_id": f"c{i}", **consent} for i, consent in enumerate(consents)],
        "erased": [{"subject": "s", "occurred_at": history.moment()} for _ in range(rng.random() < 0.15)],
        "events": [{"event_id": f"e{i}", **history.event()} for i in range(rng.randrange(1, 15))],
    }


class _Random:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def chance(self, of: float) -> bool:
        return self._rng.random() < of

    def one(self, among: list[Any]) -> Any:
        return self._rng.choice(among)

    def some(self, among: list[Any], most: int = 3) -> list[Any]:
        return self._rng.sample(among, self._rng.randrange(min(most, len(among)) + 1))

    def moment(self) -> str:
        return self._rng.choice(MOMENTS)

    def listed(self) -> list[str]:
        """A list of categories that often covers all."""
        return ["*"] if self.chance(0.6) else self.some([*CATEGORIES, "*"])

    def policy(self, version: int) -> dict[str, Any]:
        bases = ["policy_acceptance", "policy_acceptance", "opt_out", "explicit_consent"]
        return {
            "version": version,
            "effective_at": self.one(MOMENTS[:3]) if self.chance(0.9) else self.moment(),
            "purposes": {
                name: {
                    "clause": f"2.{i}",
                    "basis": self.one(bases),
                    "needs": self.listed(),
                    "retention_days": self.one([None, None, 0, 2, 6]),
                }
                for i, name in enumerate(PURPOSES[:3], 1)
            },
            "categories": ["user"] if self.chance(0.8) else self.listed(),
            "events": {name: self.one(PURPOSES) for name in self.some(["e0", "e1"])},
            "fields": {name: self.one(CATEGORIES) for name in ["f0", "f1"] if self.chance(0.9)},
            "residency": {name: self.some(["CN", "US"]) for name in self.some(["CN", "EU"])},
            "retention": {name: self.one([0, 3, 8]) for name in self.some([*CATEGORIES, "*"], 2)},
        }

    def registry(self) -> list[dict[str, Any]]:
        entries = {}
        for _ in range(self._rng.randrange(2, 9)):
            entry = self.recipient()
            entries[entry["id"], entry["effective_at"]] = entry
        return list(entries.values())

    def recipient(self) -> dict[str, Any]:
        return {
            "id": self.one(IDS),
            "kind": self.one(KINDS),
            "effective_at": self.one(MOMENTS[:2]) if self.chance(0.6) else self.moment(),
            "country": self.one(["CN", "CN", "US", None]),
            "purposes": PURPOSES if self.chance(0.5) else self.some(PURPOSES, 4),
            "categories": self.listed(),
            "contract_from": self.one(MOMENTS[:3]) if self.chance(0.6) else self.one([None, self.moment()]),
            "contract_until": self.moment() if self.chance(0.3) else None,
            "pledge": self.chance(0.5),
            "onward": self.some([*IDS, *(f"kind:{kind}" for kind in KINDS)], 6),
        }

    def acceptances(self) -> list[dict[str, Any]]:
        versions = [1, 2, 3] if self.chance(0.85) else self.some([1, 2, 3])
        return [
            {"subject": "s", "occurred_at": self.one(MOMENTS[:2]), "action": "accept", "version": version}
            for version in versions
        ]

    def consent(self) -> dict[str, Any]:
        return {
            "subject": self.one(["s", "s", "s", "s", "another"]),
            "occurred_at": self.moment(),
            **(self.choice() if self.chance(0.75) else self.circumstance()),
        }

    def choice(self) -> dict[str, Any]:
        return {
            "action": self.one(["grant", "grant", "withdraw"]),
            "activity": self.one(["use", "share", "transfer", "publish"]),
            "purpose": self.one([*PURPOSES, "*", "*"]),
            "recipient": self.one([*IDS, *(f"kind:{kind}" for kind in KINDS), "unheard_of", "*", "*", "*"]),
            "categories": self.listed(),
        }

    def circumstance(self) -> dict[str, Any]:
        match self._rng.randrange(6):
            case 0 | 1:
                return {"action": "accept", "version": self.one([1, 2, 3])}
            case 2:
                return {"action": "leave"}
            case 3:
                return {"action": "age", "band": self.one(["under_14", "14_17", "adult"])}
            case _:
                return {"action": "guardian", "granted": self.chance(0.7)}

    def event(self) -> dict[str, Any]:
        common = {
            "subject": "s",
            "occurred_at": self.moment(),
            "purpose": self.one([*PURPOSES, *PURPOSES[:3], None]),
            "categories": self.some(CATEGORIES, 2),
            "region": self.one(["CN", "EU", "elsewhere", "elsewhere", None]),
        }
        if self.chance(0.3):
            return {
                **common,
                "event_type": self.one(["e0", "e1", "e2", None]),
                "fields": self.some(["f0", "f1"]),
                "storage_country": self.one(["CN", "US", None]),
            }
        activity = self.one(["share", "share", "transfer", "publish"])
        return {
            **common,
            "activity": activity,
            "discloser": "self" if self.chance(0.6) else self.one(IDS),
            "recipient": None if activity == "publish" else self.one([*IDS, *IDS, "unheard_of", None]),
            "collected_at": self.moment() if self.chance(0.3) else None,
            "order": self.one(["", "A-1"]) if self.chance(0.2) else None,
        }
