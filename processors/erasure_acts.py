"""What a person does about the recipients of an erasure request: ask again, confirm, exempt. Which state allows it
stands here alone, for whoever offers it: the commands, the audit API, its pages.

Pure: each act gives the receipts to tell. It judges by the request as the projection shows it; the controller judges
again when it takes what was told. Names no person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from processors.erasure import ENDED, FINAL, STORE
from processors.erasure_commands import Grade, idempotency_key

# Nobody needs to ask a recipient in one of these. One that failed is not done: it can be asked again.
_DONE = frozenset({"completed", "exempt"})

# An ErasureState, as the projection gives it.
Document = Mapping[str, Any]


class UnknownRecipient(Exception):
    """A recipient that the request does not have. The text says which ones it has."""


class ActRefused(Exception):
    """The state of the request, or of the recipient, does not allow it. The text says why, and what to do."""


class Told(NamedTuple):
    """One ErasureReceipt to be told of a request, but for its time. `idempotency_key`: of the command it is about."""

    target: str
    answer: str
    grade: Grade = Grade.none
    detail: str = ""
    ground: str = ""
    source: str = "operator"
    idempotency_key: UUID | None = None


def retry(document: Document, recipient: str | None = None, by: str = "") -> list[Told]:
    """A recipient is asked again now, None: all that are not done. by: who wants it, as they are signed in.

    Like every act raises `ActRefused` and `UnknownRecipient`; then nothing of it may be told.
    """
    open_request(document)
    wanted = [one["id"] for one in _recipients(document) if not needs_nobody(one)] if recipient is None else [recipient]
    if not wanted:
        raise ActRefused("every recipient has done it, or may keep the data: there is nothing to retry")
    for name in wanted:
        if (state := recipient_of(document, name)["state"]) in _DONE:
            raise ActRefused(f"{name} is {state}: nothing to retry")
    return [Told(name, "retry", detail=by) for name in wanted]


def confirm(
    document: Document, recipient: str, note: str = "", reference: UUID | None = None, by: str = ""
) -> list[Told]:
    """A recipient has confirmed the deletion to a person here: its word, `claimed`.

    `reference`: what the answer names; None: it names none. An older one is refused: the recipient was given more
    data since, of which the answer says nothing.
    """
    open_request(document)
    if recipient_of(document, recipient)["state"] == "completed":
        raise ActRefused(f"{recipient} is completed already")
    newest = reference_of(document, recipient)
    if reference not in (None, newest):
        raise ActRefused(f"{recipient} got more data since: ask it again under {newest} (lineage requests task)")
    detail = f"confirmed to {by or 'a person'}" + (f": {note}" if note else "")
    return [Told(recipient, "completed", Grade.claimed, detail, source="manual", idempotency_key=newest)]


def exempt(document: Document, recipient: str, ground: str, by: str = "") -> list[Told]:
    """A recipient may keep the data. `ground`: the law or clause that lets it; not empty."""
    open_request(document)
    state = recipient_of(document, recipient)["state"]
    if state in _DONE:
        raise ActRefused(f"{recipient} is {state} already")
    if state in FINAL:
        # The controller lets only a success change what is final, and would pass this over.
        raise ActRefused(f"{recipient} is {state}: ask it again first (retry), then exempt it")
    if not ground.strip():
        raise ActRefused("name the ground: the law or clause that lets the recipient keep the data")
    return [Told(recipient, "exempt", detail=f"exempted by {by}" if by else "", ground=ground)]


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
        raise UnknownRecipient(f"no recipient of that name in this request; there is: {known}")
    return recipients[name]


def reference_of(document: Document, name: str) -> UUID:
    """The key of the newest command to a recipient; what a manual task asks to be answered under."""
    return idempotency_key(UUID(document["request_id"]), name, recipient_of(document, name)["round"])


def needs_nobody(target: Mapping[str, Any]) -> bool:
    """Whether a recipient has done it, or may keep the data."""
    return target["state"] in _DONE


def _recipients(document: Document) -> list[Mapping[str, Any]]:
    return [t for t in document["targets"] if not t["id"].startswith(STORE)]
