"""Judges whole histories with the second judge: `lineage judge --independent`. Pure, and apart from `processors`.

A history is an object with policies, recipients, consents, erased and events in the form of the verdicts page, times as
ISO 8601 text.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from audit.independent_judge import Reference, judge

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = ("effective_at", "contract_from", "contract_until", "occurred_at", "collected_at")
# What an event may leave out.
UNSAID: Mapping[str, Any] = {
    "purpose": None,
    "categories": (),
    "region": None,
    "event_type": None,
    "fields": (),
    "storage_country": None,
    "discloser": "self",
    "recipient": None,
    "collected_at": None,
    "order": None,
}


def judge_history(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict of each event of a history, copies of one event once, in order of first appearance.

    Raises `KeyError`, `ValueError` for a history that is not of the format.
    """
    reference = Reference(map(with_times, history["policies"]), map(with_times, history["recipients"]))
    consents = [with_times(fact) for fact in history["consents"]]
    erased = [with_times(fact) for fact in history["erased"]]
    answers: dict[str, dict[str, Any]] = {}
    for given in history["events"]:
        if given["event_id"] in answers:
            continue
        event = with_times({**UNSAID, **{name: value for name, value in given.items() if value is not None}})
        answer = judge(
            event,
            reference,
            [fact for fact in consents if fact["subject"] == event["subject"]],
            [fact for fact in erased if fact["subject"] == event["subject"]],
        )
        answers[given["event_id"]] = {"event_id": given["event_id"], **answer._asdict(), "clauses": [*answer.clauses]}
    return list(answers.values())


def with_times(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its times in ms since 1970 UTC. Raises `ValueError` for a time without offset."""
    return {name: in_ms(value) if name in TIMES and value is not None else value for name, value in record.items()}


def in_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text}: a time without offset; end it with Z")
    return (moment - EPOCH) // timedelta(milliseconds=1)
