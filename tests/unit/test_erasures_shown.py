"""Requests as people see them: what needs attention, what is waited for, when to stop waiting, whom one would reach."""

from typing import Any
from uuid import UUID

import pytest

from audit.erasure_preview import Reached, reached
from audit.erasures import is_settled, left_of_term, request_answer, waits_for, warnings
from processors.erasure import DAY, Request, Target, to_record
from sinks.clickhouse.erasures import Disclosed

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
ID = UUID("0b9a8c7d-1111-4222-8333-444455556666")


def document(**changes: Any) -> dict[str, Any]:
    """What the projection gives of a verified request that waits for recipients."""
    given: dict[str, Any] = {
        "state": "awaiting",
        "verified_at": NOW - DAY,
        "due_at": NOW + 29 * DAY,
        "next_at": NOW + DAY,
        "targets": (Target("lumen", 1, "acknowledged", "acknowledged", "opendsr", next_at=NOW + DAY),),
    }
    record = to_record(Request(ID, NOW - 2 * DAY, **(given | changes)))
    record |= {"request_id": str(ID), "joined": record["joined"] and str(UUID(bytes=record["joined"]))}
    del record["alias"], record["subject"]
    return record


def test_the_answer_has_its_keys() -> None:
    answer = request_answer(document(certificate="a.b.c"), NOW)
    assert answer["request_id"] == str(ID)
    assert answer["state"] == "awaiting"
    assert answer["due_at"] == "2026-03-30T00:00:00.000Z"
    assert answer["certificate"] == "a.b.c"
    [target] = answer["targets"]
    assert {"recipient": "lumen", "hop": 1, "state": "acknowledged", "grade": "acknowledged"}.items() <= target.items()
    assert request_answer(document(), NOW)["certificate"] is None


def test_nothing_to_worry_about() -> None:
    assert warnings(document(), NOW) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"due_at": NOW - 1}, "the term is over since 2026-02-28"),
        ({"due_at": NOW + 3 * DAY}, "the term ends in 3 days"),
        ({"due_at": NOW + DAY // 2}, "the term ends in 12 hours"),
        ({"verified_at": NOW - 30 * DAY, "due_at": NOW + 10 * DAY}, "the term ends in 10 days"),
        ({"next_at": NOW - DAY // 12}, "does the worker `erasures` run?"),
        ({"alarms": ("lumen got data",)}, "contradiction: lumen got data"),
        (
            {"targets": (Target("lumen", 1, attempts=7, detail="HTTP 500", next_at=NOW),)},
            "lumen was tried 7 times: HTTP 500",
        ),
    ],
)
def test_what_needs_attention_is_said(changes: dict[str, Any], says: str) -> None:
    [warning] = warnings(document(**changes), NOW)
    assert says in warning


def test_what_is_held_is_not_behind_and_what_is_over_is_not_late() -> None:
    assert warnings(document(next_at=NOW - DAY, hold="court order"), NOW) == []
    over = document(state="completed", due_at=NOW - DAY, ended_at=NOW - DAY, targets=(), alarms=("x got data",))
    assert warnings(over, NOW) == ["contradiction: x got data"]
    assert left_of_term(over, NOW) == ""


def test_the_term() -> None:
    assert left_of_term(document(), NOW) == "29 days"
    assert left_of_term(document(due_at=NOW - 2 * DAY), NOW) == "over by 2 days"
    assert left_of_term(document(due_at=NOW + 1000), NOW) == "less than an hour"
    assert left_of_term(document(due_at=None, verified_at=None), NOW) == ""


@pytest.mark.parametrize(
    ("changes", "settled", "waits"),
    [
        ({}, True, "lumen"),
        ({"state": "received", "verified_at": None, "targets": ()}, True, "identity to be verified"),
        ({"hold": "court order"}, True, "held: court order"),
        ({"state": "verified", "targets": ()}, False, "the lineage to be loaded"),
        ({"state": "purging", "targets": (Target("store:lineage", 0),)}, False, "the own purge"),
        ({"state": "refused", "ground": "no such person"}, True, "no such person"),
        ({"targets": (Target("lumen", 1, next_at=NOW),)}, False, "lumen"),
        ({"targets": (Target("lumen", 1, attempts=5, next_at=NOW + DAY),)}, True, "lumen"),
        ({"targets": (Target("lumen", 1, attempts=1, next_at=NOW + DAY),)}, False, "lumen"),
        ({"targets": (Target("lumen", 1, "dispatched", next_at=NOW + 2000),)}, False, "lumen"),
        ({"targets": (Target("lumen", 1, "dispatched", next_at=None),)}, True, "lumen"),
    ],
)
def test_what_is_waited_for(changes: dict[str, Any], settled: bool, waits: str) -> None:
    assert is_settled(document(**changes), NOW) is settled
    assert waits in waits_for(document(**changes))


def disclosed(subject: int, discloser: str, recipient: str | None, at: int) -> Disclosed:
    activity = "publish" if recipient is None else "share"
    return Disclosed(UUID(int=subject), discloser, recipient, activity, at, at, 1, 0, at)


def test_whom_an_erasure_would_reach() -> None:
    rows = [
        disclosed(1, "self", "near", 1),
        disclosed(1, "near", "far", 2),
        disclosed(1, "far", "near", 9),
        disclosed(1, "stranger", "lost", 3),
        disclosed(1, "self", None, 4),
        # Of another person `far` is near.
        disclosed(2, "self", "far", 5),
    ]
    assert reached(rows) == [
        Reached("far", 1, 2, 5),
        Reached("near", 1, 1, 9),
        Reached("public", 1, 1, 4),
        Reached("lost", None, 1, 3),
    ]
    assert reached([]) == []
