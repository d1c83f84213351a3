"""`lineage connectors …`: how each recipient would be asked to erase. Sends nothing of anybody."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings

if TYPE_CHECKING:
    from sinks.recipients.checking import Finding
    from sinks.recipients.configuration import Connectors


@click.group()
def connectors() -> None:
    """Check how recipients are asked to erase (connectors.yaml).

    Example: lineage connectors check
    """


@connectors.command()
@click.option("--ask", is_flag=True, help="Ask recipients what they announce (OpenDSR, DDRF), else none is called.")
@json_option
@located
def check(ask: bool, as_json: bool, settings: Settings) -> None:
    """Check connectors.yaml, and tell of every registered recipient how it would be asked.

    A recipient without an entry becomes a task for a person, with the contact of its registration; an authority, to
    whom data had to be given, is not asked at all.

    With --ask the exit code is 1 when one of them cannot be asked as its entry says.

    Example: lineage connectors check --ask
    """
    from infra.connectors import connectors_of
    from streams.erasure_routes import Routes
    from streams.publishing import published_recipients
    from streams.reference_data import ReferenceData

    configured = connectors_of(settings)
    found = _ask(configured) if ask else {}
    kafka, registry = settings.kafka(), settings.registry()
    reference = ReferenceData(kafka, registry)
    try:
        knowledge = reference.read_to_end()
    finally:
        reference.close()
    routes = Routes(lambda: configured, lambda: knowledge, time.time, registry)
    newest: dict[str, Mapping[str, Any]] = {}
    for registered in sorted(published_recipients(kafka, registry), key=lambda r: r["effective_at"]):
        newest[registered["id"]] = registered
    answer = []
    for name in sorted(newest):
        entry = newest[name]
        route = routes.route(name)
        contact = entry["contact"] or ""
        finding = found.get(name)
        if finding is not None and finding.usable is not None:
            detail = finding.detail if finding.usable else f"cannot be asked: {finding.detail}"
        else:
            detail = route.exempt or (_manual(configured.of(name), contact) if route.protocol == "manual" else "")
        answer.append(
            {
                "recipient": name,
                "kind": entry["kind"],
                "protocol": route.protocol,
                "configured": configured.of(name) is not None,
                "exempt": route.exempt or None,
                "contact": contact or None,
                "usable": finding.usable if finding else None,
                "detail": detail,
            }
        )
    unknown = sorted(set(configured.recipients) - set(newest))
    if as_json:
        write_json({"file": str(settings.connectors_file()), "recipients": answer, "unregistered": unknown})
    else:
        _show(answer, unknown, settings)
    if any(finding.usable is False for finding in found.values()):
        sys.exit(1)


def _show(answer: Sequence[Mapping[str, Any]], unknown: Sequence[str], settings: Settings) -> None:
    rows = [[a["recipient"], a["kind"], "not asked" if a["exempt"] else a["protocol"], a["detail"]] for a in answer]
    for line in table(rows, ["recipient", "kind", "protocol", "detail"]):
        click.echo(line)
    for name in unknown:
        say(f"note: {name} has an entry in {settings.connectors_file()} and is no registered recipient")


def _ask(configured: Connectors) -> dict[str, Finding]:
    """What each recipient with an entry announces, by its name."""
    import asyncio

    from sinks.recipients.checking import check as announced_by

    async def findings() -> list[Finding]:
        try:
            return await announced_by(configured)
        finally:
            await configured.close()

    return {finding.recipient: finding for finding in asyncio.run(findings())}


def _manual(task: Any, contact: str) -> str:
    to = (task.contact if task else "") or contact
    return f"a person asks {to}" if to else "a person must ask, and no contact is known: register one"
