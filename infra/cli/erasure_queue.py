"""Erasure requests as the audit API answers, or as the projection has them for those who change them; and how the
terminal shows them. Changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from audit.erasures import left_of_term
from infra.audit_client import ApiRefused, AuditClient
from infra.cli.options import table
from processors.erasure import FINAL, STORE
from streams.documents import parse_instant

if TYPE_CHECKING:
    from clickhouse_driver import Client

# How long is waited for the projection to show what was told a moment ago.
SHOWN_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_NEVER = "9999"


def now_ms() -> int:
    """ms since 1970, UTC."""
    return time.time_ns() // 1_000_000


def find_request(api: AuditClient, request_id: UUID) -> dict[str, Any]:
    """The answer about a request, or about the one that it has joined. Raises `ClickException`, `ApiRefused`."""
    found = ask_request(api, request_id)
    return ask_request(api, UUID(found["joined"])) if found["joined"] else found


def ask_request(api: AuditClient, request_id: UUID) -> dict[str, Any]:
    """The answer about a request itself. Raises as `find_request` does."""
    try:
        found: dict[str, Any] = api.get(f"/requests/{request_id}")
    except ApiRefused as refused:
        if refused.code != "not_found":
            raise
        raise _unknown(request_id) from None
    return found


def attention_first(answers: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most so many: the open ones, with a warning before others, by due date; then those ended, the last first."""
    found = list(answers)
    still_open = sorted(
        (a for a in found if a["ended_at"] is None),
        key=lambda a: (not a["warnings"], a["due_at"] or _NEVER, a["received_at"], a["request_id"]),
    )
    ended = sorted((a for a in found if a["ended_at"] is not None), key=lambda a: a["ended_at"], reverse=True)
    return [*still_open, *ended][:limit]


def _unknown(request_id: UUID) -> click.ClickException:
    return click.ClickException(
        f"no erasure request {request_id} is known here; one that was made a moment ago takes some seconds"
    )


def answering(client: Client, request_id: UUID) -> dict[str, Any]:
    """The request that answers this one: itself, or the one it has joined, as the projection has it: for those who
    change it. Raises `ClickException`."""
    from sinks.clickhouse.erasures import erasure_request

    found = erasure_request(client, request_id)
    if found is None:
        raise _unknown(request_id)
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


def queue_lines(answers: Sequence[Mapping[str, Any]], now: int) -> Iterable[str]:
    """The queue as a table, in the order given (answers of `audit.erasures.request_answer`); below it what needs
    attention. now: ms."""
    rows = []
    for answer in answers:
        recipients = [t for t in answer["targets"] if not t["recipient"].startswith(STORE)]
        done = sum(t["state"] in FINAL for t in recipients)
        rows.append(
            [
                answer["request_id"],
                answer["state"] + (" (held)" if answer["hold"] else ""),
                (answer["due_at"] or "-")[:10],
                _left(answer, now) or "-",
                f"{done}/{len(recipients)}" if recipients else "-",
                "!" if answer["warnings"] else "",
                _short(answer["waits_for"]),
            ]
        )
    yield from table(rows, ["request", "state", "due", "left", "answered", "", "waits for"])
    for answer in answers:
        for warning in answer["warnings"]:
            yield f"! {answer['request_id']}: {warning}"


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def request_lines(answer: Mapping[str, Any], now: int) -> Iterable[str]:
    """One request: where it stands, its targets, what happened. Arguments as of `queue_lines`."""
    yield f"erasure {answer['request_id']}: {answer['state']}"
    facts = [
        ("asked by", f"{answer['origin']}, under {answer['regulation'].upper()}"),
        ("received", _moment(answer["received_at"])),
        ("verified", _verified(answer)),
        ("due", _due(answer, now)),
        ("waits for", answer["waits_for"] if answer["ended_at"] is None else ""),
        ("ground", answer["ground"]),
        ("joined", answer["joined"] or ""),
        ("link dropped", _moment(answer["erased_at"])),
        ("ended", _moment(answer["ended_at"])),
        ("certificate", f"lineage certificate show {answer['request_id']}" if answer["certificate"] else ""),
    ]
    for name, value in facts:
        if value:
            yield f"  {name:<13}{value}"
    for warning in answer["warnings"]:
        yield f"! {warning}"
    if answer["targets"]:
        yield ""
        yield from target_lines(answer["targets"])
    if answer["history"]:
        yield ""
        yield "history (UTC)"
        for moment in answer["history"]:
            yield f"  {_moment(moment['occurred_at'])}  {moment['text']}"
    recipients = [t for t in answer["targets"] if not t["recipient"].startswith(STORE) and t["state"] not in FINAL]
    open_manual = [t["recipient"] for t in recipients if t["protocol"] == "manual"]
    if open_manual and answer["verified_at"] is not None:
        yield ""
        yield "to be asked by a person:"
        for target in open_manual:
            yield f"  lineage requests task {answer['request_id']} {target}"


def target_lines(targets: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Targets as a table, by hop."""
    rows = [
        [
            target["recipient"],
            "?" if target["hop"] is None else str(target["hop"]),
            target["state"],
            target["grade"],
            target["protocol"],
            str(target["attempts"]),
            _moment(target["next_at"]) or "-",
            _short(target["ground"] or target["detail"]),
        ]
        for target in sorted(targets, key=lambda t: (t["recipient"].startswith(STORE), t["hop"] is None, t["hop"] or 0))
    ]
    return table(rows, ["target", "hop", "state", "grade", "protocol", "attempts", "next try", "detail"])


def _verified(answer: Mapping[str, Any]) -> str:
    if answer["verified_at"] is None:
        return "" if answer["ended_at"] else f"not yet: lineage requests verify {answer['request_id']} --how TEXT"
    return f"{_moment(answer['verified_at'])} by {answer['verified_by'] or 'somebody not named'}"


def _due(answer: Mapping[str, Any], now: int) -> str:
    left = _left(answer, now)
    return _moment(answer["due_at"]) + (f" ({left}{'' if 'over' in left else ' left'})" if left else "")


def _left(answer: Mapping[str, Any], now: int) -> str:
    due_at = None if answer["due_at"] is None else parse_instant(answer["due_at"])
    return left_of_term({"state": answer["state"], "due_at": due_at}, now)


def _moment(at: str | None) -> str:
    return "" if at is None else f"{at[:10]} {at[11:19]}"
