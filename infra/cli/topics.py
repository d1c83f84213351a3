"""`lineage topics plan|apply`: Kafka's topics against the catalogue. Nothing is created or altered but by `apply`."""

from __future__ import annotations

from dataclasses import asdict

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings
from streams import topics as catalogue

_PARTITIONS = click.option(
    "--partitions",
    default=catalogue.DEFAULT_PARTITIONS,
    show_default=True,
    type=click.IntRange(1),
    help="Of every topic that is keyed by person.",
)


@click.group()
def topics() -> None:
    """Compare Kafka's topics with the catalogue, and apply it.

    Example: lineage topics plan --kafka broker:9092
    """


@topics.command("plan")
@_PARTITIONS
@json_option
@located
def plan_topics(partitions: int, as_json: bool, settings: Settings) -> None:
    """Show what `apply` would do; changes nothing.

    Example: lineage topics plan
    """
    changes = catalogue.plan(settings.kafka().admin(), partitions)
    _show(changes, as_json)


@topics.command("apply")
@_PARTITIONS
@click.option("--replication-factor", default=-1, help="Of new topics; by default what the cluster has as its own.")
@json_option
@located
def apply_topics(partitions: int, replication_factor: int, as_json: bool, settings: Settings) -> None:
    """Create and alter topics so that they are as in the catalogue. Partition counts are never changed.

    Example: lineage topics apply --kafka broker:9092 --partitions 24 --replication-factor 3
    """
    admin = settings.kafka().admin()
    changes = catalogue.plan(admin, partitions)
    catalogue.apply(admin, changes, replication_factor)
    _show(changes, as_json)


def _show(changes: list[catalogue.Change], as_json: bool) -> None:
    if as_json:
        write_json({"changes": [asdict(change) for change in changes]})
    elif not changes:
        say("all topics are as in the catalogue")
    else:
        for line in table([[change.action, change.topic, change.detail] for change in changes], ["", "topic", ""]):
            click.echo(line)
