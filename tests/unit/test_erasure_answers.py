"""What recipients say by themselves, between what they are asked."""

from __future__ import annotations

from uuid import UUID

import pytest

from processors.erasure import Request, Target, Terms
from processors.erasure_commands import Answer, Grade
from processors.erasure_targets import take_answer

TERMS = Terms()
NOW = 1_767_225_600_000
CHECK = NOW + 30_000


def asked() -> Request:
    """A request whose only recipient has accepted the command, and is to be asked how it stands."""
    target = Target("acme", 1, "acknowledged", "acknowledged", "opendsr", attempts=1, next_at=CHECK, dispatched_at=NOW)
    return Request(UUID(int=1), NOW, verified_at=NOW, due_at=NOW + TERMS.response, fence_offset=1, targets=(target,))


@pytest.mark.parametrize("outcome", ["dispatched", "acknowledged"])
def test_a_word_in_between_does_not_call_off_the_inquiry(outcome: str) -> None:
    """The last word may get lost, and nothing else would ever tell."""
    answer = Answer(outcome, Grade.acknowledged, "in_progress")  # type: ignore[arg-type]
    told = take_answer(asked(), "acme", answer, NOW + 1, TERMS, unasked=True)
    assert told.targets[0].detail == "in_progress"
    assert told.targets[0].next_at == CHECK == told.next_at


def test_the_last_word_does() -> None:
    told = take_answer(asked(), "acme", Answer("completed", Grade.signed), NOW + 1, TERMS, unasked=True)
    assert told.targets[0].state == "completed"
    assert told.targets[0].next_at is None


def test_an_answer_to_the_call_says_when_to_ask_again() -> None:
    never = take_answer(asked(), "acme", Answer("acknowledged", Grade.acknowledged), NOW + 1, TERMS)
    assert never.targets[0].next_at is None
    later = take_answer(asked(), "acme", Answer("acknowledged", check_after=60), NOW, TERMS)
    assert later.targets[0].next_at == NOW + 60_000
