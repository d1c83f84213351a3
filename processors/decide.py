"""The decision for one event, rule by rule as verdicts.md has it. Plain and scalar: `judge.py` makes it fast.

Depends on nothing but its arguments: what the event says (`EventFacts`), what was known at its time (`View`), the
person's consent state then, and how old the data was (`Retention`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from processors.consent import Choice, ConsentState
from processors.knowledge import Purpose, Recipient, View, covers

VIOLATION, GAP = "violation", "gap"
SELF = "self"
DAY_MS = 24 * 3600 * 1000

# What a finding's reason code says, in words, for explanations.
REASONS = {
    "no_policy": "no policy was in force",
    "suppressed": "the person had been erased and had not accepted anew",
    "minor_without_guardian": "the person was under age and no guardian had consented",
    "not_accepted": "the person had not accepted the policy in force",
    "purpose_unknown": "no purpose was given and the event type has none",
    "purpose_outside_policy": "the purpose is not in the policy and the person had not consented to it",
    "use_withdrawn": "the person had withdrawn from the purpose",
    "use_not_granted": "the purpose needs explicit consent and there was none",
    "category_beyond_policy": "a data category that the policy does not name",
    "field_beyond_policy": "a field that the policy does not name",
    "nothing_named": "neither a category nor a field was named",
    "region_unknown": "the region of collection is not known",
    "storage_unknown": "the country of storage is not known",
    "storage_abroad": "stored outside the countries allowed for the region",
    "destination_unknown": "the country of the recipient is not known",
    "destination_abroad": "disclosed to a country not allowed for the region",
    "collected_later": "the data is said to have been collected after it was disclosed",
    "retention_over": "the data was older than it may be kept",
    "refused": "the person had withdrawn from such a disclosure",
    "recipient_unknown": "the recipient was not registered",
    "no_order": "an authority without a reference to an order",
    "kind_not_allowed": "no clause allows this disclosure to a recipient of this kind",
    "purpose_not_recipients": "the purpose is not one of the policy and of the recipient's registration",
    "categories_not_recipients": "a data category beyond the recipient's registration",
    "categories_not_needed": "a data category that the purpose does not need",
    "no_contract": "the recipient's contract was not in force",
    "no_pledge": "the successor had not pledged to stay bound by the policy",
    "no_consent": "the person had not consented to the publication",
    "discloser_unknown": "the discloser was not registered",
    "discloser_kind": "only affiliates and partners may pass data on",
    "onward_not_allowed": "the discloser may not pass this on: recipient, purpose, categories or contract",
}


class EventFacts(NamedTuple):
    """What an event says apart from ids and times. `activity`: collect, share, transfer or publish."""

    activity: str
    event_type: str | None = None
    purpose: str | None = None
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    region: str | None = None
    storage_country: str | None = None
    discloser: str = SELF
    recipient: str | None = None
    order: str | None = None


class Retention(IntEnum):
    """How old the data of a disclosure was; `UNCHECKED` without `collected_at`."""

    UNCHECKED = 0
    WITHIN = 1
    OVER = 2
    FUTURE = 3


class Finding(NamedTuple):
    """`outcome`: violation or gap; `reason`: a key of `REASONS`."""

    clause: str
    outcome: str
    reason: str


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


@dataclass(frozen=True)
class Case:
    """An event with all that does not depend on the person: what counts, and what the rules 6, 7 and, should it come
    to that, the recipient's terms and the discloser's find."""

    facts: EventFacts
    view: View
    purpose: str | None
    rule: Purpose | None
    categories: tuple[str, ...]
    recipient: Recipient | None
    of_categories: tuple[Finding, ...] = ()
    of_region: tuple[Finding, ...] = ()
    of_terms: tuple[Finding, ...] = ()
    of_discloser: tuple[Finding, ...] = ()

    def find(self, rule: str, reason: str, outcome: str = VIOLATION) -> Finding:
        return Finding(self.view.clause(rule), outcome, reason)


def consider(facts: EventFacts, view: View) -> Case:
    """The case of an event at a time."""
    purpose, categories = _resolve(facts, view)
    rule = None if view.policy is None or purpose is None else view.policy.purposes.get(purpose)
    case = Case(facts, view, purpose, rule, categories, view.recipient(facts.recipient))
    if view.policy is None:
        return case
    return replace(
        case,
        of_categories=tuple(_categories(case)),
        of_region=tuple(_region(case)),
        of_terms=tuple(_terms(case)) if facts.activity == "share" else (),
        of_discloser=tuple(_onward(case)) if facts.activity != "collect" and facts.discloser != SELF else (),
    )


def _resolve(facts: EventFacts, view: View) -> tuple[str | None, tuple[str, ...]]:
    """The purpose that counts, and all categories: the given ones and those of the fields, each once."""
    policy = view.policy
    purpose = facts.purpose
    if policy is None:
        return purpose, tuple(dict.fromkeys(facts.categories))
    if purpose is None and facts.activity == "collect" and facts.event_type is not None:
        purpose = policy.events.get(facts.event_type)
    revealed = [policy.fields[name] for name in facts.fields if name in policy.fields]
    return purpose, tuple(dict.fromkeys([*facts.categories, *revealed]))


def decide(case: Case, state: ConsentState, retention: Retention) -> Decision:
    """The verdict (verdicts.md, "The decision for one event at t")."""
    findings, permitted_by = _judge(case, state, retention)
    unique = tuple(dict.fromkeys(findings))
    outcome = next((o for o in (VIOLATION, GAP) if any(f.outcome == o for f in unique)), None)
    if outcome is None:
        clauses: tuple[str, ...] = () if permitted_by is None else (permitted_by,)
    else:
        clauses = tuple(dict.fromkeys(f.clause for f in unique if f.outcome == outcome))
        permitted_by = None
    policy, recipient = case.view.policy, case.recipient
    return Decision(
        verdict=outcome or "lawful",
        clauses=clauses,
        legal_basis="none" if outcome else _legal_basis(case, permitted_by),
        findings=unique,
        purpose=case.purpose,
        categories=case.categories,
        policy_version=None if policy is None else policy.version,
        recipient_kind=None if recipient is None else recipient.kind,
        recipient_effective_at=None if recipient is None else recipient.effective_at,
        sensitive=state.band == "under_14",
        permitted_by=permitted_by,
    )


def _judge(case: Case, state: ConsentState, retention: Retention) -> tuple[list[Finding], str | None]:
    """The findings in the order of the rules 2, 3, 4, 9, 5, 6, 7, 8, and the clause that permits if there are none."""
    facts = case.facts
    clause = case.view.clause
    if facts.order:
        if facts.activity == "publish":
            return [], clause("publish_order")
        if facts.activity != "collect" and case.recipient is not None and case.recipient.kind == "authority":
            return [*case.of_region], clause("share_authority")
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
        permitted_by: str | None = clause("purpose") if case.rule is None else case.rule.clause
    else:
        permit, permitted_by = _permit(case, state)
        findings += sorted(permit, key=_clause)
    findings += _purpose(case, state)
    findings += case.of_categories
    findings += case.of_region
    if retention is Retention.FUTURE:
        findings.append(case.find("retention", "collected_later", GAP))
    elif retention is Retention.OVER:
        findings.append(case.find("retention", "retention_over"))
    return findings, permitted_by


def _clause(finding: Finding) -> str:
    return finding.clause


def _legal_basis(case: Case, permitted_by: str | None) -> str:
    clause = case.view.clause
    if case.facts.activity != "collect":
        if permitted_by in (clause("share_authority"), clause("publish_order")):
            return "legal_obligation"
        if permitted_by in (clause("share_consent"), clause("transfer_consent"), clause("publish_consent")):
            return "explicit_consent"
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
        if choice.activity == "use" and (
            choice.purpose == purpose or (choice.purpose == "*" and (in_policy or not choice.granted))
        ):
            return choice.granted
    return None


# Rule 6


def _categories(case: Case) -> Iterator[Finding]:
    policy = case.view.policy
    assert policy is not None
    unknown = any(name not in policy.fields for name in case.facts.fields)
    if any(not covers(policy.categories, category) for category in case.categories):
        yield case.find("categories", "category_beyond_policy")
    if unknown:
        yield case.find("categories", "field_beyond_policy")
    elif not case.categories:
        yield case.find("categories", "nothing_named", GAP)


# Rule 7


def _region(case: Case) -> Iterator[Finding]:
    policy, facts = case.view.policy, case.facts
    if policy is None or not policy.residency or facts.activity == "publish":
        return
    if facts.region is None:
        yield case.find("region", "region_unknown", GAP)
        return
    allowed = policy.residency.get(facts.region)
    if allowed is None:
        return
    if facts.activity == "collect":
        country, unknown, abroad = facts.storage_country, "storage_unknown", "storage_abroad"
    else:
        country = None if case.recipient is None else case.recipient.country
        unknown, abroad = "destination_unknown", "destination_abroad"
    if country is None:
        yield case.find("region", unknown, GAP)
    elif country not in allowed:
        yield case.find("region", abroad)


# Rule 8


def retention_limit(case: Case) -> int | None:
    """How old the data of a disclosure may be, in ms; None: no limit, or no policy."""
    policy = case.view.policy
    if policy is None:
        return None
    days = [] if case.rule is None or case.rule.retention_days is None else [case.rule.retention_days]
    days += [n for listed, n in policy.retention.items() if any(covers((listed,), c) for c in case.categories)]
    return min(days) * DAY_MS if days else None


def retention_class(limit: int | None, occurred_at: int, collected_at: int | None) -> Retention:
    """The class of one event; times in ms, `collected_at` None where it is not known."""
    if collected_at is None:
        return Retention.UNCHECKED
    if collected_at > occurred_at:
        return Retention.FUTURE
    return Retention.OVER if limit is not None and occurred_at - collected_at > limit else Retention.WITHIN


# Rule 9


def _permit(case: Case, state: ConsentState) -> tuple[list[Finding], str | None]:
    granted = _disclosure_state(case, state)
    match case.facts.activity:
        case "share":
            findings, permitted_by = _permit_share(case, granted)
        case "transfer":
            findings, permitted_by = _permit_transfer(case, granted)
        case _:
            permitted_by = case.view.clause("publish_consent")
            reason = "refused" if granted is False else "no_consent"
            findings = [] if granted else [case.find("publish_consent", reason)]
    return findings if granted else [*findings, *case.of_discloser], permitted_by


def _disclosure_state(case: Case, state: ConsentState) -> bool | None:
    """Granted for every category, refused for any, or nothing said."""
    choices = [choice for choice in reversed(state.choices) if choice.activity == case.facts.activity]
    if not choices:
        return None
    answers = {_choice_on(case, choices, category) for category in case.categories or ("user",)}
    return False if False in answers else None if None in answers else True


def _choice_on(case: Case, choices: list[Choice], category: str) -> bool | None:
    facts = case.facts
    for choice in choices:
        if choice.purpose != "*" and choice.purpose != case.purpose and (choice.granted or case.purpose is not None):
            continue
        below = not choice.granted and any(covers((category,), listed) for listed in choice.categories)
        if not (below or covers(choice.categories, category)):
            continue
        if facts.activity != "publish" and not _names(choice.recipient, choice.granted, case):
            continue
        return choice.granted
    return None


def _names(scope: str | None, granted: bool, case: Case) -> bool:
    """Whether a choice's recipient is the event's: by id, by its kind, or all; a grant to all means all known ones."""
    recipient = case.recipient
    if scope == "*":
        return recipient is not None or not granted
    if scope is None:
        return False
    return scope == case.facts.recipient or (recipient is not None and scope == f"kind:{recipient.kind}")


def _permit_share(case: Case, granted: bool | None) -> tuple[list[Finding], str | None]:
    clause = case.view.clause
    if granted is not None:
        return [] if granted else [case.find("share_consent", "refused")], clause("share_consent")
    recipient = case.recipient
    if recipient is None:
        return [case.find("share", "recipient_unknown", GAP)], None
    match recipient.kind:
        case "authority":
            return [case.find("share_authority", "no_order")], None
        case "affiliate" | "partner":
            return [*case.of_terms], clause(f"share_{recipient.kind}")
        case _:
            return [case.find("share", "kind_not_allowed")], None


def _terms(case: Case) -> Iterator[Finding]:
    """What is broken of the terms on which an affiliate or a partner may receive."""
    rule, recipient = case.rule, case.recipient
    if recipient is None or recipient.kind not in ("affiliate", "partner"):
        return
    terms = f"share_{recipient.kind}"
    if rule is None or case.purpose not in recipient.purposes:
        yield case.find(terms, "purpose_not_recipients")
    if not _all_covered(recipient.categories, case.categories):
        yield case.find(terms, "categories_not_recipients")
    if rule is not None and not _all_covered(rule.needs, case.categories):
        yield case.find(terms, "categories_not_needed")
    if not recipient.contract_holds(case.view.at):
        yield case.find(terms, "no_contract")


def _all_covered(listed: Iterable[str], categories: tuple[str, ...]) -> bool:
    return all(covers(listed, category) for category in categories)


def _permit_transfer(case: Case, granted: bool | None) -> tuple[list[Finding], str | None]:
    clause = case.view.clause
    if granted is not None:
        return [] if granted else [case.find("transfer_consent", "refused")], clause("transfer_consent")
    recipient = case.recipient
    if recipient is None:
        return [case.find("transfer", "recipient_unknown", GAP)], None
    if recipient.kind != "successor":
        return [case.find("transfer", "kind_not_allowed")], None
    broken = [] if recipient.pledge else [case.find("transfer_successor", "no_pledge")]
    return broken, clause("transfer_successor")


def _onward(case: Case) -> Iterator[Finding]:
    """What keeps a recipient from passing the data on."""
    activity = case.facts.activity
    discloser = case.view.recipient(case.facts.discloser)
    if discloser is None:
        yield case.find(activity, "discloser_unknown", GAP)
    elif discloser.kind not in ("affiliate", "partner"):
        yield case.find(activity, "discloser_kind")
    elif not _may_pass_on(discloser, case):
        yield case.find(f"share_{discloser.kind}" if activity == "share" else activity, "onward_not_allowed")


def _may_pass_on(discloser: Recipient, case: Case) -> bool:
    if case.facts.activity == "publish":
        named = "kind:public" in discloser.onward
    else:
        kind = None if case.recipient is None else f"kind:{case.recipient.kind}"
        named = case.facts.recipient in discloser.onward or kind in discloser.onward
    return (
        named
        and case.purpose in discloser.purposes
        and _all_covered(discloser.categories, case.categories)
        and discloser.contract_holds(case.view.at)
    )
