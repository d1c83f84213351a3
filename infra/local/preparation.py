"""What must stand before a worker may start: topics, tables, a policy. Each step says what it did, or does nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from schemas import schema_dir
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, create_database
from streams import topics
from streams.kafka import Kafka
from streams.policies import load_policy, load_recipients, policy_record, recipient_records
from streams.publishing import publish_policies, publish_recipients, published_policies
from streams.serdes import Registry

Progress = Callable[[str], None]

# Leaves the number of replicas to the cluster (`default.replication.factor`).
_CLUSTERS_OWN = -1


def shipped_policy() -> Path:
    """The policy that is published where none ever was."""
    return schema_dir() / "policies" / "aoxun.yaml"


def prepare(
    kafka: Kafka,
    clickhouse_url: str,
    registry: Registry | None,
    progress: Progress,
    policies: Sequence[Path],
    recipients: Sequence[Path],
    own_cluster: bool,
) -> None:
    """Creates and alters topics, migrates the database, publishes. `own_cluster`: the one broker of the local stack.

    Raises `TopicsRefusedError`, `MigrationError`, `ContradictionError`, `DocumentError` and what the clients raise.
    """
    documents = [load_policy(path) for path in policies]
    registered = [load_recipients(path) for path in recipients]
    admin = kafka.admin()
    changes = topics.plan(admin)
    if changes:
        topics.apply(admin, changes, replication_factor=1 if own_cluster else _CLUSTERS_OWN)
        for action, done in (("create", "created"), ("alter", "altered")):
            names = [change.topic for change in changes if change.action == action]
            if names:
                progress(f"topics      {done} {', '.join(names)}")
    create_database(clickhouse_url)
    client = connect(clickhouse_url)
    try:
        applied = migrate.apply(client)
    finally:
        client.disconnect()
    if applied:
        progress(f"tables      migrated: {', '.join(migration.name for migration in applied)}")
    if not documents and not published_policies(kafka, registry):
        documents = [load_policy(shipped_policy())]
    if documents:
        told = publish_policies(kafka, [policy_record(document) for document in documents], registry)
        for document in documents:
            if str(document["version"]) in told.new:
                title = document.get("name", "")
                progress(f"policy      published version {document['version']} from {document.name} {title}".rstrip())
    if registered:
        records = [record for document in registered for record in recipient_records(document)]
        new = publish_recipients(kafka, records, registry).new
        if new:
            progress(f"recipients  published {len(new)} entries")
