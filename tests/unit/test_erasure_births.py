"""Erasures that nobody asks for: who is due, who has put it right, how many days it takes, as which request."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from processors.case import DAY_MS as DAY
from processors.consent import ConsentFact
from processors.erasure import Terms
from processors.erasure_births import Birth, Person, Transfer, births, kept_for
from processors.erasure_steps import take_step
from processors.knowledge import ERASURE_CAUSES, ErasureCause, Knowledge, Policy, Purpose, Recipient, View

ALIAS = bytes(range(16))
SUBJECT = UUID(bytes=bytes(range(16)))
GRACE = 10
NOW = 100 * DAY
PURPOSES = {"service": Purpose("2.1", "policy_acceptance", ("*",)), "ads": Purpose("2.6", "opt_out", ("*",), 90)}
SUCCESSOR = Recipient("heir", "successor", 0)


def view(*more: Recipient, now: int = NOW, causes: Any = ERASURE_CAUSES, days: int = GRACE) -> View:
    policy = Policy(1, 0, PURPOSES, ("*",), erasure={cause: ErasureCause(f"c-{cause}", days) for cause in causes})
    knowledge = Knowledge([policy], [SUCCESSOR, *more])
    return knowledge.view(knowledge.epoch(now))


def fact(day: float, action: str, **fields: Any) -> ConsentFact:
    return ConsentFact(f"{day} {action} {fields}", int(day * DAY), action, **fields)


def arose(cause: str, *facts: ConsentFact, at: View | None = None, now: int = NOW, **known: Any) -> int | None:
    """The day on which the cause arose, if the person is due."""
    person = Person(ALIAS, SUBJECT, facts, **known)
    found = births([person], cause, at or view(now=now), now)
    assert [birth.clause for birth in found] == [f"c-{cause}"] * len(found)
    return found[0].arose_at // DAY if found else None


MINOR = fact(1, "age", band="14_17")
ADULT = fact(1, "age", band="adult")


@pytest.mark.parametrize(
    ("facts", "day"),
    [
        ([MINOR], 2),
        ([fact(1, "age", band="under_14")], 2),
        ([MINOR, fact(5, "accept", version=1)], 2),
        # The band of the moment: the younger counts.
        ([MINOR, ADULT], 2),
        ([MINOR, fact(50, "age", band="adult")], None),
        ([MINOR, fact(0.5, "guardian", granted=True)], None),
        ([MINOR, fact(50, "guardian", granted=True)], None),
        ([MINOR, fact(5, "guardian", granted=True), fact(60, "guardian", granted=False)], 60),
        # At one moment, the guardian's false counts.
        ([MINOR, fact(60, "guardian", granted=True), fact(60, "guardian", granted=False)], 2),
        # Whoever leaves takes the guardian's consent along.
        ([MINOR, fact(5, "guardian", granted=True), fact(60, "leave")], 60),
        ([ADULT], None),
        ([], None),
        # What is not so yet.
        ([fact(101, "age", band="14_17")], None),
        ([MINOR, fact(101, "guardian", granted=True)], 2),
    ],
)
def test_minors_without_a_guardians_consent(facts: list[ConsentFact], day: int | None) -> None:
    assert arose("minor", *facts, first_event=2 * DAY) == day
    assert arose("minor", *facts) is None, "there is nothing of theirs"


def test_an_erasure_has_ended_what_made_a_minor() -> None:
    assert arose("minor", MINOR, first_event=2 * DAY, erased=(3 * DAY,)) is None
    assert arose("minor", MINOR, fact(4, "age", band="14_17"), first_event=5 * DAY, erased=(3 * DAY,)) == 5


@pytest.mark.parametrize(
    ("facts", "day"),
    [
        ([fact(1, "accept", version=1), fact(20, "leave")], 20),
        ([fact(20, "leave")], 20),
        ([fact(20, "leave"), fact(30, "leave")], 30),
        ([fact(20, "leave"), fact(20, "accept", version=1)], 20),
        ([fact(20, "leave"), fact(95, "accept", version=1)], None),
        ([fact(20, "leave"), fact(30, "grant", activity="use", purpose="*")], 20),
        ([fact(1, "accept", version=1)], None),
    ],
)
def test_people_who_left(facts: list[ConsentFact], day: int | None) -> None:
    assert arose("leave", *facts) == day
    assert arose("leave", *facts, erased=(40 * DAY,)) is None


ALL_USE = fact(20, "withdraw", activity="use", purpose="*")


@pytest.mark.parametrize(
    ("facts", "day"),
    [
        ([ALL_USE], 20),
        ([fact(1, "accept", version=1), ALL_USE, fact(30, "withdraw", activity="use", purpose="ads")], 20),
        ([ALL_USE, fact(20, "grant", activity="use", purpose="*")], 20),
        ([ALL_USE, fact(21, "grant", activity="use", purpose="ads")], None),
        ([ALL_USE, fact(21, "grant", activity="share", purpose="*", recipient="*")], 20),
        ([ALL_USE, fact(21, "accept", version=1)], None),
        # A leave ends the withdrawal: it is a cause of its own.
        ([ALL_USE, fact(21, "leave")], None),
        ([fact(20, "withdraw", activity="use", purpose="ads")], None),
        ([fact(20, "withdraw", activity="share", purpose="*", recipient="*")], None),
    ],
)
def test_people_who_withdrew_the_use_for_all_purposes(facts: list[ConsentFact], day: int | None) -> None:
    assert arose("withdrawal", *facts) == day
    assert arose("withdrawal", *facts, last_lawful=20 * DAY) == day
    assert arose("withdrawal", *facts, last_lawful=22 * DAY) is None, "they go on using the service"


def test_people_whose_data_went_to_a_successor_without_its_pledge() -> None:
    went = Transfer("heir", "service", ("user.device",), 20 * DAY)
    later = Transfer("heir", None, (), 30 * DAY)
    assert arose("merger", transfers=(later, went)) == 20
    assert arose("merger", fact(1, "accept", version=1), transfers=(later,)) == 30
    assert arose("merger", transfers=(went,), erased=(25 * DAY,)) is None
    assert arose("merger") is None


def test_a_pledge_another_kind_or_the_persons_grant_puts_a_transfer_right() -> None:
    went = (Transfer("heir", "service", ("user.device",), 20 * DAY),)
    accepted = fact(1, "accept", version=1)
    pledged = view(Recipient("heir", "successor", 50 * DAY, pledge=True))
    assert arose("merger", accepted, transfers=went, at=pledged) is None
    partner = view(Recipient("heir", "partner", 50 * DAY))
    assert arose("merger", accepted, transfers=went, at=partner) is None
    unpledged = view(Recipient("heir", "successor", 40 * DAY, pledge=True), Recipient("heir", "successor", 50 * DAY))
    assert arose("merger", accepted, transfers=went, at=unpledged) == 20

    grant = {"activity": "transfer", "purpose": "*", "recipient": "heir", "categories": ("user",)}
    assert arose("merger", accepted, fact(60, "grant", **grant), transfers=went) is None
    assert arose("merger", accepted, fact(60, "grant", **{**grant, "recipient": "other"}), transfers=went) == 20
    refused = fact(70, "withdraw", **grant)
    assert arose("merger", accepted, fact(60, "grant", **grant), refused, transfers=went) == 20


def test_people_of_whom_everything_is_past_its_retention() -> None:
    assert arose("retention", kept_until=80 * DAY) == 80
    assert arose("retention") is None
    assert arose("retention", kept_until=NOW) is None
    exact = view(days=0)
    assert arose("retention", kept_until=NOW, at=exact) is None, "the limit is still within"
    assert arose("retention", kept_until=NOW - 1, at=exact) == 100


LEFT = fact(20, "leave")


def test_the_days_of_grace_count_from_when_the_cause_arose() -> None:
    due = (20 + GRACE) * DAY
    assert arose("leave", LEFT, now=due - 1) is None
    assert arose("leave", LEFT, now=due) == 20


@pytest.mark.parametrize("cause", ERASURE_CAUSES)
def test_a_cause_that_the_policy_does_not_name_opens_nothing(cause: str) -> None:
    person = Person(
        ALIAS,
        SUBJECT,
        (MINOR, LEFT, fact(21, "withdraw", activity="use", purpose="*")),
        first_event=2 * DAY,
        transfers=(Transfer("heir", None, (), 20 * DAY),),
        kept_until=50 * DAY,
    )
    assert len(births([person], cause, view(), NOW)) == 1
    assert births([person], cause, view(causes=set(ERASURE_CAUSES) - {cause}), NOW) == []
    nothing = Knowledge([], [SUCCESSOR])
    assert births([person], cause, nothing.view(nothing.epoch(NOW)), NOW) == []


def test_the_same_cause_found_again_is_the_same_request() -> None:
    birth, again = Birth(ALIAS, SUBJECT, "leave", "4.2", 5), Birth(ALIAS, SUBJECT, "leave", "another", 5)
    assert birth.request_id == again.request_id == UUID("8ec57e84-a9d7-43ea-beca-48558d68b1ac")
    others = [
        Birth(ALIAS, SUBJECT, "leave", "4.2", 6),
        Birth(ALIAS, SUBJECT, "minor", "4.2", 5),
        Birth(ALIAS, UUID(int=99), "leave", "4.2", 5),
    ]
    assert len({birth.request_id, *(other.request_id for other in others)}) == 4
    # OpenDSR wants version 4.
    assert birth.request_id.version == 4


def test_the_controller_opens_it_once_and_no_term_runs_yet() -> None:
    birth = Birth(ALIAS, SUBJECT, "minor", "6", 5)
    [opened] = take_step(None, None, birth.step(NOW), Terms())
    assert (opened.origin, opened.state) == ("minor", "received")
    assert (opened.alias, opened.verified_at, opened.due_at, opened.next_at) == (ALIAS, None, None, None)
    assert take_step(opened, opened, birth.step(NOW + 1), Terms()) == []


@pytest.mark.parametrize(
    ("purpose", "categories", "days"),
    [
        ("ads", ("user.contact",), 90),
        ("ads", ("user.device.ip_address",), 30),
        ("service", ("user.device",), 60),
        # The photo is kept without a limit, whatever came with it.
        ("service", ("user.device", "user.content"), None),
        ("service", ("user.devices",), None),
        ("ads", ("user.device", "user.contact"), 90),
        ("ads", (), 90),
        ("service", (), None),
        ("strange", ("user.device",), 60),
        (None, ("user.device.ip_address",), 30),
    ],
)
def test_what_was_collected_together_is_kept_as_long_as_its_longest_part(
    purpose: str | None, categories: tuple[str, ...], days: int | None
) -> None:
    policy = Policy(1, 0, PURPOSES, ("*",), retention={"user.device": 60, "user.device.ip_address": 30})
    assert kept_for(policy, purpose, categories) == days
    assert kept_for(Policy(1, 0, retention={"*": 7}), purpose, categories or ("user.x",)) == 7
