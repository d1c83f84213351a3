"""`lineage migrate plan|apply|accounts`: ClickHouse's tables, and who may do what with them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import click

from infra.cli.options import clickhouse, json_option, located, say, write_json
from infra.settings import Settings, SettingsError
from sinks.clickhouse import accounts
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


@migrate.command("accounts")
@click.option("--database", help="Its name; by default that of the ClickHouse URL.")
@click.option("--cluster", help="Name of the ClickHouse cluster.")
@click.option(
    "--users",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a line `USER ROLE PASSWORD` for each user to make; of a password only a salted hash is printed.",
)
@json_option
@located
def print_accounts(
    database: str | None, cluster: str | None, users: Path | None, as_json: bool, settings: Settings
) -> None:
    """Print the SQL that makes a role for each job, with the grants it needs and no more; changes nothing.

    An administrator of ClickHouse runs it, before the migrations and again after an upgrade. Which role may do what:
    docs/permissions.md.

    Example: lineage migrate accounts --database lineage --users users.txt | clickhouse-client --user admin
    """
    database = database or urlsplit(settings.clickhouse()).path.strip("/") or "default"
    statements = accounts.role_statements(database, cluster)
    if users is not None:
        try:
            statements += accounts.user_statements(accounts.read_users(users.read_text(encoding="utf-8")), cluster)
        except accounts.UsersError as error:
            raise SettingsError(f"{users}: {error}") from None
    if as_json:
        write_json({"statements": statements})
        return
    for statement in statements:
        click.echo(statement + ";")
