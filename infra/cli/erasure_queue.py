"""Erasure requests read from the projection, and how the terminal shows them. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from audit.erasures import instant, left_of_term, open_recipients, waits_for, warnings
from infra.cli.audit import clickhouse
from infra.cli.options import table
from infra.settings import Settings
from processors.erasure import FINAL

if TYPE_CHECKING:
    from clickhouse_driver import Client

# How long is waited for the projection to show what was told a moment ago.
SHOWN_SECONDS = 10.0
_LOOK_SECONDS = 0.2


def now_ms() -> int:
    """ms since 1970, UTC."""
    return time.time_ns() // 1_000_000


def find_request(settings: Settings, request_id: UUID) -> dict[str, Any]:
    """The request that answers this one: itself, or the one it has joined. Raises `ClickException`."""
    with clickhouse(settings) as client:
        return answering(client, request_id)


def answering(client: Client, request_id: UUID) -> dict[str, Any]:
    """As `find_request`, on an open connection."""
    from sinks.clickhouse.erasures import erasure_request

    found = erasure_request(client, request_id)
    if found is None:
        raise click.ClickException(
            f"no erasure request {request_id} is known here; one that was made a moment ago takes some seconds"
        )
    joined = erasure_request(client, UUID(found["joined"])) if found["joined"] else None
    return joined or found


def wait_until_shown(
    client: Client, request_ids: Sequence[UUID], shown: Callable[[Mapping[str, Any]], bool], seconds: float
) -> dict[UUID, dict[str, Any]]:
    """The requests that the projection shows as `shown` wants them, within so many seconds; others are left out."""
    from sinks.clickhouse.erasures import erasure_request

    deadline = time.monotonic() + seconds
    found: dict[UUID, dict[str, Any]] = {}
    while True:
        for request_id in request_ids:
            if request_id not in found:
                document = erasure_request(client, request_id)
                if document is not None and shown(document):
                    found[request_id] = document
        if len(found) == len(set(request_ids)) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_SECONDS)


def queue_lines(documents: Sequence[Mapping[str, Any]], now: int) -> Iterable[str]:
    """The queue as a table, in the order given; below it what needs attention."""
    rows = []
    for document in documents:
        recipients = [t for t in document["targets"] if not t["id"].startswith("store:")]
        done = sum(t["state"] in FINAL for t in recipients)
        rows.append(
            [
                document["request_id"],
                document["state"] + (" (held)" if document["hold"] else ""),
                (instant(document["due_at"]) or "-")[:10],
                left_of_term(document, now) or "-",
                f"{done}/{len(recipients)}" if recipients else "-",
                "!" if warnings(document, now) else "",
                _short(waits_for(document)),
            ]
        )
    yield from table(rows, ["request", "state", "due", "left", "answered", "", "waits for"])
    for document in documents:
        for warning in warnings(document, now):
            yield f"! {document['request_id']}: {warning}"


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def request_lines(document: Mapping[str, Any], now: int) -> Iterable[str]:
    """One request: where it stands, its targets, what happened."""
    yield f"erasure {document['request_id']}: {document['state']}"
    facts = [
        ("asked by", f"{document['origin']}, under {document['regulation'].upper()}"),
        ("received", _moment(document["received_at"])),
        ("verified", _verified(document)),
        ("due", _due(document, now)),
        ("waits for", waits_for(document) if document["ended_at"] is None else ""),
        ("ground", document["ground"]),
        ("joined", document["joined"] or ""),
        ("link dropped", _moment(document["erased_at"])),
        ("ended", _moment(document["ended_at"])),
        ("certificate", f"lineage certificate show {document['request_id']}" if document["certificate"] else ""),
    ]
    for name, value in facts:
        if value:
            yield f"  {name:<13}{value}"
    for warning in warnings(document, now):
        yield f"! {warning}"
    if document["targets"]:
        yield ""
        yield from target_lines(document["targets"])
    if document["history"]:
        yield ""
        yield "history (UTC)"
        for moment in document["history"]:
            yield f"  {_moment(moment['occurred_at'])}  {moment['text']}"
    open_manual = [t["id"] for t in open_recipients(document) if t["protocol"] == "manual"]
    if open_manual and document["verified_at"] is not None:
        yield ""
        yield "to be asked by a person:"
        for target in open_manual:
            yield f"  lineage requests task {document['request_id']} {target}"


def target_lines(targets: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Targets as a table, by hop."""
    rows = [
        [
            target["id"],
            "?" if target["hop"] is None else str(target["hop"]),
            target["state"],
            target["grade"],
            target["protocol"],
            str(target["attempts"]),
            _moment(target["next_at"]) or "-",
            _short(target["ground"] or target["detail"]),
        ]
        for target in sorted(targets, key=lambda t: (t["id"].startswith("store:"), t["hop"] is None, t["hop"] or 0))
    ]
    return table(rows, ["target", "hop", "state", "grade", "protocol", "attempts", "next try", "detail"])


def _verified(document: Mapping[str, Any]) -> str:
    if document["verified_at"] is None:
        return "" if document["ended_at"] else f"not yet: lineage requests verify {document['request_id']} --how TEXT"
    return f"{_moment(document['verified_at'])} by {document['verified_by'] or 'somebody not named'}"


def _due(document: Mapping[str, Any], now: int) -> str:
    left = left_of_term(document, now)
    return _moment(document["due_at"]) + (f" ({left}{'' if 'over' in left else ' left'})" if left else "")


def _moment(ms: int | None) -> str:
    at = instant(ms)
    return "" if at is None else f"{at[:10]} {at[11:19]}"
