"""Erasure requests as people and scripts see them: the answer for JSON, what needs attention, what is waited for.

Pure functions of what the projection holds (sinks/clickhouse/erasures.py); they name no person, as that does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from processors.erasure import DAY, ENDED, FINAL, STORE

# A recipient that has been tried so often does not give in; one look at it is due.
MANY_ATTEMPTS = 5
# The controller looks at a request within seconds of when something is due.
BEHIND = 3600_000
# An attempt that comes later than this is not waited for.
SOON = 30_000
NEAR_DAYS = 3
NEAR_PART = 0.75


def request_answer(document: Mapping[str, Any], now: int) -> dict[str, Any]:
    """One request for JSON. `document`: an ErasureState as the projection gives it (times in ms); `now`: ms.

    Times are ISO 8601 in UTC. `targets`: every recipient and every own store (`store:NAME`). `waits_for`: in a few
    words; of what has ended why it ended so, if anything is told. `certificate`: the JWS, null while there is none.
    """
    times = ("received_at", "verified_at", "due_at", "erased_at", "ended_at")
    plain = ("origin", "regulation", "requester", "verified_by", "hold", "ground", "joined")
    return {
        "request_id": document["request_id"],
        "state": document["state"],
        **{name: document[name] for name in plain},
        **{name: instant(document[name]) for name in times},
        "waits_for": waits_for(document),
        "targets": [_target(target) for target in document["targets"]],
        "alarms": list(document["alarms"]),
        "warnings": warnings(document, now),
        "history": [{"occurred_at": instant(m["occurred_at"]), "text": m["text"]} for m in document["history"]],
        "certificate": document["certificate"] or None,
    }


def _target(target: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("hop", "state", "grade", "protocol", "attempts", "detail", "ground")
    times = ("next_at", "dispatched_at", "ended_at", "disclosed_at")
    return {
        "recipient": target["id"],
        **{name: target[name] for name in plain},
        **{name: instant(target[name]) for name in times},
        "evidence": list(target["evidence"]),
    }


def warnings(document: Mapping[str, Any], now: int) -> list[str]:
    """What somebody must look at, the most urgent first; nothing of what has ended but its contradictions."""
    found = []
    if document["state"] not in ENDED:
        found += _of_term(document, now)
        if not document["hold"] and document["next_at"] is not None and document["next_at"] < now - BEHIND:
            found.append("something has been due for over an hour: does the worker `erasures` run? (lineage status)")
        for target in document["targets"]:
            if target["state"] not in FINAL and target["attempts"] >= MANY_ATTEMPTS:
                found.append(f"{target['id']} was tried {target['attempts']} times: {target['detail'] or 'no answer'}")
    return found + [f"contradiction: {alarm}" for alarm in document["alarms"]]


def _of_term(document: Mapping[str, Any], now: int) -> list[str]:
    due_at, verified_at = document["due_at"], document["verified_at"]
    if due_at is None:
        return []
    left = due_at - now
    if left <= 0:
        return [f"the term is over since {day(due_at)}"]
    if left <= NEAR_DAYS * DAY or (verified_at is not None and left <= (due_at - verified_at) * (1 - NEAR_PART)):
        return [f"the term ends in {_span(left)}"]
    return []


def waits_for(document: Mapping[str, Any]) -> str:
    """What a request waits for now, in a few words."""
    state = document["state"]
    if state in ENDED:
        return document["ground"] if state != "joined" else f"answered by {document['joined']}"
    if document["hold"]:
        return f"held: {document['hold']}"
    if document["verified_at"] is None:
        return "identity to be verified"
    if state in ("verified", "enumerating"):
        return "the lineage to be loaded up to the fence"
    if state == "purging":
        return "the own purge"
    return ", ".join(target["id"] for target in open_recipients(document))


def open_recipients(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Recipients that have no final state yet."""
    return [t for t in document["targets"] if t["state"] not in FINAL and not t["id"].startswith(STORE)]


def is_settled(document: Mapping[str, Any], now: int) -> bool:
    """Whether nothing more will happen soon without somebody outside: it is over, or it waits for people, for a hold to
    be released, or for recipients that have been asked."""
    if document["state"] in ENDED or document["hold"] or document["verified_at"] is None:
        return True
    waiting = open_recipients(document)
    return bool(waiting) and all(_is_asked(target, now) for target in waiting)


def _is_asked(target: Mapping[str, Any], now: int) -> bool:
    if target["state"] == "waiting":
        # After fewer the pauses are short, and it may be asked at this moment.
        return bool(target["attempts"] >= MANY_ATTEMPTS)
    return target["next_at"] is None or target["next_at"] > now + SOON


def left_of_term(document: Mapping[str, Any], now: int) -> str:
    """How long the term still runs, e.g. `12 days`, `over by 2 days`; empty where none runs."""
    if document["due_at"] is None or document["state"] in ENDED:
        return ""
    left = document["due_at"] - now
    return _span(left) if left > 0 else f"over by {_span(-left)}"


def _span(ms: int) -> str:
    days, hours = divmod(ms // 3_600_000, 24)
    if days:
        return f"{days} day{'s' if days != 1 else ''}"
    return f"{hours} hour{'s' if hours != 1 else ''}" if hours else "less than an hour"


def instant(ms: int | None) -> str | None:
    """ISO 8601 in UTC with milliseconds."""
    if ms is None:
        return None
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day(ms: int) -> str:
    """The day in UTC."""
    return (instant(ms) or "")[:10]
