"""Which state of a request allows what about its recipients. What is told goes to a list; the telling itself, and what
the controller makes of it, is tested on a real Kafka (tests/integration/test_erase_commands.py)."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from processors.erasure import ENDED, Request, Target, Terms
from processors.erasure_commands import Answer, Grade, idempotency_key
from processors.erasure_targets import order_retry, take_answer
from streams.erasure_acts import ActRefused, ErasureActs, UnknownRecipient
from streams.erasure_intake import ErasureIntake
from streams.kafka import Kafka

REQUEST = UUID(int=6)
# Retry, confirm, exempt.
ACTS: tuple[Callable[[ErasureActs, Mapping[str, Any], str], None], ...] = (
    lambda acts, document, name: acts.retry(document, name),
    lambda acts, document, name: acts.confirm(document, name, "by phone"),
    lambda acts, document, name: acts.exempt(document, name, "tax law"),
)


class Told(ErasureIntake):
    """Keeps the receipts that would be told; reaches no Kafka."""

    def __init__(self) -> None:
        super().__init__(Kafka("127.0.0.1:1"))
        self.receipts: list[tuple[Any, ...]] = []

    def receipt(self, request_id: UUID, target: str, answer: str, **more: Any) -> None:
        self.receipts.append((request_id, target, answer, more))


def request(state: str = "awaiting", **targets: str) -> dict[str, Any]:
    """Recipients in these states, in round 2, and an own store that is never meant."""
    listed = [{"id": name, "state": of, "round": 2} for name, of in targets.items()]
    return {
        "request_id": str(REQUEST),
        "state": state,
        "targets": [*listed, {"id": "store:kafka", "state": "pending", "round": 0}],
    }


@pytest.mark.parametrize(
    ("state", "retry", "confirm", "exempt"),
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
    state: str, retry: bool, confirm: bool, exempt: bool
) -> None:
    for allowed, act in zip((retry, confirm, exempt), ACTS, strict=True):
        told = Told()
        if allowed:
            act(ErasureActs(told), request(lumen=state), "lumen")
        else:
            with pytest.raises(ActRefused, match=f"lumen is {state}"):
                act(ErasureActs(told), request(lumen=state), "lumen")
        assert len(told.receipts) == allowed


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_does_not_change(state: str) -> None:
    told = Told()
    acts, ended = ErasureActs(told), request(state, lumen="failed")
    for act in ACTS:
        with pytest.raises(ActRefused, match=f"is {state}: it does not change any more"):
            act(acts, ended, "lumen")
    with pytest.raises(ActRefused, match=f"is {state}: it does not change any more"):
        acts.retry(ended)
    assert told.receipts == []


def test_all_that_are_not_done_are_asked_again_and_no_own_store() -> None:
    told = Told()
    ErasureActs(told).retry(request(lumen="completed", redpay="failed", glacier="dispatched", office="exempt"))
    retried = {"grade": Grade.none, "source": "operator"}
    assert told.receipts == [(REQUEST, name, "retry", retried) for name in ("redpay", "glacier")]
    with pytest.raises(ActRefused, match="nothing to retry"):
        ErasureActs(told).retry(request(lumen="completed"))


@pytest.mark.parametrize("name", ["nobody", "store:kafka"])
def test_who_is_no_recipient_is_told_who_is(name: str) -> None:
    acts, of = ErasureActs(Told()), request(lumen="failed", redpay="failed")
    for act in ACTS:
        with pytest.raises(UnknownRecipient, match="there is: lumen, redpay"):
            act(acts, of, name)


def test_a_confirmation_is_of_the_newest_round() -> None:
    told = Told()
    acts, of = ErasureActs(told), request(lumen="dispatched")
    newest = idempotency_key(REQUEST, "lumen", 2)
    with pytest.raises(ActRefused, match=f"ask it again under {newest}"):
        acts.confirm(of, "lumen", "by phone", idempotency_key(REQUEST, "lumen", 1))
    assert told.receipts == []
    acts.confirm(of, "lumen", "by phone", newest)
    acts.confirm(of, "lumen")
    assert [(answer, more["detail"], more["idempotency_key"], more["grade"]) for *_, answer, more in told.receipts] == [
        ("completed", "confirmed to a person: by phone", newest, Grade.claimed),
        ("completed", "confirmed to a person", newest, Grade.claimed),
    ]


def test_an_exemption_has_a_ground() -> None:
    told = Told()
    with pytest.raises(ActRefused, match="name the ground"):
        ErasureActs(told).exempt(request(lumen="dispatched"), "lumen", " ")
    ErasureActs(told).exempt(request(lumen="dispatched"), "lumen", "tax law")
    assert [more["ground"] for *_, more in told.receipts] == ["tax law"]


@pytest.mark.parametrize("state", ["failed", "unsupported"])
def test_the_controller_would_pass_over_an_exemption_that_is_refused_here(state: str) -> None:
    told = Answer("exempt", Grade.none, ground="tax law")
    final = Request(REQUEST, 0, state="awaiting", targets=(Target("lumen", hop=1, state=state),))
    assert take_answer(final, "lumen", told, 1, Terms(), unasked=True) == final
    again = order_retry(final, "lumen", 1, Terms())
    exempted = take_answer(again, "lumen", told, 2, Terms(), unasked=True).target("lumen")
    assert exempted is not None
    assert (exempted.state, exempted.ground) == ("exempt", "tax law")
