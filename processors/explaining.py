"""Why an event has its verdict: the same decision as the tagger's, with the facts that led to it. Pure.

`deciding_facts` picks, out of all that a person ever said, what the verdict rests on: those facts alone lead to the
same decision. Never judges by itself (that is `decide.py`) and never writes sentences (that is `sentences.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from processors.case import Case, EventFacts, Retention, consider, retention_class, retention_limit
from processors.consent import BANDS, EMPTY, ConsentFact, ConsentState, choice_of, timeline
from processors.decide import Decision, decide, is_on_disclosure, is_on_use
from processors.knowledge import Knowledge, covers

AUTHORITY = "authority"


class DecidingFact(NamedTuple):
    """A fact of the person that a verdict rests on.

    `role`: acceptance (of the version in force), return (an acceptance after an erasure, of another version), age,
    guardian, use, disclosure; leave and erasure for facts that ended one of those. `fact.event_id` is None for an
    erasure.
    """

    role: str
    fact: ConsentFact


@dataclass(frozen=True)
class Explanation:
    """A decision with what led to it. Times and ages in ms; `limit` None: no limit on the age of the data.

    `retention` is `UNCHECKED` for a collection, and for a disclosure that does not say when its data was collected.
    """

    decision: Decision
    case: Case
    state: ConsentState
    deciding: tuple[DecidingFact, ...]
    retention: Retention
    age: int | None
    limit: int | None


def explain(
    facts: EventFacts,
    occurred_at: int,
    collected_at: int | None,
    knowledge: Knowledge,
    consents: Iterable[ConsentFact],
    erased_at: Sequence[int] = (),
) -> Explanation:
    """The decision for one event under all that is known, and what it rests on. Times in ms.

    consents, erased_at: the person's, in any order; what comes after the event does not matter.
    """
    consents = [fact for fact in consents if fact.occurred_at <= occurred_at]
    erased_at = [time for time in erased_at if time <= occurred_at]
    case = consider(facts, knowledge.view(knowledge.epoch(occurred_at)))
    steps = timeline(consents, erased_at)
    state = steps[-1][1] if steps else EMPTY
    disclosed = facts.activity != "collect"
    limit = retention_limit(case) if disclosed else None
    retention = retention_class(limit, occurred_at, collected_at) if disclosed else Retention.UNCHECKED
    return Explanation(
        decision=decide(case, state, retention),
        case=case,
        state=state,
        deciding=tuple(deciding_facts(case, consents, erased_at)),
        retention=retention,
        age=None if collected_at is None or not disclosed else occurred_at - collected_at,
        limit=limit,
    )


def deciding_facts(case: Case, consents: Iterable[ConsentFact], erased_at: Sequence[int] = ()) -> list[DecidingFact]:
    """What of a person's facts the decision of a case rests on, each fact once, by time.

    consents, erased_at (ms): those at or before the event. Source: verdicts.md, "States at t" and the rules' order.
    """
    if by_order(case):
        return []
    facts = list({fact.event_id: fact for fact in consents}.values())
    erasure = max(erased_at, default=None)
    left = max((fact for fact in facts if fact.action == "leave"), key=_time, default=None)
    of_life = [fact for fact in facts if erasure is None or fact.occurred_at > erasure]
    counting = [f for f in of_life if left is None or f.action == "age" or f.occurred_at > left.occurred_at]
    found: list[DecidingFact] = []
    if erasure is not None:
        ended = DecidingFact("erasure", ConsentFact(None, erasure, "erased"))
        acceptances = [fact for fact in counting if fact.action == "accept"]
        if not acceptances:
            # A `leave` since then may have ended the acceptance that had ended the suppression.
            lost = left is not None and any(f.action == "accept" and f.occurred_at <= left.occurred_at for f in of_life)
            return [ended, *([DecidingFact("leave", left)] if lost and left else [])]
        found.append(ended)
        policy = case.view.policy
        if policy is None or all(fact.version != policy.version for fact in acceptances):
            found.append(DecidingFact("return", min(acceptances, key=_time)))
    answers = _answers(case, counting)
    found += answers
    if left is not None and _ended(_answers(case, of_life)) - _ended(answers):
        found.append(DecidingFact("leave", left))
    unique = {(one.fact.event_id, one.fact.occurred_at): one for one in reversed(found)}
    return sorted(unique.values(), key=lambda one: (one.fact.occurred_at, str(one.fact.event_id)))


def by_order(case: Case) -> bool:
    """Whether a legal order decides, so that nothing of the person is looked at."""
    facts = case.facts
    if not facts.order or facts.activity == "collect":
        return False
    return facts.activity == "publish" or (case.recipient is not None and case.recipient.kind == AUTHORITY)


def revealed_by(case: Case) -> dict[str, list[str]]:
    """Each category that the event's fields reveal under the policy in force → the fields."""
    found: dict[str, list[str]] = {}
    policy = case.view.policy
    for name in case.facts.fields if policy is not None else ():
        if policy is not None and name in policy.fields:
            found.setdefault(policy.fields[name], []).append(name)
    return found


def unnamed(case: Case) -> tuple[list[str], list[str]]:
    """The categories and the fields of the event that the policy in force does not name."""
    policy = case.view.policy
    if policy is None:
        return [], []
    categories = [category for category in case.categories if not covers(policy.categories, category)]
    return categories, [name for name in dict.fromkeys(case.facts.fields) if name not in policy.fields]


def _ended(answers: Iterable[DecidingFact]) -> set[object]:
    """What a `leave` can take away of the answers. It does not matter which acceptance it was."""
    return {one.role if one.role == "acceptance" else one for one in answers if one.role != "age"}


def _answers(case: Case, facts: Sequence[ConsentFact]) -> list[DecidingFact]:
    """The facts that answer each question of the decision, of those that count."""
    found: list[DecidingFact] = []
    policy = case.view.policy
    age = _latest(facts, lambda fact: fact.action == "age", lambda fact: BANDS.index(fact.band or BANDS[0]))
    if age is not None:
        found.append(DecidingFact("age", age))
    if age is not None and age.band != "adult":
        word = _latest(facts, lambda fact: fact.action == "guardian", lambda fact: not fact.granted)
        found += [] if word is None else [DecidingFact("guardian", word)]
    if policy is not None:
        taps = [fact for fact in facts if fact.action == "accept" and fact.version == policy.version]
        found += [DecidingFact("acceptance", min(taps, key=_time))] if taps else []
        found += [DecidingFact("use", fact) for fact in _on_use(case, facts)]
        found += [DecidingFact("disclosure", fact) for fact in _on_disclosure(case, facts)]
    return found


def _on_use(case: Case, facts: Sequence[ConsentFact]) -> list[ConsentFact]:
    purpose, rule = case.purpose, case.rule
    if purpose is None or (rule is not None and rule.basis == "policy_acceptance"):
        return []
    latest = _latest_choice(facts, lambda fact: is_on_use(choice_of(fact), purpose, rule is not None))
    return [] if latest is None else [latest]


def _on_disclosure(case: Case, facts: Sequence[ConsentFact]) -> list[ConsentFact]:
    """The withdrawals that refuse, else the grants that cover every category, else none: some do not suffice."""
    if case.facts.activity == "collect":
        return []
    latest = [
        _latest_choice(facts, lambda fact, c=category: is_on_disclosure(choice_of(fact), case, c))  # type: ignore[misc]
        for category in case.categories or ("user",)
    ]
    refusing = [fact for fact in latest if fact is not None and fact.action == "withdraw"]
    if refusing:
        return refusing
    granting = [fact for fact in latest if fact is not None]
    return granting if len(granting) == len(latest) else []


def _latest_choice(facts: Sequence[ConsentFact], wanted: Callable[[ConsentFact], bool]) -> ConsentFact | None:
    """On a tie the withdrawal."""
    choices = [fact for fact in facts if fact.action in ("grant", "withdraw")]
    return _latest(choices, wanted, lambda fact: fact.action == "withdraw")


def _latest(
    facts: Sequence[ConsentFact], wanted: Callable[[ConsentFact], bool], tie: Callable[[ConsentFact], int]
) -> ConsentFact | None:
    """The latest wanted fact; of one moment the one of the greatest `tie`."""
    return max(filter(wanted, facts), key=lambda fact: (fact.occurred_at, tie(fact)), default=None)


def _time(fact: ConsentFact) -> int:
    return fact.occurred_at
