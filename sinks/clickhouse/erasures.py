"""What the erasure controller asks of ClickHouse, and the projection of its requests.

Identifiers of people go to the server as tables of one query, never in a query's text, so that the server's log of
queries does not keep them. Purges are elsewhere (purge.py): nothing here deletes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson
from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table, quoted
from sinks.clickhouse.errors import sorted_errors

# Replicas may lag; what is erased is decided on one that does not.
_SETTINGS: dict[str, Any] = {"select_sequential_consistency": 1, "max_execution_time": 0}

_SUBJECTS_OF_ALIASES = """
SELECT hex(alias), argMax(subject, version) AS newest FROM subjects
WHERE alias IN (SELECT alias FROM asked)
GROUP BY alias
HAVING newest != toUUID('00000000-0000-0000-0000-000000000000')
"""
# By the subject the table cannot be searched: all of its small rows are read.
_ALIASES_OF_SUBJECTS = """
SELECT hex(alias), argMax(subject, version) AS newest FROM subjects
WHERE alias IN (SELECT alias FROM subjects WHERE subject IN (SELECT subject FROM asked))
GROUP BY alias
HAVING newest IN (SELECT subject FROM asked)
"""
_MARKERS = """
SELECT request_id, argMin(kafka_partition, kafka_offset), min(kafka_offset) FROM lineage
WHERE subject IN (SELECT subject FROM asked)
  AND activity = 'erase' AND erasure_phase = %(phase)s
  AND (subject, request_id) IN (SELECT subject, request_id FROM asked)
GROUP BY request_id
"""
_DISCLOSURES = """
SELECT subject, discloser, recipient, activity,
    toUnixTimestamp64Milli(min(occurred_at)), toUnixTimestamp64Milli(max(occurred_at)),
    count(), any(kafka_partition), max(kafka_offset)
FROM lineage
WHERE subject IN (SELECT subject FROM asked) AND activity IN ('share', 'transfer', 'publish') AND revision = 0
  AND {range}
GROUP BY subject, discloser, recipient, activity
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("received_at", "verified_at", "due_at", "next_at", "erased_at", "ended_at")
_TEXTS = ("state", "origin", "regulation", "hold", "ground")
_OF_TARGETS = ("id", "hop", "state", "grade", "protocol", "attempts", "ended_at", "detail", "ground")
_COLUMNS = (
    *("request_id", "version"),
    *_TEXTS,
    *_TIMES,
    *("joined", "alarms", "document"),
    *(f"targets.{name}" for name in _OF_TARGETS),
)
# What must not outlive the request; see the table `erasing`.
_OF_THE_PERSON = ("alias", "subject")
_ERASING = ("alias", "request_id")

# First what somebody must look at: the term has passed, the controller is an hour behind with it, something contradicts
# what a recipient said, or a recipient does not give in. What has ended comes last.
_ORDER = """
isNotNull(ended_at),
NOT ifNull(due_at < now64(3), false)
    AND NOT ifNull(next_at < now64(3) - INTERVAL 1 HOUR, false)
    AND empty(alarms)
    AND NOT arrayExists(
        (attempts, ended) -> attempts >= 5 AND isNull(ended), `targets.attempts`, `targets.ended_at`),
if(isNull(ended_at), due_at, NULL) ASC NULLS LAST,
ended_at DESC NULLS LAST,
received_at,
request_id
"""
_REQUESTS = f"""
SELECT document FROM erasure_requests FINAL
WHERE request_id IN
(
    SELECT request_id FROM erasure_requests FINAL
    WHERE (NOT %(open_only)s OR isNull(ended_at)) AND (%(state)s = '' OR state = %(state)s)
    ORDER BY {_ORDER} LIMIT %(limit)s
)
ORDER BY {_ORDER}
"""
_REQUEST = "SELECT document FROM erasure_requests FINAL WHERE request_id = %(request_id)s"
_OPEN_REQUEST_OF = """
SELECT document FROM erasure_requests FINAL
WHERE request_id IN (SELECT request_id FROM erasing WHERE alias IN (SELECT alias FROM asked)) AND isNull(ended_at)
ORDER BY received_at, request_id LIMIT 1
"""


class Marker(NamedTuple):
    """Where the marker of a request stands in the topic `lineage`."""

    partition: int
    offset: int


@dataclass(frozen=True)
class Disclosed:
    """All rows of a person by which one discloser passed data on to one recipient.

    recipient: None is a publication. first_at, last_at: ms since 1970, UTC, when they occurred. rows: of any verdict;
    a later revision is no new disclosure. last_offset: the highest one, in the person's partition of `lineage`.
    """

    subject: UUID
    discloser: str
    recipient: str | None
    activity: str
    first_at: int
    last_at: int
    rows: int
    kafka_partition: int
    last_offset: int


def subjects_of_aliases(client: Client, aliases: Collection[bytes]) -> dict[bytes, UUID]:
    """Alias (16 bytes) → subject. Those never seen, or erased, are left out. Raises ClickHouseError."""
    rows = _asked(client, _SUBJECTS_OF_ALIASES, {"alias": "FixedString(16)"}, [(alias,) for alias in aliases])
    return {bytes.fromhex(alias): subject for alias, subject in rows}


def aliases_of_subjects(client: Client, subjects: Collection[UUID]) -> dict[UUID, bytes]:
    """Subject → alias (16 bytes). Those that no alias stands for any more are left out. Raises ClickHouseError."""
    rows = _asked(client, _ALIASES_OF_SUBJECTS, {"subject": "UUID"}, [(subject,) for subject in subjects])
    return {subject: bytes.fromhex(alias) for alias, subject in rows}


def markers(
    client: Client, wanted: Mapping[UUID, UUID], phase: Literal["requested", "completed"]
) -> dict[UUID, Marker]:
    """Request id → where its marker of that phase stands first.

    wanted: request id → subject. Requests without such a row are left out. Raises ClickHouseError.
    """
    columns = {"request_id": "UUID", "subject": "UUID"}
    rows = _asked(client, _MARKERS, columns, list(wanted.items()), {"phase": phase})
    return {request_id: Marker(partition, offset) for request_id, partition, offset in rows}


def disclosures(client: Client, subjects: Collection[UUID]) -> list[Disclosed]:
    """All disclosures of these people, of any verdict and revision, at any hop. Raises ClickHouseError."""
    return _disclosures(client, "1", {}, subjects)


def new_disclosures(
    client: Client, since: Mapping[int, int], until: Mapping[int, int], subjects: Collection[UUID]
) -> list[Disclosed]:
    """Those of their rows that stand in the topic `lineage` from `since` until before `until`, grouped alike.

    since, until: partition → offset; a partition that is in only one of them brings nothing.
    Raises ClickHouseError.
    """
    ranges = [(p, start, until[p]) for p, start in sorted(since.items()) if start < until.get(p, 0)]
    parameters = {f"{name}{n}": value for n, r in enumerate(ranges) for name, value in zip("pse", r, strict=True)}
    condition = " OR ".join(
        f"(kafka_partition = %(p{n})s AND kafka_offset >= %(s{n})s AND kafka_offset < %(e{n})s)"
        for n in range(len(ranges))
    )
    return _disclosures(client, f"({condition})", parameters, subjects) if ranges else []


def _disclosures(
    client: Client, range_: str, parameters: dict[str, Any], subjects: Collection[UUID]
) -> list[Disclosed]:
    sql = _DISCLOSURES.format(range=range_)
    rows = _asked(client, sql, {"subject": "UUID"}, [(subject,) for subject in subjects], parameters)
    return [Disclosed(*row) for row in rows]


def _asked(
    client: Client,
    sql: str,
    columns: Mapping[str, str],
    rows: Sequence[tuple[Any, ...]],
    parameters: dict[str, Any] | None = None,
) -> list[Any]:
    """Asks with the table `asked` beside; nothing asked, nothing answered."""
    if not rows:
        return []
    return execute(client, sql, parameters, [external_table("asked", columns, rows)], **_SETTINGS)


# The projection of `erasure-state`


def insert_erasure_states(
    client: Client, states: Sequence[Mapping[str, Any]], versions: Sequence[int], token: str
) -> None:
    """Insert ErasureState records (schemas/avro), as `streams.serdes` decodes them: times in ms, ids as 16 bytes.

    versions: each record's offset; of a request the highest counts. token: for the engine's deduplication.
    Raises ClickHouseError.
    """
    rows = []
    for state, version in zip(states, versions, strict=True):
        row = erasure_row(state) | {"request_id": UUID(bytes=state["request_id"]), "version": version}
        rows.append(tuple(row[name] for name in _COLUMNS))
    _insert(client, "erasure_requests", _COLUMNS, rows, token)
    open_ones = [
        (state["alias"], UUID(bytes=state["request_id"]))
        for state in states
        if state["alias"] and not state["ended_at"]
    ]
    _insert(client, "erasing", _ERASING, open_ones, token)


def erasure_requests(
    client: Client, *, open_only: bool = False, limit: int = 100, state: str | None = None
) -> list[dict[str, Any]]:
    """The newest ErasureState of requests: what needs attention first, then by due date, then what has ended.

    Fields as in the contract, times in ms; ids are UUIDs in text; `alias` and `subject` are left out.
    Raises ClickHouseError.
    """
    parameters = {"open_only": int(open_only), "state": state or "", "limit": limit}
    return _documents(execute(client, _REQUESTS, parameters))


def erasure_request(client: Client, request_id: UUID) -> dict[str, Any] | None:
    """The newest ErasureState of a request, as `erasure_requests` gives it. Raises ClickHouseError."""
    return next(iter(_documents(execute(client, _REQUEST, {"request_id": request_id}))), None)


def open_request_of(client: Client, alias: bytes) -> dict[str, Any] | None:
    """The request of this person (alias, 16 bytes) that is still open, as `erasure_requests` gives it.

    Raises ClickHouseError.
    """
    rows = _asked(client, _OPEN_REQUEST_OF, {"alias": "FixedString(16)"}, [(alias,)])
    return next(iter(_documents(rows)), None)


def _documents(rows: Sequence[tuple[str]]) -> list[dict[str, Any]]:
    return [orjson.loads(document) for (document,) in rows]


def erasure_row(state: Mapping[str, Any]) -> dict[str, Any]:
    """Column → value of the row of an ErasureState, but for its key and version, as the driver takes and gives it."""
    kept = {name: _plain(value) for name, value in state.items() if name not in _OF_THE_PERSON}
    values: dict[str, Any] = {
        "joined": UUID(bytes=state["joined"]) if state["joined"] else None,
        "alarms": list(state["alarms"]),
        "document": orjson.dumps(kept).decode(),
    }
    values |= {name: state[name] for name in _TEXTS} | {name: _time(state[name]) for name in _TIMES}
    for name in _OF_TARGETS:
        of_each = [target[name] for target in state["targets"]]
        values[f"targets.{name}"] = [_time(value) for value in of_each] if name == "ended_at" else of_each
    return values


def _plain(value: Any) -> Any:
    """A value for JSON: the contract's only bytes are request ids."""
    if isinstance(value, bytes):
        return str(UUID(bytes=value))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=ms)


def _insert(client: Client, table: str, columns: Sequence[str], rows: Sequence[Any], token: str) -> None:
    if not rows:
        return
    settings = {"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token}
    with sorted_errors():
        client.execute(f"INSERT INTO {table} ({', '.join(map(quoted, columns))}) VALUES", rows, settings=settings)
