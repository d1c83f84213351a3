"""Judging again: the answers of the judge of whole histories, and nothing told of what stays as it is."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from processors.consent import ConsentFact, ConsentStates
from processors.histories import consent_fact, event_facts, in_ms, instant, judge_history
from processors.judge import MISSING, Judge
from processors.knowledge import Knowledge, Policy, Recipient
from processors.revising import decision_tags, judge_again
from tests.unit.own_cases import own_cases

TAGS = (
    *("tagged_purpose", "tagged_categories", "verdict", "clauses", "legal_basis", "findings"),
    *("policy_version", "recipient_kind", "recipient_effective_at", "sensitive"),
)


@dataclass
class Person:
    consents: list[ConsentFact] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)


class Events:
    """The events of a history, each once, with tags that nobody would give."""

    def __init__(self, history: dict[str, Any]) -> None:
        given: dict[str, dict[str, Any]] = {}
        for event in history["events"]:
            given.setdefault(event["event_id"], event)
        events = list(given.values())
        self.subjects = np.array([subject(event["subject"]) for event in events], np.uint8)
        self.occurred_at = np.array([instant(event["occurred_at"]) for event in events], np.int64)
        times = [instant(e["collected_at"]) if e.get("collected_at") else MISSING for e in events]
        self.collected_at = np.array(times, np.int64)
        self.codes: npt.NDArray[np.int32] = np.arange(len(events), dtype=np.int32)
        self.shapes: list[dict[str, Any]] = [event_facts(e)._asdict() | dict.fromkeys(TAGS, "?") for e in events]

    def __len__(self) -> int:
        return len(self.codes)


def subject(name: str) -> list[int]:
    return list(name.encode().ljust(16, b"\0")[-16:])


def people_of(history: dict[str, Any]) -> dict[bytes, Person]:
    people: dict[bytes, Person] = {}
    for consent in history["consents"]:
        people.setdefault(bytes(subject(consent["subject"])), Person()).consents.append(consent_fact(consent))
    for erasure in history["erased"]:
        people.setdefault(bytes(subject(erasure["subject"])), Person()).erased.append(instant(erasure["occurred_at"]))
    return people


@pytest.mark.parametrize("history", [pytest.param(case, id=case["name"]) for case in own_cases()])
def test_the_answers_are_those_for_the_whole_history(history: dict[str, Any]) -> None:
    knowledge = Knowledge(
        [Policy.from_record(in_ms(policy, "effective_at")) for policy in history["policies"]],
        [
            Recipient.from_record(in_ms(entry, "effective_at", "contract_from", "contract_until"))
            for entry in history["recipients"]
        ],
    )
    states, events, people = ConsentStates(), Events(history), people_of(history)
    judge = Judge(knowledge, states)
    decided, changed = judge_again(judge, states, events, people)
    expected = judge_history(history)
    decisions = [judge.decisions[number] for number in decided.tolist()]
    assert [(d.verdict, list(d.clauses), d.legal_basis) for d in decisions] == [
        (answer["verdict"], answer["clauses"], answer["legal_basis"]) for answer in expected
    ]
    assert changed.all()
    for shape, decision in zip(events.shapes, decisions, strict=True):
        shape |= decision_tags(decision)
    _, changed = judge_again(judge, states, events, people)
    assert not changed.any()
    # One tag suffices.
    events.shapes[-1]["clauses"] = ["?"]
    _, changed = judge_again(judge, states, events, people)
    assert changed.tolist() == [False] * (len(events) - 1) + [True]
