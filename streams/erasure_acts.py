"""What a person does about the recipients of an erasure request: ask again, confirm, exempt. Which state allows it
stands here alone, for whoever offers it.

It judges by the request as the projection shows it; the controller judges again when it takes what was told. It never
reads, and names no person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from processors.erasure import ENDED, FINAL, STORE
from processors.erasure_commands import Grade, idempotency_key
from streams.erasure_intake import ErasureIntake

# Nobody needs to ask a recipient in one of these. One that failed is not done: it can be asked again.
_DONE = frozenset({"completed", "exempt"})

Document = Mapping[str, Any]


class UnknownRecipient(Exception):
    """A recipient that the request does not have. The text says which ones it has."""


class ActRefused(Exception):
    """The state of the request, or of the recipient, does not allow it. The text says why, and what to do."""


@dataclass(frozen=True)
class ErasureActs:
    """Tells the intake what a person has decided. `document`: an ErasureState, as the projection gives it.

    Every act raises `ActRefused`, `UnknownRecipient`, and `IntakeError` when it was not taken.
    """

    intake: ErasureIntake

    def retry(self, document: Document, recipient: str | None = None) -> None:
        """Asks a recipient again now, None: all that are not done. Nothing is told unless all of it may be."""
        request_id = open_request(document)
        wanted = _not_done(document) if recipient is None else [recipient]
        if not wanted:
            raise ActRefused("every recipient has done it, or may keep the data: there is nothing to retry")
        for name in wanted:
            if (state := recipient_of(document, name)["state"]) in _DONE:
                raise ActRefused(f"{name} is {state}: nothing to retry")
        for name in wanted:
            self.intake.receipt(request_id, name, "retry", grade=Grade.none, source="operator")

    def confirm(self, document: Document, recipient: str, note: str = "", reference: UUID | None = None) -> None:
        """Takes down that a recipient has confirmed the deletion to a person here: its word, `claimed`.

        `reference`: what the answer names; None: it names none. An older one is refused: the recipient was given more
        data since, of which the answer says nothing.
        """
        request_id = open_request(document)
        if recipient_of(document, recipient)["state"] == "completed":
            raise ActRefused(f"{recipient} is completed already")
        newest = reference_of(document, recipient)
        if reference not in (None, newest):
            raise ActRefused(f"{recipient} got more data since: ask it again under {newest} (lineage requests task)")
        self.intake.receipt(
            request_id,
            recipient,
            "completed",
            grade=Grade.claimed,
            detail=f"confirmed to a person: {note}" if note else "confirmed to a person",
            source="manual",
            idempotency_key=newest,
        )

    def exempt(self, document: Document, recipient: str, ground: str) -> None:
        """Takes down that a recipient may keep the data. `ground`: the law or clause that lets it; not empty."""
        request_id = open_request(document)
        state = recipient_of(document, recipient)["state"]
        if state in _DONE:
            raise ActRefused(f"{recipient} is {state} already")
        if state in FINAL:
            # The controller lets only a success change what is final, and would pass this over.
            raise ActRefused(f"{recipient} is {state}: ask it again first (lineage requests retry), then exempt it")
        if not ground.strip():
            raise ActRefused("name the ground: the law or clause that lets the recipient keep the data")
        self.intake.receipt(request_id, recipient, "exempt", grade=Grade.none, ground=ground, source="operator")


def open_request(document: Document) -> UUID:
    """The id of a request that can still change. Raises `ActRefused` for one that has ended."""
    if document["state"] in ENDED:
        raise ActRefused(f"request {document['request_id']} is {document['state']}: it does not change any more")
    return UUID(document["request_id"])


def recipient_of(document: Document, name: str) -> Mapping[str, Any]:
    """The target of that name; own stores are none. Raises `UnknownRecipient`."""
    recipients: dict[str, Mapping[str, Any]] = {t["id"]: t for t in _recipients(document)}
    if name not in recipients:
        known = ", ".join(sorted(recipients)) or "none yet"
        raise UnknownRecipient(f"{name} is no recipient of this request; there is: {known}")
    return recipients[name]


def reference_of(document: Document, name: str) -> UUID:
    """The key of the newest command to a recipient; what a manual task asks to be answered under."""
    return idempotency_key(UUID(document["request_id"]), name, recipient_of(document, name)["round"])


def needs_nobody(target: Mapping[str, Any]) -> bool:
    """Whether a recipient has done it, or may keep the data."""
    return target["state"] in _DONE


def _not_done(document: Document) -> list[str]:
    return [t["id"] for t in _recipients(document) if not needs_nobody(t)]


def _recipients(document: Document) -> list[Mapping[str, Any]]:
    return [t for t in document["targets"] if not t["id"].startswith(STORE)]
