"""What `lineage bench audit` asks about: a table filled by the engine, people by user id, ended erasure requests, and
the same rows in a plain table, which is the peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from clickhouse_driver import Client

from benchmarks.erasure import SUBJECTS, fill, settle
from processors.erasure import DAY, Request, Target, to_record
from processors.pseudonyms import alias
from sinks.clickhouse.client import execute
from sinks.clickhouse.erasures import insert_erasure_states

PLAIN = "bench_plain"
# The peer holds the people of one in so many.
ONE_IN = 10
_REQUESTS = 1000
_RECEIVED_MS = 1_772_352_000_000
_AT_ONCE = 50_000
_NAMES = UUID("6f5b6a4e-6d1f-4b0e-9f0a-2a6d54d1d2c7")
_PEER = f"""
CREATE TABLE IF NOT EXISTS {PLAIN} AS lineage ENGINE = MergeTree ORDER BY occurred_at
"""
_COPY = f"INSERT INTO {PLAIN} SELECT * FROM lineage WHERE cityHash64(subject) %% %(one_in)s = 0"
_PEER_SUBJECTS = f"SELECT DISTINCT subject FROM {PLAIN} LIMIT 1000"
_EVENTS = "SELECT event_id FROM lineage WHERE cityHash64(event_id) %% %(every)s = 0 LIMIT 1000"


def user(person: int) -> str:
    """The user id of a person."""
    return f"bench-{person:07}"


def request_ids() -> list[UUID]:
    """The erasure requests that have ended."""
    return [uuid5(_NAMES, str(n)) for n in range(_REQUESTS)]


def make(client: Client, pepper: bytes, rows: int, people: int, say: Callable[[str], None]) -> None:
    """Fills a migrated database; one that was filled before with so many rows stays as it is. Raises ValueError when
    another number of rows or people is in it, or another pepper was used."""
    [(found,)] = execute(client, "SELECT count() FROM lineage")
    [(known,)] = execute(client, "SELECT uniqExact(alias) FROM subjects")
    if not found:
        say(f"filling the table with {rows:,} events of {people:,} people")
        fill(client, rows, people)
        _name(client, pepper, people)
        _ask(client)
        say("copying some of them to a plain table")
        execute(client, _PEER)
        execute(client, _COPY, {"one_in": ONE_IN})
        # As migration 0007 has months that are over a day later; the peer as well.
        for name in ("lineage", PLAIN):
            say(f"merging {name}")
            execute(client, f"OPTIMIZE TABLE {name} FINAL")
    elif (found, known) != (rows, people):
        raise ValueError(
            f"the folder holds {found:,} events of {known:,} people: give these numbers, or another folder"
        )
    ours = execute(
        client, "SELECT count() FROM subjects WHERE alias = unhex(%(alias)s)", {"alias": alias(pepper, user(0)).hex()}
    )
    if ours == [(0,)]:
        raise ValueError("the folder's secrets are not those it was filled with: give another folder")
    say("waiting for the engine's merges")
    settle(client)


def event_ids(client: Client, rows: int) -> list[UUID]:
    """Up to a thousand events, spread over the table."""
    return [event_id for (event_id,) in execute(client, _EVENTS, {"every": max(1, rows // 1000)})]


def peer_subjects(client: Client) -> list[UUID]:
    """Up to a thousand people whose rows the plain table has, all of them."""
    return [subject for (subject,) in execute(client, _PEER_SUBJECTS)]


def _name(client: Client, pepper: bytes, people: int) -> None:
    for start in range(0, people, _AT_ONCE):
        found = execute(client, SUBJECTS, {"start": start, "n": min(_AT_ONCE, people - start)})
        rows: list[Any] = [(alias(pepper, user(start + n)), subject, 1) for n, (subject,) in enumerate(found)]
        client.execute("INSERT INTO subjects (alias, subject, version) VALUES", rows)


def _ask(client: Client) -> None:
    """Erasure requests that have ended, each with two targets."""
    target = Target("recipient-1", 1, "completed", "signed", "opendsr", attempts=1, ended_at=_RECEIVED_MS + 2 * DAY)
    store = Target("store:lineage", 0, "completed", "verified", "purge", ended_at=_RECEIVED_MS + 3 * DAY)
    records = [
        to_record(
            Request(
                request_id,
                _RECEIVED_MS,
                state="completed",
                erased_at=_RECEIVED_MS + 2 * DAY,
                ended_at=_RECEIVED_MS + 3 * DAY,
                targets=(target, store),
                history=((_RECEIVED_MS, "received"), (_RECEIVED_MS + 3 * DAY, "completed")),
                verified_at=_RECEIVED_MS,
                verified_by="bench",
                requester="bench",
                due_at=_RECEIVED_MS + 30 * DAY,
            )
        )
        for request_id in request_ids()
    ]
    insert_erasure_states(client, records, list(range(1, len(records) + 1)), "bench")
