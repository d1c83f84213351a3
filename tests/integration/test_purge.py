"""The own purge on the real engine: rows, older versions, projections and bytes on disk go, and nothing else does."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest
from clickhouse_driver import Client

from infra.local.clickhouse import LocalClickHouse
from processors.coded import MISSING_TIME, CodedRows
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, create_database, execute
from sinks.clickhouse.errors import ClickHouseError
from sinks.clickhouse.insert import insert_lineage, insert_subjects
from sinks.clickhouse.looks import Look, LookFilter, insert_looks, looks_page
from sinks.clickhouse.purge import (
    SurvivorsError,
    UnfinishedPurgeError,
    purge,
    purge_stale,
    remaining_parts,
    rows_of_people,
    survivors,
)
from sinks.clickhouse.queries import events_of_subject
from sinks.clickhouse.rows import lineage_rows, split_by_month
from tests.live_files import contents

JANUARY = 1_767_225_600_000  # 2026-01-01T00:00:00Z
DAY = 86_400_000
GONE_WITHIN_S = 30.0
_offsets = itertools.count()


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


def restart_cleaner(client: Client) -> None:
    """Its pause was measured out when the table was created, before a migration changed it: as after a restart."""
    for table in ("lineage", "subjects"):
        execute(client, f"DETACH TABLE {table} SYNC")
        execute(client, f"ATTACH TABLE {table}")


def another(client: Client) -> Client:
    """A second connection to the same database."""
    connection = client.connection
    return connect(f"clickhouse://{connection.host}:{connection.port}/{connection.database}")


def ids(values: list[UUID]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(value.bytes for value in values), dtype=np.uint8).reshape(-1, 16)


def disclose(client: Client, people: list[UUID], each: int = 6) -> None:
    """Rows for each person, `each` of them, over three months, as the loader inserts them."""
    n = len(people) * each
    offsets = np.array(list(itertools.islice(_offsets, n)))
    columns: dict[str, Any] = {
        "subject": np.repeat(ids(people), each, axis=0),
        "event_id": ids([uuid4() for _ in range(n)]),
        "occurred_at": JANUARY + np.tile(np.arange(each) % 3, len(people)) * 31 * DAY,
        "collected_at": np.full(n, MISSING_TIME),
        "judged_at": np.full(n, JANUARY + 100 * DAY),
        "revision": np.zeros(n, np.int64),
        "kafka_partition": np.full(n, 3),
        "kafka_offset": offsets,
    }
    shape = {"activity": "share", "discloser": "self", "recipient": "r", "verdict": "lawful", "tagged_purpose": "p"}
    rows = lineage_rows("DisclosureRecorded", CodedRows(columns, np.zeros(n, np.int32), pl.DataFrame([shape])))
    for month, part in split_by_month(rows):
        insert_lineage(client, part, f"{offsets[0]}-{month}")


def link(client: Client, alias: bytes, subject: UUID, version: int) -> None:
    insert_subjects(
        client,
        np.frombuffer(alias, np.uint8).reshape(1, 16),
        ids([subject]),
        np.array([version], np.uint64),
        f"links:{uuid4()}",
    )


def by_day(client: Client, use_projection: int) -> list[Any]:
    return execute(
        client,
        "SELECT toDate(occurred_at), recipient, count() FROM lineage GROUP BY 1, 2 ORDER BY 1, 2",
        optimize_use_projections=use_projection,
        force_optimize_projection=use_projection,
    )


def wait_for(condition: Callable[[], bool], seconds: float = GONE_WITHIN_S) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


def test_rows_links_and_projections_of_these_people_go_and_no_others(client: Client) -> None:
    erased, kept = [uuid4() for _ in range(20)], [uuid4() for _ in range(20)]
    disclose(client, erased + kept)
    alias, other = bytes(range(1, 16)) + b"\0", b"o" * 16
    link(client, alias, erased[0], 1)
    link(client, alias, erased[0], 2)
    link(client, alias, UUID(int=0), 3)
    link(client, other, kept[0], 4)
    assert rows_of_people(client, erased[:1]) == {
        "lineage": {erased[0]: 6},
        "subjects": {erased[0]: 2},
        "looks": {},
    }

    done = purge(client, erased)

    assert done.rows == {"lineage": 120, "subjects": 2, "looks": 0}
    assert done.mutations == 2
    assert survivors(client, erased) == {"lineage": 0, "subjects": 0, "looks": 0}
    assert rows_of_people(client, erased) == {"lineage": {}, "subjects": {}, "looks": {}}
    assert survivors(client, kept) == {"lineage": 120, "subjects": 1, "looks": 0}
    assert execute(client, "SELECT hex(alias), subject FROM subjects ORDER BY version") == [
        (alias.hex().upper(), UUID(int=0)),
        (other.hex().upper(), kept[0]),
    ]
    assert sum(n for *_, n in by_day(client, 1)) == 120
    assert by_day(client, 1) == by_day(client, 0)
    assert execute(client, "SELECT count() FROM erase_batch") == [(0,)]
    again = purge(client, erased)
    assert again.rows == {"lineage": 0, "subjects": 0, "looks": 0}
    assert again.mutations == 0


def test_no_id_stands_in_a_mutation(client: Client) -> None:
    erased = uuid4()
    disclose(client, [erased])
    purge(client, [erased])
    commands = [command for (command,) in execute(client, "SELECT command FROM system.mutations WHERE is_done")]
    ours = [command for command in commands if "erase_batch" in command]
    assert ours
    assert not [command for command in commands if str(erased) in command]


def test_the_parts_that_hold_them_leave_the_disk(client: Client) -> None:
    restart_cleaner(client)
    erased = uuid4()
    disclose(client, [erased])
    # A part that somebody has put aside is told, for ever: nobody but its owner can say what is to become of it.
    disclose(client, [uuid4()])
    execute(client, "ALTER TABLE lineage DETACH PARTITION ID '202603'")
    done = purge(client, [erased])
    assert wait_for(lambda: not [p for p in remaining_parts(client, done.done_at) if p.state == "inactive"])
    detached = remaining_parts(client, done.done_at)
    assert detached
    assert {(part.place, part.state) for part in detached} == {("lineage", "detached")}
    for part in detached:
        execute(client, f"ALTER TABLE lineage DROP DETACHED PART '{part.name}' SETTINGS allow_drop_detached = 1")
    # A merge leaves parts behind as well, which are as clean as what it made of them; they go in their turn.
    assert wait_for(lambda: remaining_parts(client, done.done_at) == [])


def test_readers_and_the_loader_go_on_meanwhile(client: Client) -> None:
    erased, kept = [uuid4() for _ in range(2000)], uuid4()
    disclose(client, [*erased, kept])
    stop = Event()
    slowest = {"read": 0.0, "load": 0.0}
    failed: list[BaseException] = []
    turns = {"read": 0, "load": 0}

    def keep(name: str, act: Callable[[Client], None]) -> None:
        connection = another(client)
        try:
            while not stop.is_set():
                start = time.monotonic()
                act(connection)
                slowest[name] = max(slowest[name], time.monotonic() - start)
                turns[name] += 1
        except BaseException as error:  # told by the test, not by a thread that dies quietly
            failed.append(error)
        finally:
            connection.disconnect()

    def read(connection: Client) -> None:
        assert len(events_of_subject(connection, kept)) == 6

    added: list[UUID] = []

    def load(connection: Client) -> None:
        added.append(uuid4())
        disclose(connection, added[-1:])

    threads = [Thread(target=keep, args=("read", read)), Thread(target=keep, args=("load", load))]
    for thread in threads:
        thread.start()
    try:
        done = purge(client, erased)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert done.rows["lineage"] == 12_000
    assert min(turns.values()) > 0, turns
    assert max(slowest.values()) < 5, slowest
    assert survivors(client, added)["lineage"] == 6 * len(added)


def test_two_batches_at_once_do_not_mix(client: Client) -> None:
    groups = [[uuid4() for _ in range(50)] for _ in range(3)]
    disclose(client, [person for group in groups for person in group])

    def run(group: list[UUID]) -> int:
        connection = another(client)
        try:
            return purge(connection, group).rows["lineage"]
        finally:
            connection.disconnect()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, groups[:2])) == [300, 300]
    assert [survivors(client, group)["lineage"] for group in groups] == [0, 0, 300]
    assert execute(client, "SELECT count() FROM erase_batch") == [(0,)]


def test_a_purge_that_takes_too_long_is_none_and_the_next_one_does_it(client: Client) -> None:
    erased = uuid4()
    disclose(client, [erased])
    execute(client, "SYSTEM STOP MERGES lineage")
    try:
        with pytest.raises(UnfinishedPurgeError, match="took too long"):
            purge(client, [erased], timeout_s=0.3)
    finally:
        execute(client, "SYSTEM START MERGES lineage")
    assert survivors(client, [erased])["lineage"] == 6
    assert execute(
        client, "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"
    ) == [(0,)]
    assert execute(client, "SELECT count() FROM erase_batch") == [(0,)]
    assert purge(client, [erased]).rows["lineage"] == 6


def test_a_deletion_that_fails_is_told_and_holds_up_nothing(client: Client) -> None:
    erased = uuid4()
    disclose(client, [erased])
    other = another(client)
    execute(client, "SYSTEM STOP MERGES lineage")

    def break_it(table: str, parts: int) -> None:
        if not broken:
            broken.append(table)
            execute(other, "RENAME TABLE erase_batch TO elsewhere")
            execute(other, "SYSTEM START MERGES lineage")

    broken: list[str] = []
    with pytest.raises(UnfinishedPurgeError, match=r"purge of lineage failed: .*erase_batch"):
        purge(client, [erased], progress=break_it)
    assert execute(client, "SELECT count() FROM system.mutations WHERE database = currentDatabase()") == [(0,)]
    execute(client, "RENAME TABLE elsewhere TO erase_batch")
    other.disconnect()
    assert purge(client, [erased]).rows["lineage"] == 6
    assert execute(client, "SELECT count() FROM erase_batch") == [(0,)], "the batch of the failed one as well"


def test_rows_that_come_meanwhile_are_no_success(client: Client) -> None:
    erased = uuid4()
    disclose(client, [erased])
    other = another(client)
    execute(client, "SYSTEM STOP MERGES lineage")

    def late(table: str, parts: int) -> None:
        if table == "lineage" and not done:
            done.append(parts)
            disclose(other, [erased])
            execute(other, "SYSTEM START MERGES lineage")

    done: list[int] = []
    with pytest.raises(SurvivorsError, match="lineage 6"):
        purge(client, [erased], progress=late)
    other.disconnect()
    assert done
    assert purge(client, [erased]).rows["lineage"] == 6


def test_what_a_crash_left_behind_is_repaired_by_the_next_call(client: Client) -> None:
    erased, kept, live = uuid4(), uuid4(), uuid4()
    disclose(client, [erased, kept])
    # A batch of a purge that crashed, one of a purge that runs, and a mutation that fails for ever.
    crashed, running = uuid4(), uuid4()
    execute(client, "INSERT INTO erase_batch (batch, subject) VALUES", [(crashed, erased), (running, live)])  # type: ignore[arg-type]
    execute(
        client,
        "ALTER TABLE lineage DELETE WHERE throwIf(subject IN (SELECT subject FROM erase_batch))",
        mutations_sync=0,
    )
    look = "SELECT count() FROM system.mutations WHERE NOT is_done AND latest_fail_reason != ''"
    assert wait_for(lambda: execute(client, look)[0][0] > 0)

    assert purge(client, [erased]).rows["lineage"] == 6

    assert execute(client, "SELECT batch, subject FROM erase_batch") == [(running, live)]
    assert survivors(client, [kept])["lineage"] == 6


def test_links_that_an_erasure_has_overtaken_go(client: Client) -> None:
    """A link can be told after the purge, or told again: the alias's erasure behind it takes it along."""
    first, again = uuid4(), uuid4()
    returned, unknown = b"r" * 16, b"u" * 16
    link(client, returned, first, 1)
    link(client, returned, UUID(int=0), 2)
    link(client, returned, again, 3)
    link(client, unknown, first, 4)
    assert purge_stale(client, "subjects") == 1
    assert execute(client, "SELECT subject FROM subjects ORDER BY version") == [(UUID(int=0),), (again,), (first,)]
    assert purge_stale(client, "subjects") == 0


# On an engine of its own: what is on disk, and a crash of the server.

_CODEC = re.compile(r"CODEC\((?:[^()]|\([^()]*\))*\)")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalClickHouse]:
    local = LocalClickHouse(tmp_path / "clickhouse")
    local.start()
    yield local
    local.stop()


def written_plainly() -> list[migrate.Migration]:
    """The migrations, with nothing on disk compressed: else bytes could be there and not be found."""
    return [
        migrate.Migration(
            known.name,
            _CODEC.sub("CODEC(NONE)", known.text)
            .replace("batch UUID,", "batch UUID CODEC(NONE),")
            .replace("    index_granularity = 1024,", "    index_granularity = 1024, compress_primary_key = 0,"),
        )
        for known in migrate.migrations()
    ]


def forms(identifier: bytes) -> list[bytes]:
    """How 16 bytes may stand in a file: as they are, reversed, as ClickHouse writes a UUID, as text."""
    halves = identifier[7::-1] + identifier[:7:-1]
    text = str(UUID(bytes=identifier)).encode()
    hexadecimal = identifier.hex().encode()
    return [identifier, identifier[::-1], halves, text, text.upper(), hexadecimal, hexadecimal.upper()]


def files_with(folder: Path, identifier: bytes) -> set[str]:
    return {path.name for path, content in contents(folder) if any(form in content for form in forms(identifier))}


def test_not_one_of_16_bytes_is_left_in_the_files(own: LocalClickHouse, tmp_path: Path) -> None:
    url = own.url.replace("/default", "/plain")
    create_database(url)
    client = connect(url)
    migrate.apply(client, known=written_plainly())
    restart_cleaner(client)
    erased, kept = uuid4(), uuid4()
    alias, other = uuid4().bytes, uuid4().bytes
    disclose(client, [erased, kept])
    link(client, alias, erased, 1)
    link(client, other, kept, 2)
    why = {erased: uuid4(), kept: uuid4()}
    insert_looks(client, [Look(uuid4(), 1, "ada", "auditor", "lineage", 1, x, f"asks {y}") for x, y in why.items()])
    for person in (erased, kept):
        assert {"data.bin", "primary.idx"} <= files_with(tmp_path, person.bytes), "the search must be able to find it"
        assert files_with(tmp_path, why[person].bytes)

    purge(client, [erased])
    link(client, alias, UUID(int=0), 3)

    assert wait_for(lambda: not files_with(tmp_path, erased.bytes)), files_with(tmp_path, erased.bytes)
    assert wait_for(lambda: not files_with(tmp_path, why[erased].bytes)), files_with(tmp_path, why[erased].bytes)
    assert files_with(tmp_path, kept.bytes)
    assert files_with(tmp_path, why[kept].bytes)
    looks = [(look.client, look.people, look.subject, look.reason) for look in looks_page(client, LookFilter())]
    assert sorted(looks, key=str) == [("ada", 1, None, ""), ("ada", 1, kept, f"asks {why[kept]}")], (
        "that somebody looked stays"
    )
    assert files_with(tmp_path, other)
    client.disconnect()


def test_a_purge_over_a_crash_of_the_server(own: LocalClickHouse) -> None:
    client = connect(own.url)
    migrate.apply(client)
    erased, kept = [uuid4() for _ in range(3000)], [uuid4() for _ in range(3000)]
    disclose(client, erased + kept)
    for delay in (0.02, 0.2):
        crashed = Timer(delay, own.kill)
        crashed.start()
        # Sooner or later than the crash: it does not matter.
        with suppress(ClickHouseError):
            purge(client, erased, timeout_s=20)
        crashed.join()
        client.disconnect()
        own.start()
        client = connect(own.url)
    purge(client, erased)
    assert survivors(client, erased)["lineage"] == 0
    assert survivors(client, kept)["lineage"] == 18_000
    assert execute(client, "SELECT count() FROM erase_batch") == [(0,)]
    assert by_day(client, 1) == by_day(client, 0)
    client.disconnect()
