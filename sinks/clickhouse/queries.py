"""Every SELECT of this package, and the functions that ask them.

SQL stands here only, and values are bound, never formatted in. Rows of one event (a repeated event, a higher
revision) are resolved here: the highest revision counts, and of equal ones the one recorded last, which was judged
with the most facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute

# Replicas may lag; the fate of an insert is read from one that does not.
COUNT_OFFSETS = """
SELECT uniqExact(kafka_offset) FROM lineage
WHERE kafka_partition = %(partition)s AND kafka_offset BETWEEN %(start)s AND %(end)s
SETTINGS select_sequential_consistency = 1
"""
PRESENT_OFFSETS = """
SELECT kafka_offset FROM lineage
WHERE kafka_partition = %(partition)s AND kafka_offset BETWEEN %(start)s AND %(end)s
ORDER BY kafka_offset
SETTINGS select_sequential_consistency = 1
"""

# A FixedString is compared to a FixedString: as strings, trailing zero bytes get lost. One row, or a few until they are
# merged: the caller takes the newest, which is less work than to have them sorted.
_SUBJECT_OF_ALIAS = """
SELECT version, subject FROM subjects WHERE alias = toFixedString(unhex(%(alias)s), 16)
"""

_LINKED_ALIASES = """
SELECT hex(alias) FROM subjects
GROUP BY alias
HAVING argMax(subject, version) != toUUID('00000000-0000-0000-0000-000000000000')
ORDER BY alias
"""

_EVENT_COLUMNS = (
    "event_id",
    "occurred_at",
    "activity",
    "event_type",
    "discloser",
    "recipient",
    "recipient_kind",
    "recipient_effective_at",
    "purpose",
    "given_purpose",
    "data_categories",
    "given_categories",
    "fields",
    "region",
    "storage_country",
    "collected_at",
    "legal_order",
    "legal_basis",
    "verdict",
    "clauses",
    "findings",
    "policy_version",
    "sensitive",
    "consent_action",
    "consent_version",
    "consent_activity",
    "age_band",
    "guardian_granted",
    "erasure_phase",
    "request_id",
    "revision",
    "judged_at",
    "source",
    "kafka_partition",
    "kafka_offset",
)
# One level and no subquery: naming the columns thrice took the engine as long as reading the rows. Rows are few, so
# that it is dearer to look at one column first than to read all at once. The caller sorts by time.
_EVENTS_OF_SUBJECT = f"""
SELECT {", ".join(_EVENT_COLUMNS)} FROM lineage
WHERE subject = %(subject)s {{until}}
ORDER BY event_id, revision DESC, kafka_partition DESC, kafka_offset DESC
LIMIT 1 BY {{each}}
SETTINGS optimize_move_to_prewhere = 0
"""
_UNTIL = "AND occurred_at <= fromUnixTimestamp64Milli(%(as_of)s, 'UTC')"

# The newest, should an erased person's event have come again under their new subject. Reads one column of all rows.
_SUBJECT_OF_EVENT = """
SELECT subject FROM lineage WHERE event_id = %(event_id)s ORDER BY judged_at DESC LIMIT 1
"""

# Counting events, each once, by choosing a row for every event would group the whole table. So: all rows, which the
# projection by_day has counted, less the rows that do not count, which are few.
_COUNT_ROWS = """
SELECT activity, verdict, recipient, clauses, count() FROM lineage GROUP BY activity, verdict, recipient, clauses
"""
_COUNT_OUTDATED_ROWS = """
SELECT activity, verdict, recipient, clauses, count() FROM
(
    SELECT activity, verdict, recipient, clauses, row_number() OVER (
        PARTITION BY event_id ORDER BY revision DESC, kafka_partition DESC, kafka_offset DESC) AS place
    FROM lineage
    WHERE event_id IN (SELECT event_id FROM lineage GROUP BY event_id HAVING count() > 1)
)
WHERE place > 1
GROUP BY activity, verdict, recipient, clauses
"""
_COUNT_SUBJECTS = "SELECT uniqExact(subject) FROM lineage"


@dataclass(frozen=True)
class Count:
    """How many events, by the row that counts, have these values."""

    activity: str
    verdict: str
    recipient: str | None
    clauses: tuple[str, ...]
    events: int


def subject_of_alias(client: Client, alias: bytes) -> UUID | None:
    """The subject of an alias (16 bytes); None: never seen, or erased. Raises ClickHouseError."""
    rows = execute(client, _SUBJECT_OF_ALIAS, {"alias": alias.hex()})
    _, subject = max(rows, default=(0, UUID(int=0)))
    return subject if subject.int else None


def linked_aliases(client: Client) -> list[bytes]:
    """The alias (16 bytes) of everybody who is known and not erased. Raises ClickHouseError."""
    return [bytes.fromhex(alias) for (alias,) in execute(client, _LINKED_ALIASES)]


def subject_of_event(client: Client, event_id: UUID) -> UUID | None:
    """The subject of an event; None: there is no such event here. Raises ClickHouseError."""
    rows = execute(client, _SUBJECT_OF_EVENT, {"event_id": event_id})
    return rows[0][0] if rows else None


def events_of_subject(
    client: Client, subject: UUID, as_of: datetime | None = None, all_revisions: bool = False
) -> list[dict[str, Any]]:
    """All events of a subject with every column of `lineage`, by time, then id, then revision.

    as_of: only what occurred until then (aware). all_revisions: every revision of each event, not only the one that
    counts. Raises ClickHouseError.
    """
    parameters = {"subject": subject, "as_of": None if as_of is None else round(as_of.timestamp() * 1000)}
    sql = _EVENTS_OF_SUBJECT.format(
        until="" if as_of is None else _UNTIL, each="event_id, revision" if all_revisions else "event_id"
    )
    events = [dict(zip(_EVENT_COLUMNS, row, strict=True)) for row in execute(client, sql, parameters)]
    return sorted(events, key=itemgetter("occurred_at", "event_id", "revision"))


def count_events(client: Client) -> list[Count]:
    """Counts of all events, each once, whatever their activity. Raises ClickHouseError.

    Rows that arrive while it counts are counted as they stand: a repeated event among them twice, until asked again.
    """
    outdated = _counts(execute(client, _COUNT_OUTDATED_ROWS))
    counts = _counts(execute(client, _COUNT_ROWS))
    return [Count(*values, left) for values, rows in counts.items() if (left := rows - outdated.get(values, 0))]


def _counts(rows: list[Any]) -> dict[tuple[str, str, str | None, tuple[str, ...]], int]:
    return {(activity, verdict, recipient, tuple(clauses)): n for activity, verdict, recipient, clauses, n in rows}


def count_subjects(client: Client) -> int:
    """How many subjects have rows. Raises ClickHouseError."""
    [(count,)] = execute(client, _COUNT_SUBJECTS)
    return int(count)
