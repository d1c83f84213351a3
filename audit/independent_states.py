"""What was so at a moment, for the second judge: the policy in force, the registry, what counts of a person's consent.

The verdicts page's "States at t", over lists of facts in any order; times are integers, milliseconds since 1970 UTC.
Like all of the second judge it never imports `processors`, and remembers nothing from one question to the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Fact = Mapping[str, Any]

UNDER_AGE = ("under_14", "14_17")


class Reference:
    """What is the same for every person: all policies and all registry entries, in any order, duplicates allowed."""

    def __init__(self, policies: Iterable[Fact], recipients: Iterable[Fact]) -> None:
        self.policies = list(policies)
        self.entries: dict[str, list[Fact]] = {}
        for entry in recipients:
            self.entries.setdefault(entry["id"], []).append(entry)

    def policy_at(self, t: int) -> Fact | None:
        """The policy in force at t, or None."""
        begun = [policy for policy in self.policies if policy["effective_at"] <= t]
        return max(begun, key=lambda policy: (policy["effective_at"], policy["version"]), default=None)

    def recipient_at(self, name: str | None, t: int) -> Fact | None:
        """The entry of this recipient that counts at t; None where it is unknown, or none is named."""
        begun = [entry for entry in self.entries.get(name or "", ()) if entry["effective_at"] <= t]
        return max(begun, key=lambda entry: entry["effective_at"], default=None)


class Person:
    """What counts of one person at one moment: consent facts that neither an erasure nor a `leave` has ended."""

    def __init__(self, consents: Iterable[Fact], erased: Iterable[Fact], t: int) -> None:
        known = [fact for fact in consents if fact["occurred_at"] <= t]
        self.last_erasure = max((fact["occurred_at"] for fact in erased if fact["occurred_at"] <= t), default=None)
        last_leave = max((fact["occurred_at"] for fact in known if fact["action"] == "leave"), default=None)
        if self.last_erasure is not None:
            known = [fact for fact in known if fact["occurred_at"] > self.last_erasure]
        if last_leave is not None:
            known = [fact for fact in known if fact["action"] == "age" or fact["occurred_at"] > last_leave]
        self.facts = known

    def accepted(self, version: int) -> bool:
        return any(fact["action"] == "accept" and fact["version"] == version for fact in self.facts)

    def suppressed(self) -> bool:
        # Facts up to the erasure are gone already: any acceptance that is left came later than it.
        return self.last_erasure is not None and not any(fact["action"] == "accept" for fact in self.facts)

    def needs_guardian(self) -> bool:
        """Whether the band is under 18 and no guardian stands for the person."""
        ages = [fact for fact in self.facts if fact["action"] == "age"]
        if not ages:
            return False
        latest = max(fact["occurred_at"] for fact in ages)
        if not any(fact["band"] in UNDER_AGE for fact in ages if fact["occurred_at"] == latest):
            return False
        words = [(fact["occurred_at"], not fact["granted"]) for fact in self.facts if fact["action"] == "guardian"]
        return not words or max(words)[1]

    def sensitive(self) -> bool:
        """Whether the band is `under_14`."""
        ages = [(fact["occurred_at"], fact["band"] == "under_14") for fact in self.facts if fact["action"] == "age"]
        return bool(ages) and max(ages)[1]

    def use_state(self, purpose: str, in_policy: bool) -> str:
        words = []
        for fact in self.facts:
            if fact["action"] not in ("grant", "withdraw") or fact["activity"] != "use":
                continue
            withdrawal = fact["action"] == "withdraw"
            if fact["purpose"] == purpose or (fact["purpose"] == "*" and (withdrawal or in_policy)):
                words.append((fact["occurred_at"], withdrawal))
        return last_word(words)

    def disclosure_state(
        self, activity: str, purpose: str | None, recipient: str | None, kind: str | None, categories: Iterable[str]
    ) -> str:
        """Over all the categories of the event; `kind` is the recipient's at t, None where it is unknown."""
        about = [
            fact for fact in self.facts if fact["action"] in ("grant", "withdraw") and fact["activity"] == activity
        ]
        permitting, forbidding = {recipient}, {recipient, "*"}
        if kind is not None:  # only who is known can be meant by their kind, or be permitted among all
            permitting |= {"kind:" + kind, "*"}
            forbidding |= {"kind:" + kind}
        states = []
        for category in list(categories) or ["user"]:
            words = []
            for fact in about:
                withdrawal = fact["action"] == "withdraw"
                if fact["purpose"] not in ("*", purpose) and not (withdrawal and purpose is None):
                    continue
                if activity != "publish" and fact["recipient"] not in (forbidding if withdrawal else permitting):
                    continue
                listed = fact["categories"]
                if covers(listed, category) or (withdrawal and any(lies_below(key, category) for key in listed)):
                    words.append((fact["occurred_at"], withdrawal))
            states.append(last_word(words))
        if "withdrawn" in states:
            return "refused"
        return "granted" if all(state == "granted" for state in states) else "none"


def last_word(words: Sequence[tuple[int, bool]]) -> str:
    """The latest of (time, is a withdrawal); on a tie the withdrawal."""
    if not words:
        return "none"
    return "withdrawn" if max(words)[1] else "granted"


def lies_below(key: str, other: str) -> bool:
    return key.startswith(other + ".")


def covers(listed: Sequence[str], category: str) -> bool:
    """Whether one of the listed keys is the category, a key above it, or `*`."""
    return "*" in listed or category in listed or any(lies_below(category, key) for key in listed)


def all_covered(listed: Sequence[str], categories: Iterable[str]) -> bool:
    return all(covers(listed, category) for category in categories)


def contract_holds(recipient: Fact, t: int) -> bool:
    begins, ends = recipient["contract_from"], recipient["contract_until"]
    if begins is None and recipient["kind"] == "partner":
        return False
    return (begins is None or begins <= t) and (ends is None or t < ends)
