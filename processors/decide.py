"""The decision for one event, rule by rule as verdicts.md has it. Plain and scalar: `judge.py` makes it fast.

Depends on nothing but its arguments: what the event says (`EventFacts`), what was known at its time (`View`), the
person's consent state then, and how old the data was (`Retention`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from processors.consent import ConsentState
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
class _Case:
    """One event with everything looked up."""

    facts: EventFacts
    view: View
    state: ConsentState
    retention: Retention
    purpose: str | None
    categories: tuple[str, ...]
    recipient: Recipient | None

    @property
    def rule(self) -> Purpose | None:
        """The purpose's rule, if the policy in force has the purpose."""
        policy = self.view.policy
        return None if policy is None or self.purpose is None else policy.purposes.get(self.purpose)

    def find(self, rule: str, reason: str, outcome: str = VIOLATION) -> Finding:
        return Finding(self.view.clause(rule), outcome, reason)


def resolve(facts: EventFacts, view: View) -> tuple[str | None, tuple[str, ...]]:
    """The purpose that counts, and all categories: the given ones and those of the fields, each once."""
    policy = view.policy
    purpose = facts.purpose
    if policy is None:
        return purpose, tuple(dict.fromkeys(facts.categories))
    if purpose is None and facts.activity == "collect" and facts.event_type is not None:
        purpose = policy.events.get(facts.event_type)
    revealed = [policy.fields[name] for name in facts.fields if name in policy.fields]
    return purpose, tuple(dict.fromkeys([*facts.categories, *revealed]))


def decide(facts: EventFacts, view: View, state: ConsentState, retention: Retention) -> Decision:
    """The verdict (verdicts.md, "The decision for one event at t")."""
    purpose, categories = resolve(facts, view)
    case = _Case(facts, view, state, retention, purpose, categories, view.recipient(facts.recipient))
    findings, permitted_by = _judge(case)
    unique = tuple(dict.fromkeys(findings))
    outcome = next((o for o in (VIOLATION, GAP) if any(f.outcome == o for f in unique)), None)
    if outcome is None:
        clauses: tuple[str, ...] = () if permitted_by is None else (permitted_by,)
    else:
        clauses = tuple(dict.fromkeys(f.clause for f in unique if f.outcome == outcome))
        permitted_by = None
    policy, recipient = view.policy, case.recipient
    return Decision(
        verdict=outcome or "lawful",
        clauses=clauses,
        legal_basis="none" if outcome else _legal_basis(case, permitted_by),
        findings=unique,
        purpose=purpose,
        categories=categories,
        policy_version=None if policy is None else policy.version,
        recipient_kind=None if recipient is None else recipient.kind,
        recipient_effective_at=None if recipient is None else recipient.effective_at,
        sensitive=state.band == "under_14",
        permitted_by=permitted_by,
    )


def _judge(case: _Case) -> tuple[list[Finding], str | None]:
    """The findings in the order of the rules 2, 3, 4, 9, 5, 6, 7, 8, and the clause that permits if there are none."""
    facts = case.facts
    clause = case.view.clause
    if facts.order:
        if facts.activity == "publish":
            return [], clause("publish_order")
        if facts.activity != "collect" and case.recipient is not None and case.recipient.kind == "authority":
            return list(_region(case)), clause("share_authority")
    if case.state.suppressed:
        return [case.find("suppressed", "suppressed")], None
    findings: list[Finding] = []
    if case.state.band != "adult" and not case.state.guardian:
        findings.append(case.find("minor", "minor_without_guardian"))
    policy = case.view.policy
    if policy is None:
        return [*findings, case.find("no_policy", "no_policy")], None
    if policy.version not in case.state.accepted:
        findings.append(case.find("not_accepted", "not_accepted"))
    permit, permitted_by = ([], None) if facts.activity == "collect" else _permit(case)
    findings += sorted(permit, key=_clause)
    findings += _purpose(case)
    findings += _categories(case)
    findings += _region(case)
    findings += _retention(case)
    if facts.activity == "collect":
        permitted_by = clause("purpose") if case.rule is None else case.rule.clause
    return findings, permitted_by


def _clause(finding: Finding) -> str:
    return finding.clause


def _legal_basis(case: _Case, permitted_by: str | None) -> str:
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


def _purpose(case: _Case) -> Iterator[Finding]:
    if case.purpose is None:
        if case.facts.activity not in ("transfer", "publish"):
            yield case.find("purpose", "purpose_unknown", GAP)
        return
    rule = case.rule
    use = _use_state(case, case.purpose, rule is not None)
    if rule is None:
        if use is not True:
            yield case.find("purpose", "purpose_outside_policy")
    elif rule.basis == "opt_out" and use is False:
        yield Finding(rule.clause, VIOLATION, "use_withdrawn")
    elif rule.basis == "explicit_consent" and use is not True:
        yield Finding(rule.clause, VIOLATION, "use_withdrawn" if use is False else "use_not_granted")


def _use_state(case: _Case, purpose: str, in_policy: bool) -> bool | None:
    """Granted, withdrawn or nothing said. A grant of `*` counts for purposes in the policy only."""
    for choice in reversed(case.state.choices):
        if choice.activity == "use" and (
            choice.purpose == purpose or (choice.purpose == "*" and (in_policy or not choice.granted))
        ):
            return choice.granted
    return None


# Rule 6


def _categories(case: _Case) -> Iterator[Finding]:
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


def _region(case: _Case) -> Iterator[Finding]:
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


def retention_limit(facts: EventFacts, view: View) -> int | None:
    """How old the data of a disclosure may be, in ms; None: no limit, or no policy."""
    policy = view.policy
    if policy is None:
        return None
    purpose, categories = resolve(facts, view)
    rule = None if purpose is None else policy.purposes.get(purpose)
    days = [] if rule is None or rule.retention_days is None else [rule.retention_days]
    days += [n for listed, n in policy.retention.items() if any(covers((listed,), c) for c in categories)]
    return min(days) * DAY_MS if days else None


def _retention(case: _Case) -> Iterator[Finding]:
    if case.facts.activity == "collect":
        return
    if case.retention is Retention.FUTURE:
        yield case.find("retention", "collected_later", GAP)
    elif case.retention is Retention.OVER:
        yield case.find("retention", "retention_over")


# Rule 9


def _permit(case: _Case) -> tuple[list[Finding], str | None]:
    granted = _disclosure_state(case)
    match case.facts.activity:
        case "share":
            findings, permitted_by = _permit_share(case, granted)
        case "transfer":
            findings, permitted_by = _permit_transfer(case, granted)
        case _:
            permitted_by = case.view.clause("publish_consent")
            reason = "refused" if granted is False else "no_consent"
            findings = [] if granted else [case.find("publish_consent", reason)]
    if case.facts.discloser != SELF and not granted:
        findings += _onward(case)
    return findings, permitted_by


def _disclosure_state(case: _Case) -> bool | None:
    """Granted for every category, refused for any, or nothing said."""
    answers = {_choice_on(case, category) for category in case.categories or ("user",)}
    return False if False in answers else None if None in answers else True


def _choice_on(case: _Case, category: str) -> bool | None:
    facts = case.facts
    for choice in reversed(case.state.choices):
        if choice.activity != facts.activity:
            continue
        if choice.purpose != "*" and choice.purpose != case.purpose and (choice.granted or case.purpose is not None):
            continue
        below = not choice.granted and any(covers((category,), listed) for listed in choice.categories)
        if not (below or covers(choice.categories, category)):
            continue
        if facts.activity != "publish" and not _names(choice.recipient, choice.granted, case):
            continue
        return choice.granted
    return None


def _names(scope: str | None, granted: bool, case: _Case) -> bool:
    """Whether a choice's recipient is the event's: by id, by its kind, or all; a grant to all means all known ones."""
    recipient = case.recipient
    if scope == "*":
        return recipient is not None or not granted
    if scope is None:
        return False
    return scope == case.facts.recipient or (recipient is not None and scope == f"kind:{recipient.kind}")


def _permit_share(case: _Case, granted: bool | None) -> tuple[list[Finding], str | None]:
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
            rule = f"share_{recipient.kind}"
            return [case.find(rule, reason) for reason in _broken_terms(case, recipient)], clause(rule)
        case _:
            return [case.find("share", "kind_not_allowed")], None


def _broken_terms(case: _Case, recipient: Recipient) -> Iterator[str]:
    rule = case.rule
    if rule is None or case.purpose not in recipient.purposes:
        yield "purpose_not_recipients"
    if not _all_covered(recipient.categories, case.categories):
        yield "categories_not_recipients"
    if rule is not None and not _all_covered(rule.needs, case.categories):
        yield "categories_not_needed"
    if not recipient.contract_holds(case.view.at):
        yield "no_contract"


def _all_covered(listed: Iterable[str], categories: tuple[str, ...]) -> bool:
    return all(covers(listed, category) for category in categories)


def _permit_transfer(case: _Case, granted: bool | None) -> tuple[list[Finding], str | None]:
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


def _onward(case: _Case) -> list[Finding]:
    activity = case.facts.activity
    discloser = case.view.recipient(case.facts.discloser)
    if discloser is None:
        return [case.find(activity, "discloser_unknown", GAP)]
    if discloser.kind not in ("affiliate", "partner"):
        return [case.find(activity, "discloser_kind")]
    if activity == "publish":
        named = "kind:public" in discloser.onward
    else:
        kind = None if case.recipient is None else f"kind:{case.recipient.kind}"
        named = case.facts.recipient in discloser.onward or kind in discloser.onward
    if (
        named
        and case.purpose in discloser.purposes
        and _all_covered(discloser.categories, case.categories)
        and discloser.contract_holds(case.view.at)
    ):
        return []
    return [case.find(f"share_{discloser.kind}" if activity == "share" else activity, "onward_not_allowed")]
