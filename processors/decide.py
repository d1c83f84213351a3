"""The decision for one event, rule by rule as verdicts.md has it. Plain and scalar: `judge.py` makes it fast.

Depends on nothing but its arguments: the event in its moment (`Case`: what it says and what was known then), the
person's consent state at that time, and how old the data was (`Retention`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from processors.case import (
    GAP,
    SELF,
    VIOLATION,
    Case,
    EventFacts,
    Finding,
    Retention,
    consider,
    retention_class,
    retention_limit,
)
from processors.consent import Choice, ConsentState
from processors.knowledge import covers

# All that callers need for a decision, whichever module has it.
__all__ = [
    "SELF",
    "Case",
    "Decision",
    "EventFacts",
    "Finding",
    "Retention",
    "consider",
    "decide",
    "is_on_disclosure",
    "is_on_use",
    "retention_class",
    "retention_limit",
]


@dataclass(frozen=True)
class Decision:
    """The verdict with its clauses, and what it was reached by. `recipient_effective_at`: ms, of the entry used."""

    verdict: str
    clauses: tuple[str, ...]
    legal_basis: str
    findings: tuple[Finding, ...]
    purpose: str | None
    categories: tuple[str, ...]
    policy_version: int | None
    recipient_kind: str | None
    recipient_effective_at: int | None
    sensitive: bool
    permitted_by: str | None


class Permit(NamedTuple):
    """What permits if nothing is found. `basis`: the legal basis that it gives; None: that of the purpose."""

    clause: str
    basis: str | None = None


def decide(case: Case, state: ConsentState, retention: Retention) -> Decision:
    """The verdict (verdicts.md, "The decision for one event at t")."""
    findings, permit = _judge(case, state, retention)
    unique = tuple(dict.fromkeys(findings))
    outcome = next((o for o in (VIOLATION, GAP) if any(f.outcome == o for f in unique)), None)
    lawful_by = permit if outcome is None else None
    clauses = (lawful_by.clause,) if lawful_by else tuple(f.clause for f in unique if f.outcome == outcome)
    policy, recipient = case.view.policy, case.recipient
    return Decision(
        verdict=outcome or "lawful",
        clauses=tuple(dict.fromkeys(clauses)),
        legal_basis="none" if lawful_by is None else lawful_by.basis or _purpose_basis(case),
        findings=unique,
        purpose=case.purpose,
        categories=case.categories,
        policy_version=None if policy is None else policy.version,
        recipient_kind=None if recipient is None else recipient.kind,
        recipient_effective_at=None if recipient is None else recipient.effective_at,
        sensitive=state.band == "under_14",
        permitted_by=None if lawful_by is None else lawful_by.clause,
    )


def _judge(case: Case, state: ConsentState, retention: Retention) -> tuple[list[Finding], Permit | None]:
    """The findings in the order of the rules 2, 3, 4, 9, 5, 6, 7, 8, and what permits if there are none."""
    facts = case.facts
    clause = case.view.clause
    if facts.order:
        if facts.activity == "publish":
            return [], Permit(clause("publish_order"), "legal_obligation")
        if facts.activity != "collect" and case.recipient is not None and case.recipient.kind == "authority":
            return [*case.of_region], Permit(clause("share_authority"), "legal_obligation")
    if state.suppressed:
        return [case.find("suppressed", "suppressed")], None
    findings: list[Finding] = []
    if state.band != "adult" and not state.guardian:
        findings.append(case.find("minor", "minor_without_guardian"))
    policy = case.view.policy
    if policy is None:
        return [*findings, case.find("no_policy", "no_policy")], None
    if policy.version not in state.accepted:
        findings.append(case.find("not_accepted", "not_accepted"))
    if facts.activity == "collect":
        permit: Permit | None = Permit(clause("purpose") if case.rule is None else case.rule.clause)
    else:
        of_permit, permit = _permit(case, state)
        findings += sorted(of_permit, key=attrgetter("clause"))
    findings += _purpose(case, state)
    findings += case.of_categories
    findings += case.of_region
    if facts.activity != "collect":
        if retention is Retention.FUTURE:
            findings.append(case.find("retention", "collected_later", GAP))
        elif retention is Retention.OVER:
            findings.append(case.find("retention", "retention_over"))
    return findings, permit


def _purpose_basis(case: Case) -> str:
    outside = case.purpose is not None and case.rule is None
    explicit = case.rule is not None and case.rule.basis == "explicit_consent"
    return "explicit_consent" if outside or explicit else "policy_acceptance"


# Rule 5


def _purpose(case: Case, state: ConsentState) -> Iterator[Finding]:
    if case.purpose is None:
        if case.facts.activity not in ("transfer", "publish"):
            yield case.find("purpose", "purpose_unknown", GAP)
        return
    rule = case.rule
    if rule is not None and rule.basis == "policy_acceptance":
        return
    use = _use_state(state, case.purpose, rule is not None)
    if rule is None:
        if use is not True:
            yield case.find("purpose", "purpose_outside_policy")
    elif rule.basis == "opt_out" and use is False:
        yield Finding(rule.clause, VIOLATION, "use_withdrawn")
    elif rule.basis == "explicit_consent" and use is not True:
        yield Finding(rule.clause, VIOLATION, "use_withdrawn" if use is False else "use_not_granted")


def _use_state(state: ConsentState, purpose: str, in_policy: bool) -> bool | None:
    """Granted, withdrawn or nothing said. A grant of `*` counts for purposes in the policy only."""
    for choice in reversed(state.choices):
        if is_on_use(choice, purpose, in_policy):
            return choice.granted
    return None


def is_on_use(choice: Choice, purpose: str, in_policy: bool) -> bool:
    """Whether a choice answers for the use of data for a purpose; of those that do, the latest counts."""
    if choice.activity != "use":
        return False
    return choice.purpose == purpose or (choice.purpose == "*" and (in_policy or not choice.granted))


# Rule 9


def _permit(case: Case, state: ConsentState) -> tuple[list[Finding], Permit | None]:
    activity = case.facts.activity
    granted = _disclosure_state(case, state)
    if granted:
        return [], Permit(case.view.clause(f"{activity}_consent"), "explicit_consent")
    if granted is False:
        findings, permit = [case.find(f"{activity}_consent", "refused")], None
    elif activity == "share":
        findings, permit = _permit_share(case)
    elif activity == "transfer":
        findings, permit = _permit_transfer(case)
    else:
        findings, permit = [case.find("publish_consent", "no_consent")], None
    return [*findings, *case.of_discloser], permit


def _disclosure_state(case: Case, state: ConsentState) -> bool | None:
    """Granted for every category, refused for any, or nothing said."""
    choices = [choice for choice in reversed(state.choices) if choice.activity == case.facts.activity]
    if not choices:
        return None
    answers = {_choice_on(case, choices, category) for category in case.categories or ("user",)}
    return False if False in answers else None if None in answers else True


def _choice_on(case: Case, choices: list[Choice], category: str) -> bool | None:
    """What the latest choice says that is about the event and one of its categories; `choices`: latest first."""
    for choice in choices:
        if is_on_disclosure(choice, case, category):
            return choice.granted
    return None


def is_on_disclosure(choice: Choice, case: Case, category: str) -> bool:
    """Whether a choice answers for one category of a disclosure; of those that do, the latest counts."""
    return (
        choice.activity == case.facts.activity
        and _is_of_purpose(choice, case)
        and _is_of_recipient(choice, case)
        and _is_of_category(choice, category)
    )


def _is_of_purpose(choice: Choice, case: Case) -> bool:
    if choice.purpose == "*":
        return True
    return not choice.granted if case.purpose is None else choice.purpose == case.purpose


def _is_of_recipient(choice: Choice, case: Case) -> bool:
    """By id, by its kind, or all; a grant to all means all that are known. For a publication it is not looked at."""
    if case.facts.activity == "publish":
        return True
    recipient = case.recipient
    if choice.recipient == "*":
        return recipient is not None or not choice.granted
    if choice.recipient is None:
        return False
    return choice.recipient == case.facts.recipient or (
        recipient is not None and choice.recipient == f"kind:{recipient.kind}"
    )


def _is_of_category(choice: Choice, category: str) -> bool:
    """Whether it covers the category, or, for a withdrawal, a part of it."""
    if covers(choice.categories, category):
        return True
    return not choice.granted and any(covers((category,), listed) for listed in choice.categories)


def _permit_share(case: Case) -> tuple[list[Finding], Permit | None]:
    recipient = case.recipient
    if recipient is None:
        return [case.find("share", "recipient_unknown", GAP)], None
    match recipient.kind:
        case "authority":
            return [case.find("share_authority", "no_order")], None
        case "affiliate" | "partner":
            return [*case.of_terms], Permit(case.view.clause(f"share_{recipient.kind}"))
        case _:
            return [case.find("share", "kind_not_allowed")], None


def _permit_transfer(case: Case) -> tuple[list[Finding], Permit | None]:
    recipient = case.recipient
    if recipient is None:
        return [case.find("transfer", "recipient_unknown", GAP)], None
    if recipient.kind != "successor":
        return [case.find("transfer", "kind_not_allowed")], None
    if not recipient.pledge:
        return [case.find("transfer_successor", "no_pledge")], None
    return [], Permit(case.view.clause("transfer_successor"))
