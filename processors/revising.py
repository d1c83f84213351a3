"""Which verdicts change when events are judged again with all facts known. Pure: judged rows in, changed rows out.

The decisions come from the same `Judge` as the first ones. An event whose tags would be the same is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from processors.consent import ConsentFact, ConsentStates, ConsentTimelines, timeline
from processors.decide import SELF, Decision, EventFacts
from processors.judge import Judge

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


class Person(Protocol):
    """What is known of a person: consents, and when erasures were completed (ms)."""

    @property
    def consents(self) -> Sequence[ConsentFact]: ...
    @property
    def erased(self) -> Sequence[int]: ...


class Judged(Protocol):
    """Events with the tags that count; `sinks.clickhouse.judged.JudgedEvents`."""

    @property
    def subjects(self) -> npt.NDArray[np.uint8]: ...
    @property
    def occurred_at(self) -> Ints: ...
    @property
    def collected_at(self) -> Ints: ...
    @property
    def codes(self) -> Codes: ...
    @property
    def shapes(self) -> Sequence[Mapping[str, Any]]: ...
    def __len__(self) -> int: ...


def judge_again(
    judge: Judge, states: ConsentStates, events: Judged, people: Mapping[bytes, Person]
) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Of each event the number of its decision, and whether its tags differ from it.

    `states`: those that `judge` decides by. People without facts have consented to nothing.
    """
    if not len(events):
        return np.zeros(0, np.int32), np.zeros(0, np.bool_)
    keys = np.ascontiguousarray(events.subjects).view("V16").ravel()
    subjects, slots = np.unique(keys, return_inverse=True)
    timelines = ConsentTimelines()
    for slot, subject in enumerate(subjects.tolist()):
        person = people.get(subject)
        if person is not None:
            steps = timeline(person.consents, person.erased)
            timelines.put(slot, [(time, states.intern(state)) for time, state in steps])
    shapes = np.array([judge.intern(facts_of_shape(shape)) for shape in events.shapes], np.int32)
    decided = judge.judge(
        shapes[events.codes],
        events.occurred_at,
        events.collected_at,
        timelines.as_of(slots.ravel().astype(np.int64), events.occurred_at),
    )
    pairs, which = np.unique(events.codes.astype(np.int64) << 32 | decided, return_inverse=True)
    differs = np.array(
        [_differs(events.shapes[pair >> 32], judge.decisions[pair & 0xFFFFFFFF]) for pair in pairs.tolist()], np.bool_
    )
    return decided, differs[which.ravel()]


def decision_tags(decision: Decision) -> dict[str, Any]:
    """A decision in the fields of `CollectionRecorded` and `DisclosureRecorded`."""
    return {
        "tagged_purpose": decision.purpose,
        "tagged_categories": list(decision.categories),
        "verdict": decision.verdict,
        "clauses": list(decision.clauses),
        "legal_basis": decision.legal_basis,
        "findings": [f"{f.outcome} {f.clause} {f.reason}" for f in decision.findings],
        "policy_version": decision.policy_version,
        "recipient_kind": decision.recipient_kind,
        "recipient_effective_at": decision.recipient_effective_at,
        "sensitive": decision.sensitive,
    }


# A collection's record does not hold these.
_OF_DISCLOSURES = ("recipient_kind", "recipient_effective_at")


def _differs(shape: Mapping[str, Any], decision: Decision) -> bool:
    leave_out: Iterable[str] = _OF_DISCLOSURES if shape["activity"] == "collect" else ()
    return any(shape[name] != value for name, value in decision_tags(decision).items() if name not in leave_out)


def facts_of_shape(shape: Mapping[str, Any]) -> EventFacts:
    """What an event says, apart from ids and times, from the fields of its record and its `activity`."""
    if shape["activity"] == "collect":
        return EventFacts(
            activity="collect",
            event_type=shape["event_type"],
            purpose=shape["purpose"],
            categories=tuple(shape["categories"]),
            fields=tuple(shape["fields"]),
            region=shape["region"],
            storage_country=shape["storage_country"],
        )
    return EventFacts(
        activity=shape["activity"],
        discloser=shape["discloser"] or SELF,
        recipient=shape["recipient"],
        purpose=shape["purpose"],
        categories=tuple(shape["categories"]),
        region=shape["region"],
        order=shape["order"],
    )
