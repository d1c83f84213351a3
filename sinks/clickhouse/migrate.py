"""The database's shape: numbered SQL files, applied once each, in their order.

Never silent: `plan` tells what `apply` would run; what was applied is recorded with its SHA-256 in the table
`schema_migrations`; an applied file that has changed since, or that is not there, is an error.

In a file, statements end in `;` at a line's end. `${on_cluster}` and `${replicated}` stand for nothing, or, on a
cluster, for its clause and for the prefix of a replicated engine. Statements must bear being run twice: a migration
that broke half-way is run again from its start.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, quoted

_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations ${on_cluster}
(name String, sha256 FixedString(64), applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))
ENGINE = ${replicated}MergeTree ORDER BY name
"""


class MigrationError(Exception):
    """The database and the migrations of this program do not fit."""


@dataclass(frozen=True)
class Migration:
    """One file. text: as it stands, before any cluster is filled in."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, cluster: str | None = None) -> list[str]:
        """The SQL statements to run, in order."""
        without_comments = re.sub(r"^\s*--.*\n", "", self.text, flags=re.MULTILINE)
        pieces = re.split(r";\s*$", without_comments, flags=re.MULTILINE)
        return [_rendered(piece.strip(), cluster) for piece in pieces if piece.strip()]


def migrations() -> list[Migration]:
    """All migrations of this program, in their order."""
    folder = files("sinks.clickhouse") / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [Migration(e.name.removesuffix(".sql"), e.read_text("utf-8")) for e in sorted(found, key=lambda e: e.name)]


def plan(client: Client, known: list[Migration] | None = None) -> list[Migration]:
    """What is still to be applied, in order; changes nothing.

    known: all migrations; None: `migrations()`. Raises MigrationError when an applied one has changed or is unknown
    to this program, ClickHouseError.
    """
    wanted = migrations() if known is None else known
    applied = _applied(client)
    by_name = {migration.name: migration for migration in wanted}
    if unknown := sorted(applied.keys() - by_name.keys()):
        raise MigrationError(f"the database is newer than this program: it has {', '.join(unknown)}; upgrade first")
    changed = [name for name, digest in applied.items() if by_name[name].sha256 != digest]
    if changed:
        raise MigrationError(
            f"{', '.join(sorted(changed))} changed after being applied: restore it, and put the change in a new file"
        )
    pending = [migration for migration in wanted if migration.name not in applied]
    if pending and applied and pending[0].name < max(applied):
        raise MigrationError(
            f"{pending[0].name} comes before {max(applied)}, which is applied: give it a higher number"
        )
    return pending


def apply(client: Client, cluster: str | None = None, known: list[Migration] | None = None) -> list[Migration]:
    """Apply what `plan` tells and return it.

    cluster: name of the cluster whose hosts all get the tables, with replicated engines. Raises as `plan` does.
    """
    pending = plan(client, known)
    if pending:
        execute(client, _rendered(_RECORD_TABLE, cluster))
    for migration in pending:
        for statement in migration.statements(cluster):
            execute(client, statement)
        execute(
            client,
            "INSERT INTO schema_migrations (name, sha256) SELECT %(name)s, %(sha256)s",
            {"name": migration.name, "sha256": migration.sha256},
        )
    return pending


def _applied(client: Client) -> dict[str, str]:
    """Name to SHA-256 of what has been applied."""
    [(exists,)] = execute(client, "EXISTS TABLE schema_migrations")
    if not exists:
        return {}
    return dict(execute(client, "SELECT name, sha256 FROM schema_migrations ORDER BY name"))


def _rendered(sql: str, cluster: str | None) -> str:
    return Template(sql).substitute(
        on_cluster=f"ON CLUSTER {quoted(cluster)}" if cluster else "",
        replicated="Replicated" if cluster else "",
    )
