"""A second judge, for tests: one event at a time, straight from verdicts.md, every fact looked at anew for every event.

Shares no code with the processors, and keeps the histories' own shape: dicts, and times as text, which sorts as time
does. Slow and plain on purpose.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

Record = dict[str, Any]
YOUNGEST_FIRST = ["under_14", "14_17", "adult"]


def naive_verdict(history: Record, event: Record) -> tuple[str, list[str], str]:
    """Verdict, clauses and legal basis."""
    return _Moment(history, event).verdict()


def is_covered(category: str, listed: list[str]) -> bool:
    parts = category.split(".")
    return any(key == "*" or parts[: len(key.split("."))] == key.split(".") for key in listed)


class _Moment:
    """An event and all facts with time ≤ t."""

    def __init__(self, history: Record, event: Record) -> None:
        self.event = event
        self.t = t = event["occurred_at"]
        self.activity = event.get("activity") or "collect"
        in_force = [p for p in history["policies"] if p["effective_at"] <= t]
        self.policy = max(in_force, key=lambda p: (p["effective_at"], p["version"])) if in_force else None
        self.registry = history["recipients"]
        own = [c for c in history["consents"] if c["subject"] == event["subject"] and c["occurred_at"] <= t]
        self.erasures = [
            e["occurred_at"] for e in history["erased"] if e["subject"] == event["subject"] and e["occurred_at"] <= t
        ]
        leaves = [c["occurred_at"] for c in own if c["action"] == "leave"]
        self.consents = [
            c
            for c in own
            if not any(c["occurred_at"] <= e for e in self.erasures)
            and (c["action"] in ("age", "leave") or not any(c["occurred_at"] <= when for when in leaves))
        ]
        self.recipient = self.entry(event.get("recipient"))
        fields = self.policy["fields"] if self.policy else {}
        self.categories = {*event["categories"], *(fields[f] for f in event.get("fields") or [] if f in fields)}
        self.purpose = event["purpose"]
        if self.purpose is None and self.activity == "collect" and self.policy:
            self.purpose = self.policy["events"].get(event["event_type"])
        self.rule = self.policy["purposes"].get(self.purpose) if self.policy else None

    def entry(self, name: str | None) -> Record | None:
        entries = [r for r in self.registry if r["id"] == name and r["effective_at"] <= self.t]
        return max(entries, key=lambda r: r["effective_at"]) if entries else None

    def of(self, *actions: str) -> list[Record]:
        return [c for c in self.consents if c["action"] in actions]

    # States

    def suppressed(self) -> bool:
        return bool(self.erasures) and not any(c["occurred_at"] > max(self.erasures) for c in self.of("accept"))

    def minor(self) -> bool:
        ages = self.of("age")
        if not ages:
            return False
        latest = max(c["occurred_at"] for c in ages)
        return min(YOUNGEST_FIRST.index(c["band"]) for c in ages if c["occurred_at"] == latest) < 2

    def guardian(self) -> bool:
        said = self.of("guardian")
        latest = max((c["occurred_at"] for c in said), default="")
        return bool(said) and all(c["granted"] for c in said if c["occurred_at"] == latest)

    def last(self, grants: list[Record], withdrawals: list[Record]) -> str:
        granted = max((c["occurred_at"] for c in grants), default="")
        withdrawn = max((c["occurred_at"] for c in withdrawals), default="")
        return "none" if not granted + withdrawn else "granted" if granted > withdrawn else "withdrawn"

    def use_state(self) -> str:
        p = self.purpose
        star = ["*"] if self.rule is not None else []
        return self.last(
            [c for c in self.of("grant") if c["activity"] == "use" and c["purpose"] in [p, *star]],
            [c for c in self.of("withdraw") if c["activity"] == "use" and c["purpose"] in [p, "*"]],
        )

    def disclosure_state(self) -> str:
        states = {self.disclosure_state_of(c) for c in self.categories or {"user"}}
        return "granted" if states == {"granted"} else "refused" if "withdrawn" in states else "none"

    def disclosure_state_of(self, category: str) -> str:
        p, name = self.purpose, self.event.get("recipient")
        publish = self.activity == "publish"
        kind = None if self.recipient is None else "kind:" + self.recipient["kind"]
        known = [kind, "*"] if kind else []
        ids = [name] if name is not None else []
        return self.last(
            [
                c
                for c in self.of("grant")
                if c["activity"] == self.activity
                and c["purpose"] in (["*"] if p is None else [p, "*"])
                and is_covered(category, c["categories"])
                and (publish or c["recipient"] in ids + known)
            ],
            [
                c
                for c in self.of("withdraw")
                if c["activity"] == self.activity
                and (p is None or c["purpose"] in [p, "*"])
                and (is_covered(category, c["categories"]) or any(is_covered(x, [category]) for x in c["categories"]))
                and (publish or c["recipient"] in [*ids, kind, "*"])
            ],
        )

    # The decision

    def verdict(self) -> tuple[str, list[str], str]:
        findings, permit = self.findings()
        for outcome in ("violation", "gap"):
            clauses = [clause for kind, clause in findings if kind == outcome]
            if clauses:
                return outcome, list(dict.fromkeys(clauses)), "none"
        if permit in ("3.1(2)", "3.3(2)"):
            basis = "legal_obligation"
        elif permit in ("3.1(1)", "3.2(1)", "3.3(1)"):
            basis = "explicit_consent"
        elif self.purpose is None:
            basis = "policy_acceptance"
        else:
            explicit = self.rule is None or self.rule["basis"] == "explicit_consent"
            basis = "explicit_consent" if explicit else "policy_acceptance"
        return "lawful", [permit], basis

    def findings(self) -> tuple[list[tuple[str, str]], str]:
        if self.event.get("order"):
            if self.activity == "publish":
                return [], "3.3(2)"
            if self.recipient is not None and self.recipient["kind"] == "authority":
                return self.rule_7() if self.policy else [], "3.1(2)"
        if self.suppressed():
            return [("violation", "5")], ""
        found: list[tuple[str, str]] = [("violation", "6")] if self.minor() and not self.guardian() else []
        if self.policy is None:
            return [*found, ("violation", "7")], ""
        if not any(c["version"] == self.policy["version"] for c in self.of("accept")):
            found.append(("violation", "7"))
        if self.activity == "collect":
            permit = self.rule["clause"] if self.rule else "2"
        else:
            of_9, permit = self.rule_9()
            found += sorted(of_9, key=lambda finding: finding[1])
        return found + self.rule_5() + self.rule_6() + self.rule_7() + self.rule_8(), permit

    def rule_5(self) -> list[tuple[str, str]]:
        if self.purpose is None:
            return [] if self.activity in ("transfer", "publish") else [("gap", "2")]
        use = self.use_state()
        if self.rule is None:
            return [] if use == "granted" else [("violation", "2")]
        if self.rule["basis"] == "opt_out":
            return [("violation", self.rule["clause"])] if use == "withdrawn" else []
        if self.rule["basis"] == "explicit_consent":
            return [] if use == "granted" else [("violation", self.rule["clause"])]
        return []

    def rule_6(self) -> list[tuple[str, str]]:
        assert self.policy
        unknown = set(self.event.get("fields") or []) - self.policy["fields"].keys()
        if unknown or not all(is_covered(c, self.policy["categories"]) for c in self.categories):
            return [("violation", "1")]
        return [] if self.categories else [("gap", "1")]

    def rule_7(self) -> list[tuple[str, str]]:
        assert self.policy
        if not self.policy["residency"] or self.activity == "publish":
            return []
        region = self.event["region"]
        if region is None:
            return [("gap", "4.1")]
        if region not in self.policy["residency"]:
            return []
        if self.activity == "collect":
            country = self.event["storage_country"]
        else:
            country = self.recipient["country"] if self.recipient else None
        if country is None:
            return [("gap", "4.1")]
        return [] if country in self.policy["residency"][region] else [("violation", "4.1")]

    def rule_8(self) -> list[tuple[str, str]]:
        collected_at = self.event.get("collected_at")
        if self.activity == "collect" or collected_at is None:
            return []
        if collected_at > self.t:
            return [("gap", "4.2")]
        assert self.policy
        terms = [
            days for key, days in self.policy["retention"].items() if any(is_covered(c, [key]) for c in self.categories)
        ]
        if self.rule and self.rule["retention_days"] is not None:
            terms.append(self.rule["retention_days"])
        age = datetime.fromisoformat(self.t) - datetime.fromisoformat(collected_at)
        return [("violation", "4.2")] if terms and age.total_seconds() > min(terms) * 24 * 3600 else []

    def rule_9(self) -> tuple[list[tuple[str, str]], str]:
        state = self.disclosure_state()
        g = {"share": "3.1", "transfer": "3.2", "publish": "3.3"}[self.activity]
        if state == "granted":
            return [], g + "(1)"
        kind = self.recipient["kind"] if self.recipient else None
        permit = ""
        if state == "refused" or self.activity == "publish":
            found = [("violation", g + "(1)")]
        elif kind is None:
            found = [("gap", g)]
        elif self.activity == "share" and kind == "authority":
            found = [("violation", "3.1(2)")]
        elif self.activity == "share" and kind in ("affiliate", "partner"):
            permit = "3.1(3)" if kind == "affiliate" else "3.1(4)"
            found = [] if self.terms_kept() else [("violation", permit)]
        elif self.activity == "transfer" and kind == "successor":
            assert self.recipient
            permit = "3.2(2)"
            found = [] if self.recipient["pledge"] else [("violation", "3.2(2)")]
        else:
            found = [("violation", g)]
        return found + self.onward(g), permit

    def terms_kept(self) -> bool:
        r, rule = self.recipient, self.rule
        assert r
        return (
            rule is not None
            and self.purpose in r["purposes"]
            and all(is_covered(c, r["categories"]) for c in self.categories)
            and all(is_covered(c, rule["needs"]) for c in self.categories)
            and self.contract(r)
        )

    def contract(self, r: Record) -> bool:
        if r["contract_from"] is None and r["kind"] == "partner":
            return False
        if r["contract_from"] is not None and self.t < r["contract_from"]:
            return False
        return r["contract_until"] is None or self.t < r["contract_until"]

    def onward(self, g: str) -> list[tuple[str, str]]:
        if self.event["discloser"] == "self":
            return []
        discloser = self.entry(self.event["discloser"])
        if discloser is None:
            return [("gap", g)]
        if discloser["kind"] not in ("affiliate", "partner"):
            return [("violation", g)]
        if self.activity == "publish":
            names = {"kind:public"}
        else:
            names = {self.event["recipient"]} | ({"kind:" + self.recipient["kind"]} if self.recipient else set())
        may = (
            names & set(discloser["onward"])
            and self.purpose is not None
            and self.purpose in discloser["purposes"]
            and all(is_covered(c, discloser["categories"]) for c in self.categories)
            and self.contract(discloser)
        )
        if may:
            return []
        return [("violation", {"affiliate": "3.1(3)", "partner": "3.1(4)"}[discloser["kind"]] if g == "3.1" else g)]
