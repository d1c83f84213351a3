"""The second judge: the decision of the verdicts page for one event, from lists of facts in any order.

It exists to be compared with the stream processors, so it shares nothing with them: no import, no table, no
remembered result, no shortcut over many events. It reads plain dictionaries in the form of the verdicts page (times as
integers, milliseconds since 1970 UTC) and follows the page from top to bottom, one function for each paragraph. It must
never import `processors`, and never read Kafka, ClickHouse, files or the clock.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from audit.independent_states import Fact, Person, Reference, all_covered, contract_holds, covers

__all__ = ["Answer", "Reference", "judge"]

DAY = 24 * 60 * 60 * 1000
ORDER_OF_RULES = (2, 3, 4, 9, 5, 6, 7, 8)

# What the verdicts page cites, by the names under which a policy document may state its own clause (its `rules`).
CLAUSES = {
    "categories": "1",
    "purpose": "2",
    "share": "3.1",
    "share_consent": "3.1(1)",
    "share_authority": "3.1(2)",
    "share_affiliate": "3.1(3)",
    "share_partner": "3.1(4)",
    "transfer": "3.2",
    "transfer_consent": "3.2(1)",
    "transfer_successor": "3.2(2)",
    "publish": "3.3",
    "publish_consent": "3.3(1)",
    "publish_order": "3.3(2)",
    "region": "4.1",
    "retention": "4.2",
    "suppressed": "5",
    "minor": "6",
    "no_policy": "7",
    "not_accepted": "7",
}


class Answer(NamedTuple):
    """`verdict`: lawful, violation or gap; `clauses`: those that decided, in order; `legal_basis`: see the page."""

    verdict: str
    clauses: tuple[str, ...]
    legal_basis: str


def cite(policy: Fact | None, name: str) -> str:
    """The clause of that name, under the policy in force if there is one."""
    own: Mapping[str, str] = (policy or {}).get("rules") or {}
    return own.get(name) or CLAUSES[name]


class Findings:
    """What was found: rule, violation or gap, clause. Inside one rule clauses are told in the order of their text."""

    def __init__(self, policy: Fact | None) -> None:
        self.policy = policy
        self.found: list[tuple[int, str, str]] = []

    def violation(self, rule: int, name: str) -> None:
        self.found.append((rule, "violation", cite(self.policy, name)))

    def violation_of(self, rule: int, clause: str) -> None:
        self.found.append((rule, "violation", clause))

    def gap(self, rule: int, name: str) -> None:
        self.found.append((rule, "gap", cite(self.policy, name)))

    def answer(self) -> Answer | None:
        """The verdict of what was found, None if nothing was."""
        if not self.found:
            return None
        verdict = "violation" if any(kind == "violation" for _, kind, _ in self.found) else "gap"
        told = sorted((ORDER_OF_RULES.index(rule), clause) for rule, kind, clause in self.found if kind == verdict)
        return Answer(verdict, tuple(dict.fromkeys(clause for _, clause in told)), "none")

    def answer_found(self) -> Answer:
        answer = self.answer()
        assert answer is not None
        return answer


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
    findings = Findings(policy)

    if event.get("order"):
        if activity == "publish":
            return Answer("lawful", (cite(policy, "publish_order"),), "legal_obligation")
        if recipient is not None and recipient["kind"] == "authority":
            if policy is not None:
                look_at_region(event, policy, recipient, findings)
            return findings.answer() or Answer("lawful", (cite(policy, "share_authority"),), "legal_obligation")

    person = Person(consents, erased, t)
    if person.suppressed():
        findings.violation(2, "suppressed")
        return findings.answer_found()
    if person.needs_guardian():
        findings.violation(3, "minor")
    if policy is None:
        findings.violation(4, "no_policy")
        return findings.answer_found()
    if not person.accepted(policy["version"]):
        findings.violation(4, "not_accepted")

    purpose = event["purpose"]
    if purpose is None and activity is None:
        purpose = policy["events"].get(event["event_type"])
    fields = event.get("fields") or ()
    unknown_fields = [field for field in fields if field not in policy["fields"]]
    categories = set(event["categories"]) | {policy["fields"][field] for field in fields if field in policy["fields"]}

    look_at_purpose(activity, purpose, policy, person, findings)
    if unknown_fields or not all_covered(policy["categories"], categories):
        findings.violation(6, "categories")
    elif not categories:
        findings.gap(6, "categories")
    look_at_region(event, policy, recipient, findings)
    if activity is None:
        stated = policy["purposes"].get(purpose)
        clause = cite(policy, "purpose") if stated is None else stated["clause"]
        return findings.answer() or Answer("lawful", (clause,), basis(None, purpose, policy))
    look_at_retention(event, policy, purpose, categories, findings)
    permit = look_at_permit(event, policy, purpose, categories, recipient, reference, person, findings)
    return findings.answer() or Answer("lawful", (cite(policy, permit),), basis(permit, purpose, policy))


def look_at_purpose(
    activity: str | None, purpose: str | None, policy: Fact, person: Person, findings: Findings
) -> None:
    """Rule 5."""
    if purpose is None:
        if activity not in ("transfer", "publish"):
            findings.gap(5, "purpose")
        return
    stated = policy["purposes"].get(purpose)
    state = person.use_state(purpose, stated is not None)
    if stated is None:
        if state != "granted":
            findings.violation(5, "purpose")
    elif (stated["basis"] == "opt_out" and state == "withdrawn") or (
        stated["basis"] == "explicit_consent" and state != "granted"
    ):
        findings.violation_of(5, stated["clause"])


def look_at_region(event: Fact, policy: Fact, recipient: Fact | None, findings: Findings) -> None:
    """Rule 7."""
    activity = event.get("activity")
    if not policy["residency"] or activity == "publish":
        return
    if event["region"] is None:
        findings.gap(7, "region")
    elif event["region"] in policy["residency"]:
        where = event if activity is None else recipient or {}
        country = where.get("storage_country" if activity is None else "country")
        if country is None:
            findings.gap(7, "region")
        elif country not in policy["residency"][event["region"]]:
            findings.violation(7, "region")


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
        findings.gap(8, "retention")
    elif limits and age > min(limits) * DAY:
        findings.violation(8, "retention")


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
    """Rule 9; the name of the clause that permits, meant only where nothing was found."""
    t, activity = event["occurred_at"], event["activity"]
    kind = None if recipient is None else recipient["kind"]
    state = person.disclosure_state(activity, purpose, event.get("recipient"), kind, categories)
    permit = f"{activity}_consent"

    if state == "refused":
        findings.violation(9, permit)
    elif state == "granted":
        return permit
    elif activity == "publish":
        findings.violation(9, permit)
    elif recipient is None:
        findings.gap(9, activity)
    elif activity == "transfer":
        permit = "transfer_successor"
        if kind != "successor":
            findings.violation(9, "transfer")
        elif not recipient["pledge"]:
            findings.violation(9, permit)
    elif kind == "authority":
        findings.violation(9, "share_authority")
    elif kind in ("affiliate", "partner"):
        permit = f"share_{kind}"
        if not terms_kept(recipient, policy, purpose, categories, t):
            findings.violation(9, permit)
    else:
        findings.violation(9, "share")

    if event["discloser"] != "self":
        look_at_onward(event, kind, purpose, categories, reference, findings)
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
    purpose: str | None,
    categories: Iterable[str],
    reference: Reference,
    findings: Findings,
) -> None:
    """Rule 9, what a discloser other than we ourselves may pass on; `kind` is the recipient's, None if unknown."""
    t, activity = event["occurred_at"], event["activity"]
    discloser = reference.recipient_at(event["discloser"], t)
    if discloser is None:
        findings.gap(9, activity)
        return
    if discloser["kind"] not in ("affiliate", "partner"):
        findings.violation(9, activity)
        return
    addressed = {"kind:public"} if activity == "publish" else {event["recipient"], f"kind:{kind}"}
    if not (
        addressed.intersection(discloser["onward"])
        and purpose in discloser["purposes"]
        and all_covered(discloser["categories"], categories)
        and contract_holds(discloser, t)
    ):
        findings.violation(9, f"share_{discloser['kind']}" if activity == "share" else activity)


def basis(permit: str | None, purpose: str | None, policy: Fact) -> str:
    """The legal basis of a lawful event that no legal order permits. `permit`: None for a collection."""
    if permit in ("share_consent", "transfer_consent", "publish_consent"):
        return "explicit_consent"
    if purpose is not None:
        stated = policy["purposes"].get(purpose)
        if stated is None or stated["basis"] == "explicit_consent":
            return "explicit_consent"
    return "policy_acceptance"
