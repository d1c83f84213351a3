"""An event put into its moment: all of the decision that does not depend on the person, found once for all people.

What counts as purpose and categories, and what the rules 6, 7 and 8, the terms of rule 9 and the discloser's rights
say (verdicts.md, "The decision for one event at t"). Never looks at a consent: that is `decide.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from processors.knowledge import Purpose, Recipient, View, covers

VIOLATION, GAP = "violation", "gap"
SELF = "self"
DAY_MS = 24 * 3600 * 1000


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


# Rule 9, as far as it does not depend on the person


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
