"""Judges whole histories (the format of `cases.ndjson`, verdicts.md): for `lineage judge`, and for people who write a
policy and want to know what would be. The same processors as the tagger's; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from processors.consent import BANDS, ConsentFact, ConsentStates, ConsentTimelines, timeline
from processors.decide import SELF, EventFacts
from processors.judge import MISSING, Judge
from processors.knowledge import Knowledge, Policy, Recipient


def judge_history(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict of each event of a history, copies of one event once, in order of first appearance.

    Raises `KeyError`, `ValueError` for a history that is not of the format.
    """
    for record in (*history["recipients"], *(p for policy in history["policies"] for p in policy["purposes"].values())):
        _check_words(record)
    knowledge = Knowledge(
        [Policy.from_record(in_ms(policy, "effective_at")) for policy in history["policies"]],
        [
            Recipient.from_record(in_ms(entry, "effective_at", "contract_from", "contract_until"))
            for entry in history["recipients"]
        ],
    )
    states = ConsentStates()
    slots, timelines = _timelines(history, states)
    first_of_id: dict[str, Mapping[str, Any]] = {}
    for event in history["events"]:
        first_of_id.setdefault(event["event_id"], event)
    events = list(first_of_id.values())
    judge = Judge(knowledge, states)
    times = np.array([instant(event["occurred_at"]) for event in events], np.int64)
    collected = [instant(e["collected_at"]) if e.get("collected_at") else MISSING for e in events]
    of_people = np.array([slots.get(event["subject"], len(slots)) for event in events], np.int64)
    judged = judge.judge(
        np.array([judge.intern(event_facts(event)) for event in events], np.int32),
        times,
        np.array(collected, np.int64),
        timelines.as_of(of_people, times),
    )
    answers = []
    for event, number in zip(events, judged.tolist(), strict=True):
        decision = judge.decisions[number]
        answers.append(
            {
                "event_id": event["event_id"],
                "verdict": decision.verdict,
                "clauses": list(decision.clauses),
                "legal_basis": decision.legal_basis,
                "findings": [f._asdict() for f in decision.findings],
                "policy_version": decision.policy_version,
            }
        )
    return answers


def _timelines(history: Mapping[str, Any], states: ConsentStates) -> tuple[dict[str, int], ConsentTimelines]:
    facts: dict[str, list[ConsentFact]] = {}
    erased: dict[str, list[int]] = {}
    for consent in history["consents"]:
        facts.setdefault(consent["subject"], []).append(consent_fact(consent))
    for erasure in history["erased"]:
        erased.setdefault(erasure["subject"], []).append(instant(erasure["occurred_at"]))
    timelines = ConsentTimelines()
    slots = {subject: slot for slot, subject in enumerate(sorted({*facts, *erased}))}
    for subject, slot in slots.items():
        steps = timeline(facts.get(subject, []), erased.get(subject, []))
        timelines.put(slot, [(time, states.intern(state)) for time, state in steps])
    return slots, timelines


# What a word of a history may be. Elsewhere documents and contracts see to it.
WORDS = {
    "action": ("accept", "leave", "age", "guardian", "grant", "withdraw"),
    "band": BANDS,
    "activity": ("use", "share", "transfer", "publish"),
    "kind": ("affiliate", "partner", "authority", "successor", "public"),
    "basis": ("policy_acceptance", "opt_out", "explicit_consent"),
}


def _check_words(record: Mapping[str, Any]) -> None:
    for name, allowed in WORDS.items():
        if record.get(name) is not None and record[name] not in allowed:
            raise ValueError(f"{name} {record[name]!r} is none of {', '.join(allowed)}")


def consent_fact(consent: Mapping[str, Any]) -> ConsentFact:
    """A consent of a history. Raises `KeyError`, `ValueError`."""
    _check_words(consent)
    get: Callable[..., Any] = consent.get
    return ConsentFact(
        event_id=consent["event_id"],
        occurred_at=instant(consent["occurred_at"]),
        action=consent["action"],
        version=get("version"),
        band=get("band"),
        granted=get("granted"),
        activity=get("activity"),
        purpose=get("purpose"),
        recipient=get("recipient"),
        categories=tuple(get("categories") or ()),
    )


def event_facts(event: Mapping[str, Any]) -> EventFacts:
    """An event of a history: with `activity` a disclosure, without one a collection. Raises `ValueError`."""
    _check_words(event)
    if event.get("activity") == "use":
        raise ValueError("activity 'use' is no event's: a collection has none")
    get: Callable[..., Any] = event.get
    return EventFacts(
        activity=get("activity") or "collect",
        event_type=get("event_type"),
        purpose=get("purpose"),
        categories=tuple(get("categories") or ()),
        fields=tuple(get("fields") or ()),
        region=get("region"),
        storage_country=get("storage_country"),
        discloser=get("discloser") or SELF,
        recipient=get("recipient"),
        order=get("order"),
    )


def instant(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time with its offset. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text}: a time without offset; end it with Z")
    since = moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def in_ms(record: Mapping[str, Any], *times: str) -> dict[str, Any]:
    """The record with the named times in ms."""
    return {**record, **{name: instant(record[name]) for name in times if record.get(name) is not None}}
