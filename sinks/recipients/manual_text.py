"""The e-mail by which a person asks a recipient to delete: for recipients that no program can ask. Pure rendering.

The text names the person, as the recipient must know who is meant. Whoever calls this keeps it nowhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from processors.erasure import PUBLIC
from processors.erasure_commands import Identity

_WIDTH = 78
_LAWS = {
    "pipl": "Articles 21, 23 and 47 of China's Personal Information Protection Law (PIPL)",
    "gdpr": "Articles 17 and 19 of the General Data Protection Regulation (EU) 2016/679 (GDPR)",
    "ccpa": "Section 1798.105 of the California Consumer Privacy Act (CCPA)",
}
_IDENTIFIERS = {
    "controller_customer_id": "user id at our service",
    "android_advertising_id": "Android advertising id",
    "android_id": "Android id",
    "email": "e-mail address",
    "fire_advertising_id": "Fire advertising id",
    "ios_advertising_id": "iOS advertising id (IDFA)",
    "ios_vendor_id": "iOS vendor id (IDFV)",
    "microsoft_advertising_id": "Microsoft advertising id",
    "microsoft_publisher_id": "Microsoft publisher id",
    "roku_publisher_id": "Roku publisher id",
    "roku_advertising_id": "Roku advertising id",
}


@dataclass(frozen=True)
class Task:
    """One recipient that a person must ask.

    `reference`: what the answer must name; the key of this command, the same in every reminder. `due_at`: ms.
    `reminder`: 0 for the first message. `clause`: of the policy, that binds us. `sender`: who asks, e.g. a domain.
    """

    recipient: str
    reference: UUID
    due_at: int
    name: str = ""
    contact: str = ""
    regulation: str = "pipl"
    clause: str = "8"
    sender: str = ""
    reminder: int = 0
    identities: tuple[Identity, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Message:
    """An e-mail. Its text names the person."""

    to: str
    subject: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"To: {self.to}\nSubject: {self.subject}\n\n{self.text}"


def manual_message(task: Task) -> Message:
    """The e-mail for a task; for a publication, what one's own people must take down."""
    by = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=task.due_at)).strftime("%d %B %Y").lstrip("0")
    prefix = f"Reminder {task.reminder}: " if task.reminder else ""
    law = _LAWS.get(task.regulation, task.regulation.upper())
    if task.recipient == PUBLIC:
        subject = f"{prefix}Take down what was published about one person by {by} ({task.reference})"
        return Message(_line(task.contact) or "whoever publishes here", subject, _text(_publication(task, by, law)))
    subject = f"{prefix}Request to delete one person's data by {by} ({task.reference})"
    return Message(_line(task.contact or task.name or task.recipient), subject, _text(_letter(task, by, law)))


def _letter(task: Task, by: str, law: str) -> list[str]:
    again = ["We wrote to you about this before and have no answer yet."] if task.reminder else []
    return [
        f"To {task.name or task.recipient},",
        *again,
        "a person whose data we passed on to you has asked for its deletion, or the law demands it. Their identity is "
        "verified where that is needed. Please delete all personal data of this person that you received from us, or "
        "through others from us, in every store, copy and model input, and have whoever received it from you do so "
        "too.",
        "The person is known to you by:",
        _identified(task.identities),
        f"By when: {by}.",
        f"On what ground: {law}; clause {task.clause} of our privacy policy.",
        "How to answer: reply to this message and keep the reference in it. Say one of:",
        "  1. deleted, and on which day;\n"
        "  2. that you hold nothing about this person;\n"
        "  3. what you must keep, under which law, and until when.",
        f"Reference: {task.reference}",
        "Use the identifiers above for this deletion only, and delete this message with them once it is done.",
        *([task.sender] if task.sender else []),
    ]


def _publication(task: Task, by: str, law: str) -> list[str]:
    return [
        "personal data of the following person was made public (clause 3.3 of the privacy policy), and is to be "
        "erased. Take the publication down wherever we control it, and ask search engines and archives to drop "
        "their copies.",
        _identified(task.identities),
        f"By when: {by}.",
        f"On what ground: {law}; clause {task.clause} of the privacy policy.",
        f"Reference: {task.reference}",
        "Delete this message once it is done.",
    ]


def _identified(identities: Sequence[Identity]) -> str:
    if not identities:
        return "  (no identifier of this person that you would know is known to us: please ask us)"
    lines = []
    for identity in identities:
        name = _IDENTIFIERS.get(identity["identity_type"], identity["identity_type"])
        form = identity["identity_format"]
        lines.append(f"  {name}{'' if form == 'raw' else f' ({form.upper()})'}: {_line(identity['identity_value'])}")
    return "\n".join(lines)


def _line(text: str) -> str:
    """On one line whatever it holds, so that nothing given can pass for a header or for our own words."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _text(paragraphs: Sequence[str]) -> str:
    """Paragraphs at a width for e-mail; indented ones stay as they are, so that no identifier is broken."""
    shown = [p if p.startswith("  ") else textwrap.fill(p, _WIDTH, break_long_words=False) for p in paragraphs]
    return "\n\n".join(shown) + "\n"
