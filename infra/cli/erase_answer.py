"""What `lineage erase` answers, and its --wait. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from audit.erasures import instant, is_settled, open_recipients, request_answer, waits_for
from infra.cli.erasure_queue import SHOWN_SECONDS, answering, now_ms, queue_lines, request_lines, wait_until_shown
from infra.cli.options import ProgressLine, say, write_json
from processors.erasure import ENDED, Terms

if TYPE_CHECKING:
    from clickhouse_driver import Client

_LOOK_SECONDS = 0.5
# Recipients that answer at once are worth waiting for.
_QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Asking:
    """How it is asked for. `verified_by`: empty where identity is still to be verified."""

    origin: str
    regulation: str
    verified_by: str


@dataclass(frozen=True)
class Asked:
    """One request. `is_new`: False where an open one of the same person answers it."""

    request_id: UUID
    is_new: bool


def show(client: Client, asked: Sequence[Asked], asking: Asking, single: bool, as_json: bool) -> None:
    """The requests as the controller has taken them, once it has; as they were told, if it has not for ten seconds."""

    def is_taken(document: Mapping[str, Any]) -> bool:
        return not asking.verified_by or document["verified_at"] is not None or document["state"] == "joined"

    shown = wait_until_shown(client, [one.request_id for one in asked], is_taken, SHOWN_SECONDS)
    if len(shown) < len(asked):
        say("told; the controller has not taken it yet (does the worker `erasures` run? lineage status)")
    # Where two asked at the same moment, one answers both.
    for request_id, document in shown.items():
        shown[request_id] = answering(client, request_id) if document["joined"] else document
    now = now_ms()
    if as_json:
        answers = [_for_json(one, shown.get(one.request_id), asking, now) for one in asked]
        write_json(answers[0] if single else {"requests": answers})
        return
    if not all(one.is_new for one in asked):
        say("an open request of the same person answers this one" if single else "some have an open request already")
    answers = list({d["request_id"]: request_answer(d, now) for d in shown.values()}.values())
    for line in request_lines(answers[0], now) if single and answers else queue_lines(answers, now):
        click.echo(line)
    for one in asked:
        if one.request_id not in shown:
            click.echo(f"{one.request_id}  {'verified' if asking.verified_by else 'received'}")


def show_count(asked: Sequence[Asked], asking: Asking, as_json: bool) -> None:
    """How many were asked for: of everyone nobody wants a list."""
    if as_json:
        write_json({"asked": len(asked), "origin": asking.origin, "due_at": _due(asking, now_ms())})
    else:
        click.echo(f"{len(asked):,} people: erasure asked for; lineage requests shows how it goes on")


def _for_json(one: Asked, document: Mapping[str, Any] | None, asking: Asking, now: int) -> dict[str, Any]:
    if document is not None:
        return {"new": one.is_new} | request_answer(document, now)
    return {
        "new": one.is_new,
        "request_id": str(one.request_id),
        "state": "verified" if asking.verified_by else "received",
        "due_at": _due(asking, now),
        "targets": [],
        "certificate": None,
    }


def _due(asking: Asking, now: int) -> str | None:
    """When the term ends that begins now; None: it does not begin yet."""
    return instant(now + Terms().response) if asking.verified_by else None


def wait_for(client: Client, request_ids: Sequence[UUID], seconds: float) -> None:
    """Until each is over, or has waited for somebody outside for ten seconds without a change.

    Raises `ClickException` when the time is up.
    """
    line = ProgressLine()
    deadline = time.monotonic() + seconds
    left = list(request_ids)
    changed: dict[UUID, tuple[int, float]] = {}

    def is_done(request_id: UUID, document: Mapping[str, Any] | None) -> bool:
        if document is None or not is_settled(document, now_ms()):
            return False
        version, since = changed.setdefault(request_id, (document["version"], time.monotonic()))
        if version != document["version"]:
            changed[request_id] = document["version"], time.monotonic()
            return False
        return document["state"] in ENDED or time.monotonic() - since >= _QUIET_SECONDS

    try:
        while True:
            documents = {request_id: _newest(client, request_id) for request_id in left}
            left = [request_id for request_id, found in documents.items() if not is_done(request_id, found)]
            if not left:
                return
            if time.monotonic() > deadline:
                raise click.ClickException(f"after {seconds:.0f} s {len(left)} requests go on: lineage requests")
            told = _progress(documents[left[0]])
            done = len(request_ids) - len(left)
            line.show(told if len(request_ids) == 1 else f"{done:,} of {len(request_ids):,} settled; {told}")
            time.sleep(_LOOK_SECONDS)
    finally:
        line.clear()


def _newest(client: Client, request_id: UUID) -> dict[str, Any] | None:
    """The request, or the one that it has joined; None: the controller has not taken it yet."""
    from sinks.clickhouse.erasures import erasure_request

    found = erasure_request(client, request_id)
    return found if found is None or not found["joined"] else erasure_request(client, UUID(found["joined"]))


def _progress(document: Mapping[str, Any] | None) -> str:
    if document is None:
        return "waits for the controller to take it"
    waiting = len(open_recipients(document))
    return f"{document['state']}: waits for {waits_for(document) if waiting < 4 else f'{waiting} recipients'}"
