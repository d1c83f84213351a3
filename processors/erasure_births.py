"""Erasure requests that nobody has to ask for: who is due, for which cause, by which clause, as which request.

Pure, and level-triggered: it looks at what is so now, so whoever has put a cause right is not due, and whoever is due
is found again with the same request id. What must never be here: a clock, or a judgement of its own about consent
(consent.py and decide.py have that).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID, uuid5

from processors.case import DAY_MS, EventFacts, Retention, consider
from processors.consent import EMPTY, ConsentFact, ConsentState, timeline
from processors.decide import decide
from processors.erasure import Step
from processors.knowledge import Policy, View, covers

REQUESTER = "lineage"
# What would be found if a transfer to a successor took place now, and the successor were still not bound.
_NOT_BOUND = frozenset({"no_pledge", "refused"})


class Transfer(NamedTuple):
    """A transfer to a successor without its pledge. `purpose`, `categories`: as judged; `occurred_at`: ms."""

    recipient: str
    purpose: str | None
    categories: tuple[str, ...]
    occurred_at: int


@dataclass(frozen=True)
class Person:
    """What is known of one person up to now. Times in ms; None: there is none.

    `erased`: erasures completed; `first_event`: the earliest collection or disclosure; `last_lawful`: the latest
    collection that was lawful; `kept_until`: when the retention of all that was collected is over, None also where
    something has no limit, or nobody has looked.
    """

    alias: bytes
    subject: UUID
    facts: tuple[ConsentFact, ...] = ()
    erased: tuple[int, ...] = ()
    first_event: int | None = None
    last_lawful: int | None = None
    transfers: tuple[Transfer, ...] = ()
    kept_until: int | None = None


class Birth(NamedTuple):
    """One person is due. `arose_at`: when the cause arose, ms; the request is due `after_days` later."""

    alias: bytes
    subject: UUID
    cause: str
    clause: str
    arose_at: int

    @property
    def request_id(self) -> UUID:
        """The same for the same cause of the same subject, however often it is found."""
        # Of the subject, which stands beside it in the log anyhow and is nobody's in the end; never of the alias, which
        # whoever holds the pepper can make. OpenDSR wants ids of version 4.
        return UUID(bytes=uuid5(self.subject, f"{self.cause}:{self.arose_at}").bytes, version=4)

    def step(self, now: int) -> Step:
        """The step that opens the request. What confirms it after the notice is that the cause still stands."""
        return Step(self.request_id, self.alias, now, "received", origin=self.cause, requester=REQUESTER)


def births(people: Iterable[Person], cause: str, view: View, now: int) -> list[Birth]:
    """Those of the people who are due for a cause (of `ERASURE_CAUSES`) at `now` (ms).

    view: what is known at `now`; where its policy does not name the cause, nobody is due.
    """
    terms = None if view.policy is None else view.policy.erasure.get(cause)
    if terms is None:
        return []
    arose = [(person, _arose(person, cause, view, now)) for person in people]
    return [
        Birth(person.alias, person.subject, cause, terms.clause, at)
        for person, at in arose
        if at is not None and at + terms.after_days * DAY_MS <= now
    ]


def _arose(person: Person, cause: str, view: View, now: int) -> int | None:
    """Since when it is so; None: it is not."""
    if cause == "retention":
        # The last moment of the limit is still within it (rule 8).
        return None if person.kept_until is None else person.kept_until + 1
    facts = [fact for fact in person.facts if fact.occurred_at <= now]
    # What an erasure has ended is gone, as is most of what a leave has (verdicts.md, "What counts").
    erased = max(person.erased, default=-1)
    living = [fact for fact in facts if fact.occurred_at > erased]
    left = _latest(fact for fact in living if fact.action == "leave")
    match cause:
        case "leave":
            return _left_at(living, left)
        case "withdrawal":
            return _withdrawn_at(living, left, person)
    states = timeline(facts, person.erased)
    if cause == "minor":
        return _minor_since(states, person)
    return _unbound_since(states[-1][1] if states else EMPTY, person, view, erased)


def _minor_since(states: list[tuple[int, ConsentState]], person: Person) -> int | None:
    """Since when they are known as a minor without a guardian's consent and there is data of theirs."""
    since = None
    for at, state in reversed(states):
        if state.band == "adult" or state.guardian:
            break
        since = at
    return None if since is None or person.first_event is None else max(since, person.first_event)


def _unbound_since(state: ConsentState, person: Person, view: View, erased: int) -> int | None:
    """Since when data is with a successor that is not bound: judged again as if it were transferred now."""
    unbound = []
    for transfer in person.transfers:
        facts = EventFacts(
            "transfer", purpose=transfer.purpose, categories=transfer.categories, recipient=transfer.recipient
        )
        case = consider(facts, view)
        if transfer.occurred_at <= erased or case.recipient is None or case.recipient.kind != "successor":
            continue
        if case.recipient.pledge:
            continue
        found = decide(case, state, Retention.UNCHECKED).findings
        if any(finding.reason in _NOT_BOUND for finding in found):
            unbound.append(transfer.occurred_at)
    return min(unbound, default=None)


def _left_at(facts: list[ConsentFact], left: int) -> int | None:
    returned = any(fact.action == "accept" and fact.occurred_at > left for fact in facts)
    return None if left < 0 or returned else left


def _withdrawn_at(facts: list[ConsentFact], left: int, person: Person) -> int | None:
    """When they withdrew the use for all purposes; nobody who has gone on since."""
    at = _latest(f for f in facts if f.action == "withdraw" and f.activity == "use" and f.purpose == "*")
    since = [f for f in facts if f.occurred_at > at]
    goes_on = any(f.action == "accept" or (f.action == "grant" and f.activity == "use") for f in since)
    used = person.last_lawful is not None and person.last_lawful > at
    return None if at <= left or goes_on or used else at


def _latest(facts: Iterable[ConsentFact]) -> int:
    return max((fact.occurred_at for fact in facts), default=-1)


# Retention


def kept_for(policy: Policy, purpose: str | None, categories: Sequence[str]) -> int | None:
    """For how many days what was collected together is kept; None: without a limit.

    Of each category by itself it is the shortest limit of the purpose and of the `retention` entries that cover it
    (rule 8); together they are kept as long as the one that is kept longest.
    """
    rule = None if purpose is None else policy.purposes.get(purpose)
    of_purpose = [] if rule is None or rule.retention_days is None else [rule.retention_days]
    longest = 0
    for category in categories or ("",):
        days = of_purpose + [n for key, n in policy.retention.items() if category and covers((key,), category)]
        if not days:
            return None
        longest = max(longest, min(days))
    return longest
