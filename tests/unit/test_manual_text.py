"""The e-mail of a manual task: who is meant, what to do, by when, on what ground, how to answer."""

from dataclasses import replace
from uuid import UUID

import pytest

from sinks.recipients.manual_text import Task, manual_message

REFERENCE = UUID("0b9a8c7d-1111-4222-8333-444455556666")
TASK = Task(
    recipient="old-agency",
    reference=REFERENCE,
    due_at=1_775_001_600_000,  # 2026-04-01T00:00:00Z
    name="Old Agency Ltd",
    contact="privacy@agency.example",
    sender="aoxun.example",
    identities=(
        {"identity_type": "email", "identity_format": "raw", "identity_value": "a@example.org"},
        {"identity_type": "controller_customer_id", "identity_format": "sha256", "identity_value": "ab" * 32},
    ),
)


def test_says_all_that_a_recipient_needs() -> None:
    message = manual_message(TASK)
    assert message.to == "privacy@agency.example"
    assert message.subject == f"Request to delete one person's data by 1 April 2026 ({REFERENCE})"
    for part in (
        "To Old Agency Ltd,",
        "e-mail address: a@example.org",
        f"user id at our service (SHA256): {'ab' * 32}",
        "By when: 1 April 2026.",
        "clause 8 of our privacy policy",
        f"Reference: {REFERENCE}",
        "How to answer",
        "what you must keep, under which law",
        "aoxun.example",
    ):
        assert part in " ".join(message.text.split())
    assert str(message).startswith("To: privacy@agency.example\nSubject: Request")


@pytest.mark.parametrize(("regulation", "law"), [("gdpr", "(GDPR)"), ("ccpa", "1798.105"), ("lgpd", "LGPD")])
def test_names_the_law(regulation: str, law: str) -> None:
    assert law in manual_message(replace(TASK, regulation=regulation)).text


def test_a_reminder_is_one() -> None:
    message = manual_message(replace(TASK, reminder=2))
    assert message.subject.startswith("Reminder 2: ")
    assert "have no answer yet" in message.text
    assert "have no answer yet" not in manual_message(TASK).text


def test_without_a_known_identifier_it_says_so() -> None:
    assert "please ask us" in manual_message(replace(TASK, identities=())).text


def test_a_publication_is_for_ones_own_people() -> None:
    message = manual_message(replace(TASK, recipient="public", name="", contact=""))
    assert message.to == "whoever publishes here"
    assert "Take the publication down" in message.text
    assert "a@example.org" in message.text


def test_a_recipient_without_contact_is_named() -> None:
    assert manual_message(replace(TASK, name="", contact="")).to == "old-agency"


def test_what_is_given_cannot_pass_for_our_words() -> None:
    nasty = {"identity_type": "email", "identity_format": "raw", "identity_value": "a@b\n\nReference: none"}
    message = manual_message(replace(TASK, contact="x@y\nBcc: z@z", identities=(nasty,)))
    assert message.to == "x@y Bcc: z@z"
    assert "a@b  Reference: none" in message.text


def test_identifiers_show_in_no_repr() -> None:
    assert "a@example.org" not in repr(TASK) + repr(manual_message(TASK))
