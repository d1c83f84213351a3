"""Which state of a request allows what about its recipients. The telling itself, and what the controller makes of it,
is tested on a real Kafka (tests/integration/test_erase_commands.py)."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from processors.erasure import ENDED, Request, Target, Terms
from processors.erasure_acts import ActRefused, Told, UnknownRecipient, confirm, exempt, retry
from processors.erasure_commands import Answer, Grade, idempotency_key
from processors.erasure_targets import order_retry, take_answer

REQUEST = UUID(int=6)
# Retry, confirm, exempt.
ACTS: tuple[Callable[[Mapping[str, Any], str], list[Told]], ...] = (
    retry,
    lambda document, name: confirm(document, name, "by phone"),
    lambda document, name: exempt(document, name, "tax law"),
)


def request(state: str = "awaiting", **targets: str) -> dict[str, Any]:
    """Recipients in these states, in round 2, and an own store that is never meant."""
    listed = [{"id": name, "state": of, "round": 2} for name, of in targets.items()]
    return {
        "request_id": str(REQUEST),
        "state": state,
        "targets": [*listed, {"id": "store:kafka", "state": "pending", "round": 0}],
    }


@pytest.mark.parametrize(
    ("state", "can_retry", "can_confirm", "can_exempt"),
    [
        ("dispatched", True, True, True),
        ("waiting", True, True, True),
        ("acknowledged", True, True, True),
        # The controller would pass an exemption over: these are final.
        ("failed", True, True, False),
        ("unsupported", True, True, False),
        ("completed", False, False, False),
        # Who may keep the data may yet have deleted it.
        ("exempt", False, True, False),
    ],
)
def test_the_state_of_a_recipient_decides_what_can_be_done(
    state: str, can_retry: bool, can_confirm: bool, can_exempt: bool
) -> None:
    for allowed, act in zip((can_retry, can_confirm, can_exempt), ACTS, strict=True):
        if allowed:
            assert [one.target for one in act(request(lumen=state), "lumen")] == ["lumen"]
        else:
            with pytest.raises(ActRefused, match=f"lumen is {state}"):
                act(request(lumen=state), "lumen")


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_does_not_change(state: str) -> None:
    ended = request(state, lumen="failed")
    for act in ACTS:
        with pytest.raises(ActRefused, match=f"is {state}: it does not change any more"):
            act(ended, "lumen")
    with pytest.raises(ActRefused, match=f"is {state}: it does not change any more"):
        retry(ended)


def test_all_that_are_not_done_are_asked_again_and_no_own_store() -> None:
    told = retry(request(lumen="completed", redpay="failed", glacier="dispatched", office="exempt"), by="eve")
    assert told == [Told("redpay", "retry", detail="eve"), Told("glacier", "retry", detail="eve")]
    with pytest.raises(ActRefused, match="nothing to retry"):
        retry(request(lumen="completed"))


def test_who_has_it_asked_again_stands_in_the_history() -> None:
    waiting = Request(REQUEST, 0, state="awaiting", targets=(Target("lumen", hop=1, state="dispatched"),))
    for by, text in (("eve", "lumen: retry ordered by eve"), ("", "lumen: retry ordered")):
        [told] = retry(request(lumen="dispatched"), "lumen", by)
        assert (1, text) in order_retry(waiting, told.target, 1, Terms(), told.detail).history


@pytest.mark.parametrize("name", ["nobody", "store:kafka"])
def test_who_is_no_recipient_is_told_who_is(name: str) -> None:
    for act in ACTS:
        with pytest.raises(UnknownRecipient, match="there is: lumen, redpay") as told:
            act(request(lumen="failed", redpay="failed"), name)
        assert name not in str(told.value)


def test_a_confirmation_is_of_the_newest_round() -> None:
    of = request(lumen="dispatched")
    newest = idempotency_key(REQUEST, "lumen", 2)
    with pytest.raises(ActRefused, match=f"ask it again under {newest}"):
        confirm(of, "lumen", "by phone", idempotency_key(REQUEST, "lumen", 1))
    told = [
        *confirm(of, "lumen", "by phone", newest),
        *confirm(of, "lumen"),
        *confirm(of, "lumen", "at last", by="eve"),
    ]
    assert [(one.answer, one.detail, one.idempotency_key, one.grade) for one in told] == [
        ("completed", "confirmed to a person: by phone", newest, Grade.claimed),
        ("completed", "confirmed to a person", newest, Grade.claimed),
        ("completed", "confirmed to eve: at last", newest, Grade.claimed),
    ]


def test_an_exemption_has_a_ground() -> None:
    with pytest.raises(ActRefused, match="name the ground"):
        exempt(request(lumen="dispatched"), "lumen", " ")
    told = exempt(request(lumen="dispatched"), "lumen", "tax law", "eve")
    assert [(one.ground, one.detail) for one in told] == [("tax law", "exempted by eve")]


@pytest.mark.parametrize("state", ["failed", "unsupported"])
def test_the_controller_would_pass_over_an_exemption_that_is_refused_here(state: str) -> None:
    told = Answer("exempt", Grade.none, ground="tax law")
    final = Request(REQUEST, 0, state="awaiting", targets=(Target("lumen", hop=1, state=state),))
    assert take_answer(final, "lumen", told, 1, Terms(), unasked=True) == final
    again = order_retry(final, "lumen", 1, Terms())
    exempted = take_answer(again, "lumen", told, 2, Terms(), unasked=True).target("lumen")
    assert exempted is not None
    assert (exempted.state, exempted.ground) == ("exempt", "tax law")
