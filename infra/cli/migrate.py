"""`lineage migrate plan|apply`: ClickHouse's tables."""

from __future__ import annotations

import click

from infra.cli.audit import clickhouse
from infra.cli.options import json_option, located, say, write_json
from infra.settings import Settings
from sinks.clickhouse import migrate as migrations
from sinks.clickhouse.client import create_database


@click.group()
def migrate() -> None:
    """Bring ClickHouse's tables up to date.

    Example: lineage migrate apply --clickhouse clickhouse://user:secret@db:9000/lineage
    """


@migrate.command("plan")
@click.option("--sql", is_flag=True, help="Print the statements.")
@click.option("--cluster", help="Name of the ClickHouse cluster.")
@json_option
@located
def plan_migrations(sql: bool, cluster: str | None, as_json: bool, settings: Settings) -> None:
    """Show what is still to be applied; changes nothing.

    Example: lineage migrate plan --sql
    """
    with clickhouse(settings) as client:
        pending = migrations.plan(client)
    if as_json:
        write_json({"pending": [migration.name for migration in pending]})
        return
    for migration in pending:
        click.echo(migration.name)
        for statement in migration.statements(cluster) if sql else ():
            click.echo(statement + ";")
    if not pending:
        say("all migrations are applied")


@migrate.command("apply")
@click.option("--cluster", help="Name of the ClickHouse cluster: all its hosts get replicated tables.")
@json_option
@located
def apply_migrations(cluster: str | None, as_json: bool, settings: Settings) -> None:
    """Create the database where it is missing, and apply the migrations that it lacks.

    Example: lineage migrate apply --cluster main
    """
    create_database(settings.clickhouse(), cluster)
    with clickhouse(settings) as client:
        applied = migrations.apply(client, cluster)
    if as_json:
        write_json({"applied": [migration.name for migration in applied]})
        return
    for migration in applied:
        say(f"applied {migration.name}")
    if not applied:
        say("all migrations are applied")
