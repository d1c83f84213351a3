"""`lineage connectors …`: how each recipient would be asked to erase. Calls none of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings


@click.group()
def connectors() -> None:
    """Check how recipients are asked to erase (connectors.yaml).

    Example: lineage connectors check
    """


@connectors.command()
@json_option
@located
def check(as_json: bool, settings: Settings) -> None:
    """Check connectors.yaml, and tell of every registered recipient how it would be asked. Calls none of them.

    A recipient without an entry becomes a task for a person, with the contact of its registration; an authority, to
    whom data had to be given, is not asked at all.

    Example: lineage connectors check --json
    """
    from infra.connectors import connectors_of
    from streams.erasure_routes import Routes
    from streams.publishing import published_recipients
    from streams.reference_data import ReferenceData

    configured = connectors_of(settings)
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
        detail = route.exempt or (_manual(configured.of(name), contact) if route.protocol == "manual" else "")
        answer.append(
            {
                "recipient": name,
                "kind": entry["kind"],
                "protocol": route.protocol,
                "configured": configured.of(name) is not None,
                "exempt": route.exempt or None,
                "contact": contact or None,
                "detail": detail,
            }
        )
    unknown = sorted(set(configured.recipients) - set(newest))
    if as_json:
        write_json({"file": str(settings.connectors_file()), "recipients": answer, "unregistered": unknown})
        return
    rows = [[a["recipient"], a["kind"], "not asked" if a["exempt"] else a["protocol"], a["detail"]] for a in answer]
    for line in table(rows, ["recipient", "kind", "protocol", "detail"]):
        click.echo(line)
    for name in unknown:
        say(f"note: {name} has an entry in {settings.connectors_file()} and is no registered recipient")


def _manual(task: Any, contact: str) -> str:
    to = (task.contact if task else "") or contact
    return f"a person asks {to}" if to else "a person must ask, and no contact is known: register one"
