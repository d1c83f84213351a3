"""`lineage explain`: why one event has its verdict, with its evidence."""

from __future__ import annotations

from uuid import UUID

import click

from infra.audit_client import ApiRefused, AuditClient
from infra.cli.options import json_option, write_json
from infra.cli.over_api import looks_at_people


@click.command()
@click.argument("event", metavar="EVENT")
@json_option
@looks_at_people
def explain(event: str, as_json: bool, api: AuditClient) -> None:
    """Tell in plain words why an event is lawful, a violation or a gap.

    EVENT is an event id (a UUID), as `lineage subject` and the violations show it. Told are the clauses, the consents
    that count, the policy version and the registry entry, each with its id; everything is looked up as of the time
    of the event. It says so where a fact that came late is not in the stored verdict yet. It tells whose event it is:
    the look is recorded, with its reason (docs/audit-api.md).

    \b
    Examples:
      lineage explain 2f1d9c1e-6c1b-4f2a-9a53-0d5c7d1f4a11
      lineage explain 2f1d9c1e-6c1b-4f2a-9a53-0d5c7d1f4a11 --json
    """
    try:
        event_id = UUID(event)
    except ValueError:
        raise click.ClickException(
            f"{event!r} is no event id: it must be a UUID (lineage subject USER --json)"
        ) from None
    try:
        answer = api.get(f"/events/{event_id}")
    except ApiRefused as refused:
        if refused.code != "not_found":
            raise
        raise click.ClickException(
            f"there is no event {event_id} here: not loaded yet (lineage wait), or erased"
        ) from None
    if as_json:
        write_json(answer)
    else:
        click.echo(answer["text"])
