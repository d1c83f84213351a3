"""From when to when there is something about a person. One small question, by the table's own order."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute

_SPAN = """
SELECT min(occurred_at), max(occurred_at), count() FROM lineage WHERE subject = %(subject)s
"""


def span_of_subject(client: Client, subject: UUID) -> tuple[datetime, datetime] | None:
    """When the first and the last event of a subject occurred (aware); None: there is none. Raises ClickHouseError."""
    [(first, last, rows)] = execute(client, _SPAN, {"subject": subject})
    return (first, last) if rows else None
