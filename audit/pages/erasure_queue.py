"""Erasure requests as a queue: what needs somebody, how long is left, who has answered; and the words for all of it.

Pure; names no person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.erasures import left_of_term, request_answer
from processors.erasure import ENDED, FINAL, STORE
from processors.erasure_certificate import EVIDENCE

STATES: Mapping[str, str] = {
    "received": "It was received. The term begins once the person’s identity is verified.",
    "verified": "The identity is verified: the term runs.",
    "enumerating": "Everybody who was ever given the data is being found.",
    "dispatching": "The recipients are being asked.",
    "awaiting": "The recipients were asked; not all of them have answered.",
    "purging": "Every recipient has a final state; the own stores are being purged.",
    "completed": "Everybody who had the data has erased it, by the evidence below, and so have the own stores.",
    "partially_completed": "The own stores are purged; not everybody who had the data has erased it.",
    "refused": "It was refused, on the ground below.",
    "cancelled": "It was taken back.",
    "joined": "It is answered by another request of the same person.",
}
TARGET_STATES: Mapping[str, str] = {
    "waiting": "not asked yet, or to be asked again",
    "dispatched": "asked; no answer yet",
    "acknowledged": "has the request and works on it",
    "completed": "erased",
    "failed": "could not do it",
    "unsupported": "cannot be asked",
    "exempt": "may keep the data, on the ground told",
}
ORIGINS: Mapping[str, str] = {
    "person": "the person",
    "opendsr": "the person, through an OpenDSR controller",
    "minor": "the rule for minors (clause 6)",
    "retention": "the end of retention (clause 4.2)",
    "withdrawal": "a withdrawal of consent",
    "leave": "the person’s leaving",
    "shutdown": "the end of the service (clause 4.2)",
    "merger": "a merger without the successor’s pledge (clause 3.2)",
}
# Grade → what it means, weakest first.
GRADES: Mapping[str, str] = {grade.name: words for grade, words in EVIDENCE.items()}


def queue_entry(document: Mapping[str, Any], now: int) -> dict[str, Any]:
    """`request_answer`, and: `left`, in words, empty where no term runs; `asked` and `done`, numbers of recipients;
    `is_late`. document: an ErasureState; now: ms."""
    shown = request_answer(document, now)
    recipients = [target for target in document["targets"] if not target["id"].startswith(STORE)]
    is_open = document["state"] not in ENDED
    return shown | {
        "left": left_of_term(document, now),
        "asked": len(recipients),
        "done": sum(target["state"] in FINAL for target in recipients),
        "is_open": is_open,
        "is_late": is_open and document["due_at"] is not None and document["due_at"] <= now,
    }


def by_kind(targets: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Recipients, those that are not done first, and own stores; as `request_answer` shows them."""
    ordered = sorted(
        targets,
        key=lambda one: (
            one["state"] in ("completed", "exempt"),
            one["hop"] is None,
            one["hop"] or 0,
            one["recipient"],
        ),
    )
    stores = [one for one in ordered if one["recipient"].startswith(STORE)]
    return [one for one in ordered if not one["recipient"].startswith(STORE)], stores
