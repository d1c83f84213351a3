"""`lineage explain`: why one event has its verdict, with its evidence."""

from __future__ import annotations

from uuid import UUID

import click

from infra.cli.audit import clickhouse
from infra.cli.options import json_option, located, write_json
from infra.settings import Settings


@click.command()
@click.argument("event", metavar="EVENT")
@json_option
@located
def explain(event: str, as_json: bool, settings: Settings) -> None:
    """Tell in plain words why an event is lawful, a violation or a gap.

    EVENT is an event id (a UUID), as `lineage subject` and the violations show it. Told are the clauses, the consents
    that count, the policy version and the registry entry, each with its id; everything is looked up as of the time
    of the event. It says so where a fact that came late is not in the stored verdict yet.

    \b
    Examples:
      lineage explain 2f1d9c1e-6c1b-4f2a-9a53-0d5c7d1f4a11
      lineage explain 2f1d9c1e-6c1b-4f2a-9a53-0d5c7d1f4a11 --json
    """
    from audit.explain import explain_event
    from streams.publishing import published_policies, published_recipients

    try:
        event_id = UUID(event)
    except ValueError:
        raise click.ClickException(
            f"{event!r} is no event id: it must be a UUID (lineage subject USER --json)"
        ) from None
    kafka, registry = settings.kafka(), settings.registry()
    with clickhouse(settings) as client:
        answer = explain_event(
            client, event_id, published_policies(kafka, registry), published_recipients(kafka, registry)
        )
    if answer is None:
        raise click.ClickException(f"there is no event {event_id} here: not loaded yet (lineage wait), or erased")
    if as_json:
        write_json(answer)
    else:
        click.echo(answer["text"])
