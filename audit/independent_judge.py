"""The second judge: the decision of the verdicts page for one event, from lists of facts in any order.

It exists to be compared with the stream processors, so it shares nothing with them: no import, no table, no
remembered result, no shortcut over many events. It reads plain dictionaries in the form of the verdicts page (times as
integers, milliseconds since 1970 UTC) and follows the page from top to bottom, one function for each paragraph. It must
never import `processors`, and never read Kafka, ClickHouse, files or the clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Fact = Mapping[str, Any]

DAY = 24 * 60 * 60 * 1000
UNDER_AGE = ("under_14", "14_17")  # younger first
ORDER_OF_RULES = (2, 3, 4, 9, 5, 6, 7, 8)


class Answer(NamedTuple):
    """`verdict`: lawful, violation or gap; `clauses`: those that decided, in order; `legal_basis`: see the page."""

    verdict: str
    clauses: tuple[str, ...]
    legal_basis: str


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


def covers(listed: Iterable[str], category: str) -> bool:
    """Whether one of the listed keys is the category, a key above it, or `*`."""
    return any(key in ("*", category) or lies_below(category, key) for key in listed)


def all_covered(listed: Sequence[str], categories: Iterable[str]) -> bool:
    return all(covers(listed, category) for category in categories)


def contract_holds(recipient: Fact, t: int) -> bool:
    begins, ends = recipient["contract_from"], recipient["contract_until"]
    if begins is None and recipient["kind"] == "partner":
        return False
    return (begins is None or begins <= t) and (ends is None or t < ends)


class Findings:
    """What was found: rule, violation or gap, clause. Inside one rule clauses are told in the order of their text."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []

    def violation(self, rule: int, clause: str) -> None:
        self.found.append((rule, "violation", clause))

    def gap(self, rule: int, clause: str) -> None:
        self.found.append((rule, "gap", clause))

    def answer(self) -> Answer | None:
        """The verdict of what was found, None if nothing was."""
        for verdict in ("violation", "gap"):
            clauses = [
                clause
                for wanted in ORDER_OF_RULES
                for rule, kind, clause in sorted(self.found)
                if rule == wanted and kind == verdict
            ]
            if clauses:
                return Answer(verdict, tuple(dict.fromkeys(clauses)), "none")
        return None


def judge(event: Fact, reference: Reference, consents: Iterable[Fact], erased: Iterable[Fact]) -> Answer:
    """Judge one event.

    Args:
        event: a collection, or (having `activity`) a disclosure, of one person.
        reference: every policy and registry entry there is.
        consents, erased: every such fact of that person, in any order; later ones than the event do no harm.
    """
    t = event["occurred_at"]
    activity = event.get("activity")  # None: a collection
    policy = reference.policy_at(t)
    recipient = reference.recipient_at(event.get("recipient"), t) if activity in ("share", "transfer") else None
    findings = Findings()

    if event.get("order"):
        if activity == "publish":
            return Answer("lawful", ("3.3(2)",), "legal_obligation")
        if recipient is not None and recipient["kind"] == "authority":
            if policy is not None:
                look_at_region(event, policy, recipient, findings)
            return findings.answer() or Answer("lawful", ("3.1(2)",), "legal_obligation")

    person = Person(consents, erased, t)
    if person.suppressed():
        return Answer("violation", ("5",), "none")
    if person.needs_guardian():
        findings.violation(3, "6")
    if policy is None:
        findings.violation(4, "7")
        return findings.answer() or Answer("violation", ("7",), "none")
    if not person.accepted(policy["version"]):
        findings.violation(4, "7")

    purpose = event["purpose"]
    if purpose is None and activity is None:
        purpose = policy["events"].get(event["event_type"])
    fields = event.get("fields") or ()
    unknown_fields = [field for field in fields if field not in policy["fields"]]
    categories = set(event["categories"]) | {policy["fields"][field] for field in fields if field in policy["fields"]}

    look_at_purpose(activity, purpose, policy, person, findings)
    if unknown_fields or not all_covered(policy["categories"], categories):
        findings.violation(6, "1")
    elif not categories:
        findings.gap(6, "1")
    look_at_region(event, policy, recipient, findings)
    if activity is None:
        permit = policy["purposes"][purpose]["clause"] if purpose in policy["purposes"] else "2"
    else:
        look_at_retention(event, policy, purpose, categories, findings)
        permit = look_at_permit(event, policy, purpose, categories, recipient, reference, person, findings)
    return findings.answer() or Answer("lawful", (permit,), basis(permit, purpose, policy))


def look_at_purpose(
    activity: str | None, purpose: str | None, policy: Fact, person: Person, findings: Findings
) -> None:
    """Rule 5."""
    if purpose is None:
        if activity not in ("transfer", "publish"):
            findings.gap(5, "2")
        return
    stated = policy["purposes"].get(purpose)
    state = person.use_state(purpose, stated is not None)
    if stated is None:
        if state != "granted":
            findings.violation(5, "2")
    elif (stated["basis"] == "opt_out" and state == "withdrawn") or (
        stated["basis"] == "explicit_consent" and state != "granted"
    ):
        findings.violation(5, stated["clause"])


def look_at_region(event: Fact, policy: Fact, recipient: Fact | None, findings: Findings) -> None:
    """Rule 7."""
    activity = event.get("activity")
    if not policy["residency"] or activity == "publish":
        return
    if event["region"] is None:
        findings.gap(7, "4.1")
    elif event["region"] in policy["residency"]:
        if activity is None:
            country = event["storage_country"]
        else:
            country = None if recipient is None else recipient["country"]
        if country is None:
            findings.gap(7, "4.1")
        elif country not in policy["residency"][event["region"]]:
            findings.violation(7, "4.1")


def look_at_retention(
    event: Fact, policy: Fact, purpose: str | None, categories: Iterable[str], findings: Findings
) -> None:
    """Rule 8."""
    collected_at = event["collected_at"]
    if collected_at is None:
        return
    age = event["occurred_at"] - collected_at
    limits = [days for key, days in policy["retention"].items() if any(covers([key], c) for c in categories)]
    if purpose in policy["purposes"] and policy["purposes"][purpose]["retention_days"] is not None:
        limits.append(policy["purposes"][purpose]["retention_days"])
    if age < 0:
        findings.gap(8, "4.2")
    elif limits and age > min(limits) * DAY:
        findings.violation(8, "4.2")


def look_at_permit(
    event: Fact,
    policy: Fact,
    purpose: str | None,
    categories: Iterable[str],
    recipient: Fact | None,
    reference: Reference,
    person: Person,
    findings: Findings,
) -> str:
    """Rule 9; the clause that permits, meant only where nothing was found."""
    t, activity = event["occurred_at"], event["activity"]
    kind = None if recipient is None else recipient["kind"]
    state = person.disclosure_state(activity, purpose, event.get("recipient"), kind, categories)
    permit = {"share": "3.1(1)", "transfer": "3.2(1)", "publish": "3.3(1)"}[activity]
    general = {"share": "3.1", "transfer": "3.2", "publish": "3.3"}[activity]

    if state == "refused":
        findings.violation(9, permit)
    elif state == "granted":
        return permit
    elif activity == "publish":
        findings.violation(9, "3.3(1)")
    elif recipient is None:
        findings.gap(9, general)
    elif activity == "transfer":
        if kind != "successor":
            findings.violation(9, "3.2")
        elif not recipient["pledge"]:
            findings.violation(9, "3.2(2)")
        permit = "3.2(2)"
    elif kind == "authority":
        findings.violation(9, "3.1(2)")
    elif kind in ("affiliate", "partner"):
        permit = "3.1(3)" if kind == "affiliate" else "3.1(4)"
        if not terms_kept(recipient, policy, purpose, categories, t):
            findings.violation(9, permit)
    else:
        findings.violation(9, "3.1")

    if event["discloser"] != "self":
        look_at_onward(event, kind, general, purpose, categories, reference, findings)
    return permit


def terms_kept(recipient: Fact, policy: Fact, purpose: str | None, categories: Iterable[str], t: int) -> bool:
    return (
        purpose in policy["purposes"]
        and purpose in recipient["purposes"]
        and all_covered(recipient["categories"], categories)
        and all_covered(policy["purposes"][purpose]["needs"], categories)
        and contract_holds(recipient, t)
    )


def look_at_onward(
    event: Fact,
    kind: str | None,
    general: str,
    purpose: str | None,
    categories: Iterable[str],
    reference: Reference,
    findings: Findings,
) -> None:
    """Rule 9, what a discloser other than we ourselves may pass on; `kind` is the recipient's, None if unknown."""
    discloser = reference.recipient_at(event["discloser"], event["occurred_at"])
    if discloser is None:
        findings.gap(9, general)
        return
    if discloser["kind"] not in ("affiliate", "partner"):
        findings.violation(9, general)
        return
    if event["activity"] == "publish":
        addressed = "kind:public" in discloser["onward"]
    else:
        addressed = event["recipient"] in discloser["onward"] or (
            kind is not None and "kind:" + kind in discloser["onward"]
        )
    if not (
        addressed
        and purpose in discloser["purposes"]
        and all_covered(discloser["categories"], categories)
        and contract_holds(discloser, event["occurred_at"])
    ):
        clause = {"affiliate": "3.1(3)", "partner": "3.1(4)"}[discloser["kind"]]
        findings.violation(9, clause if event["activity"] == "share" else general)


def basis(permit: str, purpose: str | None, policy: Fact) -> str:
    """The legal basis of a lawful event that no legal order permits."""
    if permit in ("3.1(1)", "3.2(1)", "3.3(1)"):
        return "explicit_consent"
    if purpose is not None:
        stated = policy["purposes"].get(purpose)
        if stated is None or stated["basis"] == "explicit_consent":
            return "explicit_consent"
    return "policy_acceptance"
