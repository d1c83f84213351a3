"""The own purge: rows of erased people leave ClickHouse, physically, or whom they are about does.

One mutation for each table, whatever the number of people and months: the engine passes over the parts that hold none
of them, and ten mutations cost ten times the passing-over. Ids go through the table `erase_batch`, so that they stand
in no mutation's text. Never a success that was not counted: a mutation that fails or takes too long raises.

A crash at any step is repaired by calling again. Readers and the loader go on meanwhile: a mutation replaces parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from clickhouse_driver import Client

from sinks.clickhouse.client import execute, external_table, quoted
from sinks.clickhouse.erasable import purged_places
from sinks.clickhouse.errors import ClickHouseError, TransientError, sorted_errors

DEFAULT_TIMEOUT_S = 3600.0
_LOOK_S = 0.1
# A batch that is older than any purge may take was left behind by a crash.
_FORGOTTEN_S = 24 * 3600

_IN_BATCH = "IN (SELECT subject FROM erase_batch WHERE batch = %(batch)s)"
_COUNT_IN_BATCH = "SELECT count() FROM {table} WHERE {key} " + _IN_BATCH
_COUNT_ASKED = "SELECT count() FROM {table} WHERE {key} IN (SELECT subject FROM asked)"
_COUNT_EACH = "SELECT {key}, count() FROM {table} WHERE {key} IN (SELECT subject FROM asked) GROUP BY {key}"
_DELETE = "ALTER TABLE {table} DELETE WHERE {key} " + _IN_BATCH
_EMPTY = "ALTER TABLE {table} UPDATE {emptied} WHERE {key} " + _IN_BATCH
# Repairs after a crash: what nobody is going to finish must not stay in front of other mutations, nor ids in the table.
_BROKEN = """
SELECT table, mutation_id FROM system.mutations
WHERE database = currentDatabase() AND NOT is_done AND latest_fail_reason != '' AND command LIKE '%%erase_batch%%'
"""
_DONE_BATCHES = f"""
SELECT toString(batch) FROM erase_batch GROUP BY batch
HAVING countIf(subject NOT {_IN_BATCH}) = 0 OR max(made_at) < now() - {_FORGOTTEN_S}
"""
_MUTATION = """
SELECT mutation_id, is_done, is_killed, latest_fail_reason, parts_to_do FROM {mutations}
WHERE database = %(database)s AND table = %(table)s AND position(command, %(mark)s) > 0
"""
_HOSTS = "SELECT count() FROM {tables} WHERE database = %(database)s AND name = %(table)s"
_PARTS = """
SELECT table, name, 'inactive' FROM {parts}
WHERE database = %(database)s AND table IN %(tables)s AND NOT active AND modification_time <= %(until)s
UNION ALL
SELECT table, name, 'detached' FROM {detached_parts} WHERE database = %(database)s AND table IN %(tables)s
"""
_NONDETERMINISTIC: dict[str, Any] = {
    # What a batch holds does not change while its mutation runs, which the engine cannot know.
    "allow_nondeterministic_mutations": 1,
    # Else the ids would be put into the mutation's text.
    "mutations_execute_subqueries_on_initiator": 0,
    "mutations_sync": 0,
}
_STALE = {
    # Whose an ended request was.
    "erasing": "request_id IN (SELECT request_id FROM erasure_requests WHERE isNotNull(ended_at))",
    # Links that were told after the purge, or again, and then overtaken by the erasure of their alias.
    "subjects": """(alias, version) IN
(
    SELECT alias, version FROM subjects
    INNER JOIN
    (
        SELECT alias, max(version) AS erased FROM subjects
        WHERE subject = toUUID('00000000-0000-0000-0000-000000000000') GROUP BY alias
    ) AS gone USING alias
    WHERE version < erased
)""",
}


class UnfinishedPurgeError(TransientError):
    """A mutation failed or took too long: it is not known to be done, so nothing is purged yet."""


class SurvivorsError(TransientError):
    """The mutations are done, and rows are there all the same: somebody wrote them meanwhile."""


class Part(NamedTuple):
    """Data on disk that no query reads. `state`: inactive (replaced, about to be removed) or detached."""

    place: str
    name: str
    state: str


@dataclass(frozen=True)
class Purged:
    """What a purge did. rows: table → rows deleted, or emptied; mutations: how many it took; done_at: the server's
    clock; remaining: parts that still lay on disk then (`remaining_parts` tells later ones)."""

    rows: Mapping[str, int]
    mutations: int
    seconds: float
    done_at: datetime
    remaining: tuple[Part, ...]


def purge(
    client: Client,
    subjects: Collection[UUID],
    timeout_s: float = DEFAULT_TIMEOUT_S,
    cluster: str | None = None,
    progress: Callable[[str, int], None] = lambda table, parts: None,
) -> Purged:
    """Delete every row of these people from every table that the register says to purge, or empty it (erasable.py).

    Returns when all mutations are done on all replicas and no row is left that is theirs. progress: gets a table and
    how many of its parts are still to do. cluster: name of the cluster whose hosts hold the tables.
    Raises UnfinishedPurgeError, SurvivorsError, ClickHouseError: call again.
    """
    start = time.monotonic()
    deadline = start + timeout_s
    rows: dict[str, int] = {}
    with _batch(client, subjects, cluster) as batch:
        for table, place in purged_places().items():
            emptied = ", ".join(
                f"{quoted(name)} = defaultValueOfArgumentType({quoted(name)})" for name in place.emptied
            )
            of_place = {"table": quoted(table), "key": quoted(place.key), "emptied": emptied}
            [(rows[table],)] = _ask(client, _COUNT_IN_BATCH.format(**of_place), {"batch": batch})
            if rows[table]:
                mutation = (_EMPTY if emptied else _DELETE).format(**of_place)
                _mutate(client, table, mutation, batch, deadline, cluster, partial(progress, table))
        if left := {table: n for table, n in survivors(client, subjects).items() if n}:
            raise SurvivorsError(f"after the purge there are rows of erased people again: {_words(left)}; purge again")
    [(done_at,)] = execute(client, "SELECT now('UTC')")
    return Purged(
        rows=rows,
        mutations=sum(1 for n in rows.values() if n),
        seconds=time.monotonic() - start,
        done_at=done_at,
        remaining=tuple(remaining_parts(client, done_at, cluster)),
    )


def survivors(client: Client, subjects: Collection[UUID]) -> dict[str, int]:
    """Table → rows of these people, of every table that the register says to purge. Raises ClickHouseError."""
    return {table: int(rows[0][0]) for table, rows in _ask_places(client, _COUNT_ASKED, subjects).items()}


def rows_of_people(client: Client, subjects: Collection[UUID]) -> dict[str, dict[UUID, int]]:
    """Table → subject → its rows, of every table that the register says to purge; a subject without rows is left out.

    Raises ClickHouseError.
    """
    return {table: dict(rows) for table, rows in _ask_places(client, _COUNT_EACH, subjects).items()}


def remaining_parts(client: Client, done_at: datetime, cluster: str | None = None) -> list[Part]:
    """Parts of purged tables on disk that may hold what was deleted until `done_at` (of `Purged`).

    Inactive ones go within seconds, or when the last query that reads them has ended. Detached ones are somebody's to
    drop (ALTER TABLE … DROP DETACHED PART) or to attach, and then to purge again. Raises ClickHouseError.
    """
    tables = [*purged_places(), "erase_batch"]
    sql = _PARTS.format(parts=_system("parts", cluster), detached_parts=_system("detached_parts", cluster))
    given = {"database": _database(client), "tables": tables, "until": done_at}
    return [Part(*row) for row in execute(client, sql, given)]


def purge_stale(client: Client, table: str, timeout_s: float = DEFAULT_TIMEOUT_S, cluster: str | None = None) -> int:
    """Delete what the table `erasing` or `subjects` itself says must be gone; returns how many rows that were.

    `erasing`: whose an ended request was. `subjects`: links that their alias's erasure has overtaken. Looks at the
    whole table, so nothing depends on when it is called. Raises UnfinishedPurgeError, ClickHouseError.
    """
    [(count,)] = _ask(client, f"SELECT count() FROM {quoted(table)} WHERE {_STALE[table]}", {})
    if count:
        mark = uuid4()
        # The mark makes the mutation known among others; an always-true condition carries it.
        delete = f"ALTER TABLE {quoted(table)} DELETE WHERE {_STALE[table]} AND isNotNull(%(batch)s)"
        _mutate(client, table, delete, mark, time.monotonic() + timeout_s, cluster, lambda parts: None)
    return int(count)


@contextmanager
def _batch(client: Client, subjects: Collection[UUID], cluster: str | None) -> Iterator[UUID]:
    """A batch of its own in `erase_batch`, dropped at the end, with all that it makes superfluous."""
    for table, mutation_id in execute(client, _BROKEN):
        _kill(client, table, mutation_id)
    batch = uuid4()
    settings = {"async_insert": 0}
    with sorted_errors():
        client.execute(
            "INSERT INTO erase_batch (batch, subject) VALUES", [(batch, s) for s in set(subjects)], settings=settings
        )
    if cluster:
        execute(client, f"SYSTEM SYNC REPLICA ON CLUSTER {quoted(cluster)} erase_batch")
    try:
        yield batch
    except BaseException:
        # What has failed is called again with a batch of its own. Where the connection is lost, so is this; then the
        # batch goes with the one that repeats it.
        with suppress(ClickHouseError):
            execute(client, "ALTER TABLE erase_batch DROP PARTITION %(batch)s", {"batch": str(batch)})
        raise
    for (done,) in execute(client, _DONE_BATCHES, {"batch": batch}):
        execute(client, "ALTER TABLE erase_batch DROP PARTITION %(batch)s", {"batch": done})


def _mutate(
    client: Client,
    table: str,
    sql: str,
    mark: UUID,
    deadline: float,
    cluster: str | None,
    progress: Callable[[int], None],
) -> None:
    """Run a mutation whose text holds `mark` (its parameter `batch`) to its end, on all replicas."""
    given = {"database": _database(client), "table": table, "mark": str(mark)}
    [(hosts,)] = execute(client, _HOSTS.format(tables=_system("tables", cluster)), given)
    execute(client, sql, {"batch": mark}, **_NONDETERMINISTIC)
    look = _MUTATION.format(mutations=_system("mutations", cluster))
    seen = False
    while True:
        states = execute(client, look, given)
        late = time.monotonic() > deadline
        # A replica learns of it in its own time; one that does not know it yet has not done it.
        if len(states) < hosts and not seen and not late:
            time.sleep(_LOOK_S)
            continue
        if len(states) < hosts or any(killed for _, _, killed, _, _ in states):
            raise UnfinishedPurgeError(f"the purge of {table} was killed, or a replica does not know it; purge again")
        seen = True
        if all(done for _, done, _, _, _ in states):
            return
        progress(sum(parts for *_, parts in states))
        reason = next((reason for *_, reason, _ in states if reason), "")
        if reason or late:
            # A failing mutation is tried for ever, and holds up those behind it.
            _kill(client, table, states[0][0])
            raise UnfinishedPurgeError(
                f"the purge of {table} " + (f"failed: {reason}" if reason else "took too long; purge again")
            )
        time.sleep(_LOOK_S)


def _kill(client: Client, table: str, mutation_id: str) -> None:
    """What it has done stays done. A mutation that is finished, or gone, is none to kill."""
    sql = "KILL MUTATION WHERE database = currentDatabase() AND table = %(table)s AND mutation_id = %(id)s"
    execute(client, sql, {"table": table, "id": mutation_id})


def _ask(client: Client, sql: str, parameters: dict[str, Any], external: Collection[dict[str, Any]] = ()) -> list[Any]:
    settings: dict[str, Any] = {"select_sequential_consistency": 1, "max_execution_time": 0}
    return execute(client, sql, parameters, list(external), **settings)


def _ask_places(client: Client, sql: str, subjects: Collection[UUID]) -> dict[str, list[Any]]:
    """The answer of each table that the register says to purge."""
    asked = [external_table("asked", {"subject": "UUID"}, [(subject,) for subject in subjects])]
    return {
        table: _ask(client, sql.format(table=quoted(table), key=quoted(place.key)), {}, asked)
        for table, place in purged_places().items()
    }


def _system(table: str, cluster: str | None) -> str:
    return f"clusterAllReplicas({quoted(cluster)}, system.{table})" if cluster else f"system.{table}"


def _database(client: Client) -> str:
    """Bound as a value, because other hosts of a cluster may have another current one."""
    [(name,)] = execute(client, "SELECT currentDatabase()")
    return str(name)


def _words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {n}" for table, n in rows.items())
