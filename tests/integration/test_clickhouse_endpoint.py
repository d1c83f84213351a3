"""The endpoint in front of the real engine, seen through `clickhouse-driver` and through bare sockets."""

import ctypes
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.block import RowOrientedBlock
from clickhouse_driver.errors import NetworkError, ServerException
from clickhouse_driver.protocol import ServerPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from infra.local.clickhouse import ClickHouseNotStarted, LocalClickHouse
from infra.local.clickhouse_endpoint.wire import text, varint
from tests.clickhouse_fixture import ClickHouseForTests, DatabaseForTest

BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
FOREVER = "SELECT count() FROM system.numbers WHERE sipHash64(number) = 0"


@pytest.fixture
def database(clickhouse: ClickHouseForTests) -> DatabaseForTest:
    return clickhouse.database()


@pytest.fixture
def client(database: DatabaseForTest) -> Iterator[Client]:
    with database.client() as client:
        yield client


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalClickHouse]:
    """An engine that the test may stop."""
    local = LocalClickHouse(tmp_path)
    local.start()
    yield local
    local.stop()


def processes(client: Client, fragment: str) -> int:
    (count,) = client.execute(
        "SELECT count() FROM system.processes WHERE position(query, %(part)s) > 0 AND query NOT LIKE '%%processes%%'",
        {"part": fragment},
    )[0]
    return int(count)


def wait_until(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def begin_insert(client: Client, sql: str) -> None:
    """The driver's own steps of an INSERT, up to where its blocks begin."""
    client.connection.force_connect()
    client.connection.send_query(sql)
    client.connection.send_external_tables(None)
    client.receive_sample_block()


def send_raw_block(client: Client, block: bytes) -> None:
    out = client.connection.fout
    write_varint(2, out)
    write_binary_str("", out)
    out.write(BLOCK_INFO + block)
    out.flush()


def end_insert(client: Client) -> None:
    client.connection.send_data(RowOrientedBlock())
    client.receive_end_of_insert_query()


def send_whole_block(client: Client, block: bytes) -> None:
    send_raw_block(client, block)
    end_insert(client)


A_UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
A_TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
LONG = "a string of more than 127 bytes " * 9

TYPES: list[tuple[str, list[Any]]] = [
    ("UInt8", [0, 255, 7]),
    ("UInt64", [0, 2**64 - 1, 7]),
    ("Int32", [-(2**31), 0, 7]),
    ("Int256", [-(2**200), 0, 7]),
    ("Float64", [0.0, -1.5, 1e300]),
    ("Bool", [True, False, True]),
    ("String", ["", "é", LONG]),
    ("FixedString(3)", ["abc", "xyz", "123"]),
    ("UUID", [A_UUID, uuid.UUID(int=0), A_UUID]),
    ("Date", [date(2026, 1, 2), date(1970, 1, 1), date(2100, 1, 1)]),
    ("DateTime", [datetime(2026, 1, 2, 3, 4, 5)] * 3),
    ("DateTime64(3, 'Asia/Shanghai')", [A_TIME] * 3),
    ("Enum8('a,(b' = 1, 'c\\'d' = 2)", ["a,(b", "c'd", "a,(b"]),
    ("Enum16('x' = 1000)", ["x"] * 3),
    ("Decimal(20, 4)", [Decimal("1.5000"), Decimal("-2.2500"), Decimal("0.0000")]),
    ("Nullable(UInt16)", [None, 1, None]),
    ("Nullable(String)", [None, LONG, ""]),
    ("Array(String)", [[], ["a", LONG], [""]]),
    ("Array(Array(UInt32))", [[], [[1, 2], []], [[3]]]),
    ("Array(Nullable(String))", [[None, "a"], [], [None]]),
    ("LowCardinality(String)", ["a", "b", "a"]),
    ("LowCardinality(Nullable(String))", [None, "b", "b"]),
    ("LowCardinality(FixedString(2))", ["aa", "bb", "aa"]),
    ("Array(LowCardinality(String))", [["a", "b"], [], ["b"]]),
    ("Array(LowCardinality(Nullable(String)))", [["a", None], [], ["b"]]),
    ("Map(String, UInt64)", [{}, {"a": 1, "b": 2}, {LONG: 3}]),
    ("Map(LowCardinality(String), Array(String))", [{}, {"a": ["x"]}, {"b": []}]),
    ("Tuple(String, UInt8)", [("a", 1), (LONG, 2), ("", 3)]),
    ("Tuple(name LowCardinality(String), `odd name` Array(UUID))", [("a", [A_UUID]), ("b", []), ("a", [])]),
]


@pytest.mark.parametrize(("type_name", "values"), TYPES, ids=[type_name for type_name, _ in TYPES])
@pytest.mark.parametrize("compression", [False, "lz4"])
def test_types_round_trip(database: DatabaseForTest, type_name: str, values: list[Any], compression: Any) -> None:
    with database.client(compression=compression) as client:
        client.execute(f"CREATE TABLE t (n UInt8, v {type_name}, z String) ENGINE = MergeTree ORDER BY n")
        rows = [(n, value, f"behind {n}") for n, value in enumerate(values)]
        assert client.execute("INSERT INTO t VALUES", rows) == len(rows)
        assert client.execute("SELECT * FROM t ORDER BY n") == rows
        # Nothing is written for the values of a column without any.
        assert client.execute("INSERT INTO t (n) VALUES", []) == 0
        assert client.execute("SELECT v FROM t WHERE n > 9", with_column_types=True)[1][0][0] == "v"


def test_low_cardinality_of_many_values(client: Client) -> None:
    """Keys of one, two and four bytes."""
    client.execute(
        "CREATE TABLE t (n UInt32, v LowCardinality(String), a Array(LowCardinality(String))) ENGINE = Memory"
    )
    for size in (200, 5_000, 70_000):
        rows = [(n, f"value {n}", [f"value {n}", "same"]) for n in range(size)]
        client.execute("INSERT INTO t VALUES", rows)
        assert client.execute("SELECT * FROM t ORDER BY n") == rows
        client.execute("TRUNCATE TABLE t")


def test_a_raw_block_of_several_types(client: Client) -> None:
    """A block made by hand, whose column types are not the table's: the engine converts them by name."""
    client.execute(
        "CREATE TABLE t (s LowCardinality(String), n UInt64, d UInt8 DEFAULT 9) ENGINE = MergeTree ORDER BY n"
    )
    begin_insert(client, "INSERT INTO t (n, s) VALUES")
    columns = text("n") + text("UInt64") + struct.pack("<2Q", 1, 2) + text("s") + text("String") + text("a") + text("b")
    send_raw_block(client, varint(2) + varint(2) + columns)
    end_insert(client)
    assert client.execute("SELECT s, n, d FROM t ORDER BY n") == [("a", 1, 9), ("b", 2, 9)]


def test_blocks_of_one_insert_are_one_insert(client: Client) -> None:
    """Several blocks under one token are stored once, all of them, as one part."""
    client.execute(
        "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 9"
    )
    for _ in range(2):
        client.execute(
            "INSERT INTO t VALUES",
            [(n,) for n in range(2500)],
            settings={"insert_block_size": 1000, "insert_deduplication_token": "one"},
        )
    assert client.execute("SELECT count(), uniqExact(n), uniqExact(_part) FROM t") == [(2500, 2500, 1)]


@pytest.mark.parametrize("async_insert", [0, 1])
def test_the_same_token_twice_is_stored_once(client: Client, async_insert: int) -> None:
    client.execute(
        "CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 9"
    )

    def insert(number: int, token: str) -> None:
        settings = {"async_insert": async_insert, "insert_deduplication_token": token}
        client.execute("INSERT INTO t VALUES", [(number,)], settings=settings)

    insert(1, "a")
    insert(1, "a")
    insert(2, "a")
    assert client.execute("SELECT n FROM t") == [(1,)]
    insert(2, "b")
    assert client.execute("SELECT n FROM t ORDER BY n") == [(1,), (2,)]
    # Without a token the rows decide; the last query's token must not be in force any more.
    client.execute("INSERT INTO t VALUES", [(3,)])
    client.execute("INSERT INTO t SETTINGS insert_deduplication_token = 'b' VALUES", [(4,)])
    assert client.execute("SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]


def test_settings_end_with_their_query(client: Client) -> None:
    def in_force() -> list[Any]:
        return client.execute("SELECT getSetting('max_execution_time'), getSetting('max_threads') == 1")

    assert in_force() == [(0, False)]
    sql = "SELECT getSetting('max_execution_time'), getSetting('async_insert'), getSetting('log_comment')"
    settings = {"max_execution_time": 77, "async_insert": 0, "log_comment": "it's \\ odd"}
    assert client.execute(sql, settings=settings) == [(77, False, "it's \\ odd")]
    assert in_force() == [(0, False)]
    # What the client SET itself stays, under a query's own settings and behind them.
    client.execute("SET max_execution_time = 55, max_threads = 1")
    assert client.execute("SELECT getSetting('max_execution_time')", settings={"max_execution_time": 66}) == [(66,)]
    assert in_force() == [(55, True)]
    client.execute("SET max_execution_time = DEFAULT")
    assert in_force() == [(0, True)]
    # A setting that forbids to change settings.
    assert client.execute("SELECT getSetting('readonly')", settings={"readonly": 1}) == [(1,)]
    client.execute("CREATE TABLE t (n UInt8) ENGINE = Memory")
    assert in_force() == [(0, True)]


def test_settings_of_one_client_are_not_anothers(database: DatabaseForTest) -> None:
    with database.client() as one, database.client() as other:
        one.execute("SET max_execution_time = 55")
        one.execute("CREATE TEMPORARY TABLE only_mine (n UInt8)")
        assert other.execute("SELECT getSetting('max_execution_time')") == [(0,)]
        with pytest.raises(ServerException) as unknown:
            other.execute("SELECT * FROM only_mine")
        assert unknown.value.code == 60


def test_unknown_settings(database: DatabaseForTest) -> None:
    with database.client() as client:
        assert client.execute("SELECT 1", settings={"no_such_setting": 1, "max_threads": 1}) == [(1,)]
    with database.client(settings_is_important=True) as client, pytest.raises(ServerException) as unknown:
        client.execute("SELECT 1", settings={"no_such_setting": 1})
    assert unknown.value.code == 115


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELEKT 1", 62),
        ("SELECT 1; SELECT 2", 62),
        ("SELECT no_such_column", 47),
        ("SELECT * FROM no_such_table", 60),
        ("CREATE TABLE present (n UInt8) ENGINE = Memory", 57),
        ("USE no_such_database", 81),
        ("SELECT throwIf(number = 3, 'stop') FROM numbers(9)", 395),
        (
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 0 SETTINGS max_execution_time = 0.1",
            159,
        ),
        ("SELECT number FROM numbers(1000000) WHERE throwIf(number = 900000) = 0 SETTINGS max_block_size = 1000", 395),
    ],
)
@pytest.mark.parametrize("compression", [False, "lz4"])
def test_errors_have_their_code_and_the_connection_goes_on(
    database: DatabaseForTest, sql: str, code: int, compression: Any
) -> None:
    with database.client(compression=compression) as client:
        client.execute("CREATE TABLE present (n UInt8) ENGINE = Memory")
        # Not by `execute`: the driver reconnects after an error, and it is this connection that must go on.
        connection = client.connection.socket
        client.connection.send_query(sql)
        client.connection.send_external_tables(None)
        while (packet := client.connection.receive_packet()).exception is None:
            assert packet.type != ServerPacketTypes.END_OF_STREAM
        assert packet.exception.code == code
        assert client.execute("SELECT 42") == [(42,)]
        assert client.connection.socket is connection


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("t (n UInt8, CONSTRAINT small CHECK n < 10) ENGINE = MergeTree ORDER BY n", 469),
        ("t (n UInt8) ENGINE = MergeTree ORDER BY n PARTITION BY n SETTINGS max_partitions_to_read = 1", None),
    ],
)
def test_a_refused_insert_is_an_error(client: Client, table: str, code: int | None) -> None:
    client.execute(f"CREATE TABLE {table}")
    settings = {"max_partitions_per_insert_block": 1}
    with pytest.raises(ServerException) as refused:
        client.execute("INSERT INTO t VALUES", [(1,), (11,)], settings=settings)
    assert refused.value.code == (code or 252)
    assert client.execute("SELECT count() FROM t SETTINGS max_partitions_to_read = -1") == [(0,)]


def test_inserts_before_their_blocks(client: Client) -> None:
    client.execute("CREATE TABLE t (n UInt8, s String) ENGINE = Memory")
    for sql, code in (
        ("INSERT INTO nowhere VALUES", 60),
        ("INSERT INTO t (nothing) VALUES", 47),
    ):
        with pytest.raises(ServerException) as refused:
            client.execute(sql, [(1,)])
        assert refused.value.code == code
    client.execute("CREATE TABLE states (s AggregateFunction(sum, UInt64)) ENGINE = Memory")
    with pytest.raises(ServerException) as refused:
        client.execute("INSERT INTO states VALUES", [(b"",)])
    assert refused.value.code == 48
    client.execute("INSERT INTO t SELECT number, 'from a query' FROM numbers(2)")
    client.execute("WITH 5 AS five INSERT INTO t SELECT five, 'from WITH'")
    client.execute("INSERT INTO t VALUES (7, 'in the text')")
    client.execute("INSERT /* why */ INTO `t` (`s`, n) -- note\nFORMAT Native", [("quoted", 8)])
    assert client.execute("SELECT s FROM t ORDER BY n") == [
        ("from a query",),
        ("from a query",),
        ("from WITH",),
        ("in the text",),
        ("quoted",),
    ]


def test_answers_of_other_statements(client: Client, database: DatabaseForTest) -> None:
    client.execute("CREATE TABLE t (n UInt8, s LowCardinality(String)) ENGINE = Memory")
    assert client.execute("SHOW TABLES") == [("t",)]
    assert [row[:2] for row in client.execute("DESCRIBE t")] == [("n", "UInt8"), ("s", "LowCardinality(String)")]
    assert client.execute("EXISTS TABLE t;") == [(1,)]
    assert client.execute("SELECT 1 AS a, 'x' AS b FORMAT JSON", with_column_types=True) == (
        [(1, "x")],
        [("a", "UInt8"), ("b", "String")],
    )
    assert client.execute("WITH 2 AS x SELECT x UNION ALL SELECT 3 ORDER BY 1 -- done") == [(2,), (3,)]
    # A type whose blocks cannot be measured.
    as_json = client.execute("SELECT '{\"a\": 1}'::JSON AS j, 2 AS n", with_column_types=True)
    assert as_json == ([({"a": 1}, 2)], [("j", "JSON"), ("n", "UInt8")])
    assert client.execute("SELECT %(a)s", {"a": "it's"}) == [("it's",)]
    assert client.execute("SELECT currentDatabase()") == [(database.name,)]
    outside = [
        {
            "name": "outside",
            "structure": [("n", "UInt8"), ("s", "LowCardinality(String)")],
            "data": [{"n": 3, "s": "c"}],
        }
    ]
    for _ in range(2):
        assert client.execute("SELECT * FROM outside", external_tables=outside) == [(3, "c")]
    many = client.execute_iter("SELECT number FROM numbers(200000)", chunk_size=50_000)
    assert sum(len(chunk) for chunk in many) == 200_000
    assert client.execute("SELECT sum(number) FROM numbers(100000)") == [(4999950000,)]
    assert client.last_query.progress.rows == 100_000


def test_mutations_parts_and_projections(client: Client) -> None:
    client.execute(
        "CREATE TABLE t (subject UUID, recipient String, occurred_at DateTime64(3),"
        " PROJECTION by_recipient (SELECT * ORDER BY recipient, occurred_at))"
        " ENGINE = MergeTree ORDER BY (subject, occurred_at) PARTITION BY toYYYYMM(occurred_at)"
        " SETTINGS non_replicated_deduplication_window = 1000, deduplicate_merge_projection_mode = 'rebuild'"
    )
    rows = [(uuid.UUID(int=n % 10), f"r{n % 3}", datetime(2026, 1 + n % 2, 1, tzinfo=UTC)) for n in range(1000)]
    client.execute("INSERT INTO t VALUES", rows)
    client.execute("ALTER TABLE t ADD PROJECTION counts (SELECT recipient, count() GROUP BY recipient)")
    client.execute("ALTER TABLE t MATERIALIZE PROJECTION counts", settings={"mutations_sync": 2})
    client.execute("CREATE TABLE erased (subject UUID) ENGINE = Memory")
    client.execute("INSERT INTO erased VALUES", [(uuid.UUID(int=3),)])
    client.execute("ALTER TABLE t DELETE WHERE subject IN (SELECT subject FROM erased)", settings={"mutations_sync": 2})
    mine = "WHERE database = currentDatabase() AND table = 't'"
    assert client.execute(f"SELECT min(is_done), max(latest_fail_reason) FROM system.mutations {mine}") == [(1, "")]
    assert client.execute(
        "SELECT count(), countIf(subject = toUUID('00000000-0000-0000-0000-000000000003')) FROM t"
    ) == [(900, 0)]
    projections = client.execute(f"SELECT name, sum(rows) FROM system.projection_parts {mine} AND active GROUP BY name")
    assert dict(projections) == {"by_recipient": 900, "counts": 6}
    assert client.execute(f"SELECT sum(rows) FROM system.parts {mine} AND active") == [(900,)]
    client.execute("SYSTEM FLUSH LOGS")
    client.execute("OPTIMIZE TABLE t FINAL")
    client.execute("ALTER TABLE t DROP PARTITION 202601")
    assert client.execute("SELECT count() < 900 FROM t") == [(1,)]


def test_many_clients_at_once(database: DatabaseForTest) -> None:
    with database.client() as client:
        client.execute("CREATE TABLE t (writer UInt8, n UInt32) ENGINE = MergeTree ORDER BY (writer, n)")
    failures: list[BaseException] = []
    torn: list[Any] = []
    done = threading.Event()

    def write(writer: int) -> None:
        try:
            with database.client(compression=bool(writer % 2)) as client:
                for batch in range(10):
                    client.execute("INSERT INTO t VALUES", [(writer, batch * 500 + n) for n in range(500)])
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            with database.client() as client:
                while not done.is_set():
                    torn.extend(
                        row for row in client.execute("SELECT writer, count() FROM t GROUP BY writer") if row[1] % 500
                    )
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not failures
    assert not torn
    with database.client() as client:
        assert client.execute("SELECT count(), uniqExact(writer, n) FROM t") == [(40_000, 40_000)]


def test_cancel_while_the_engine_works(client: Client, database: DatabaseForTest) -> None:
    client.connection.force_connect()
    connection = client.connection.socket
    client.connection.send_query(FOREVER)
    client.connection.send_external_tables(None)
    with database.client() as other:
        wait_until(lambda: processes(other, FOREVER) == 1)
        started = time.monotonic()
        client.connection.send_cancel()
        while (packet := client.connection.receive_packet()).type != ServerPacketTypes.END_OF_STREAM:
            assert packet.exception is None
        assert time.monotonic() - started < 2
        assert processes(other, FOREVER) == 0
    assert client.execute("SELECT 42") == [(42,)]
    assert client.connection.socket is connection


def test_cancel_amid_a_stream(client: Client) -> None:
    first = client.execute_iter("SELECT number FROM system.numbers", chunk_size=10)
    assert next(first)[0] == (0,)
    client.cancel()
    assert client.execute("SELECT 42") == [(42,)]


@pytest.mark.parametrize("sql", [FOREVER, "SELECT number FROM system.numbers WHERE 'left' = 'left'"])
def test_the_query_of_a_client_that_left_is_stopped(database: DatabaseForTest, sql: str) -> None:
    leaver = database.client()
    leaver.connection.force_connect()
    leaver.connection.send_query(sql)
    leaver.connection.send_external_tables(None)
    with database.client() as other:
        wait_until(lambda: processes(other, sql) == 1)
        leaver.disconnect()
        wait_until(lambda: processes(other, sql) == 0)


def test_a_client_that_leaves_amid_an_insert_stores_nothing(database: DatabaseForTest) -> None:
    with database.client() as client:
        client.execute("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        block = varint(1) + varint(1000) + text("n") + text("UInt64") + bytes(8000)
        for cut in (len(block), len(block) - 1, 3):
            leaver = database.client()
            begin_insert(leaver, "INSERT INTO t VALUES")
            send_raw_block(leaver, block)
            send_raw_block(leaver, block[:cut])
            leaver.disconnect()
        time.sleep(0.3)
        assert client.execute("SELECT count() FROM t") == [(0,)]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(b"\x00" + b"\xff" * 20, id="an endless number"),
        pytest.param(varint(0) + varint(1 << 50), id="a string of a petabyte"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_greeting_ends_the_connection(clickhouse: ClickHouseForTests, sent: bytes) -> None:
    with socket.create_connection((clickhouse.host, clickhouse.port)) as stranger:
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(5)
        try:
            while stranger.recv(4096):
                pass
        except ConnectionResetError:
            pass
    with Client(clickhouse.host, clickhouse.port) as client:
        assert client.execute("SELECT 1") == [(1,)]


def column(type_name: str, values: bytes, rows: int = 1) -> bytes:
    return varint(1) + varint(rows) + text("n") + text(type_name) + values


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(varint(1 << 40) + varint(1), id="a trillion columns"),
        pytest.param(column("NoSuchType", b"\0"), id="an unknown type"),
        pytest.param(column("Array(" * 9000, b"\0"), id="a bottomless type"),
        pytest.param(column("LowCardinality(String)", struct.pack("<QQ", 9, 0)), id="an unknown dictionary"),
        pytest.param(column("Array(UInt8)", struct.pack("<Q", 1 << 60)), id="an endless array"),
        pytest.param(column("FixedString(x)", b"\0"), id="a width that is no number"),
    ],
)
@pytest.mark.timeout(30)
def test_a_malformed_block_ends_the_connection_only(client: Client, database: DatabaseForTest, block: bytes) -> None:
    client.execute("CREATE TABLE t (n UInt8) ENGINE = Memory")
    begin_insert(client, "INSERT INTO t VALUES")
    with pytest.raises((ServerException, NetworkError, OSError, EOFError)):
        send_whole_block(client, block)
    with database.client() as other:
        assert other.execute("SELECT count() FROM t") == [(0,)]


def test_a_block_that_the_engine_cannot_convert(client: Client) -> None:
    client.execute("CREATE TABLE t (n UInt8) ENGINE = Memory")
    begin_insert(client, "INSERT INTO t VALUES")
    send_raw_block(client, column("String", text("not a number")))
    with pytest.raises(ServerException):
        end_insert(client)
    client.connection.is_query_executing = False
    assert client.execute("SELECT count() FROM t") == [(0,)]


def test_killed_and_started_again_keeps_rows_and_port(local: LocalClickHouse) -> None:
    port = local.port
    with Client.from_url(local.url) as client:
        client.execute(
            "CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 99"
        )
        for batch in range(20):
            client.execute("INSERT INTO t VALUES", [(batch,)], settings={"insert_deduplication_token": str(batch)})
    local.kill()
    assert local.pid is None
    local.start()
    assert local.port == port
    with Client.from_url(local.url) as client:
        assert client.execute("SELECT n FROM t ORDER BY n") == [(n,) for n in range(20)]
        client.execute("INSERT INTO t VALUES", [(99,)], settings={"insert_deduplication_token": "19"})
        assert client.execute("SELECT count() FROM t") == [(20,)]


@pytest.mark.skipif(sys.platform != "linux", reason="inserts wait in memory on Linux only")
def test_the_memory_of_an_insert_is_given_back(local: LocalClickHouse) -> None:
    def held() -> int:
        files = Path(f"/proc/{local.pid}/fd").iterdir()
        return sum("memfd:insert" in str(file.readlink()) for file in files if file.is_symlink())

    with Client.from_url(local.url) as client:
        client.execute("CREATE TABLE t (n UInt64, CONSTRAINT small CHECK n < 10) ENGINE = MergeTree ORDER BY n")
        begin_insert(client, "INSERT INTO t VALUES")
        send_raw_block(client, column("UInt64", bytes(8)))
        wait_until(lambda: held() > 0)
        end_insert(client)
        assert held() == 0
        with pytest.raises(ServerException):
            client.execute("INSERT INTO t VALUES", [(11,)])
        assert held() == 0
        begin_insert(client, "INSERT INTO t VALUES")
        send_raw_block(client, column("UInt64", bytes(8)))
    wait_until(lambda: held() == 0)


@pytest.mark.parametrize(
    "sql",
    [
        FOREVER,
        "SELECT number FROM system.numbers WHERE 'not' = 'not'",
        "INSERT INTO t SELECT number FROM system.numbers",
    ],
    ids=["silent", "streaming", "inserting"],
)
def test_stop_cancels_what_runs(local: LocalClickHouse, sql: str) -> None:
    """In time, and never so that the client takes it for done."""
    errors: list[Exception] = []

    def run_forever() -> None:
        with Client.from_url(local.url) as client:
            try:
                for _ in client.execute_iter(sql):
                    pass
            except (ServerException, NetworkError, OSError, EOFError) as error:
                errors.append(error)

    thread = threading.Thread(target=run_forever)
    with Client.from_url(local.url) as client:
        client.execute("CREATE TABLE t (n UInt64) ENGINE = Null")
        thread.start()
        wait_until(lambda: processes(client, sql) == 1)
    started = time.monotonic()
    local.stop()
    assert time.monotonic() - started < 4
    thread.join(20)
    assert errors
    assert "Traceback" not in local.log_path.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="signals one thread by Linux's own call")
def test_a_stop_that_one_of_the_engines_threads_takes(local: LocalClickHouse) -> None:
    """The kernel may hand SIGTERM to any thread; Python acts on it in the main one only."""
    assert local.pid is not None
    threads = [int(task.name) for task in Path(f"/proc/{local.pid}/task").iterdir()]
    tgkill = 234 if platform.machine() == "x86_64" else 131
    # The newest that is still there: threads come and go.
    others = sorted(set(threads) - {local.pid}, reverse=True)
    assert any(ctypes.CDLL(None).syscall(tgkill, local.pid, thread, signal.SIGTERM) == 0 for thread in others)
    wait_until(lambda: local.pid is None)


def test_a_second_start_on_the_same_data_is_refused(local: LocalClickHouse, tmp_path: Path) -> None:
    with pytest.raises(ClickHouseNotStarted, match=f"in use by another ClickHouse .process {local.pid}."):
        LocalClickHouse(tmp_path).start()
    with Client.from_url(local.url) as client:
        assert client.execute("SELECT 1") == [(1,)]


def test_a_taken_port_is_refused_or_avoided(local: LocalClickHouse, tmp_path: Path) -> None:
    with pytest.raises(ClickHouseNotStarted, match=f"port {local.port} is taken"):
        LocalClickHouse(tmp_path / "other", port=local.port).start()
    local.stop()
    with socket.create_server((local.host, local.port)):
        taken = local.port
        local.start()
        assert local.port != taken


def test_a_start_that_fails_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("not a folder")
    with pytest.raises(ClickHouseNotStarted, match=r"endpoint\.log ends:\n[\s\S]*engine"):
        LocalClickHouse(tmp_path).start()


def test_without_the_engine_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(ClickHouseNotStarted, match=r"disclosure-lineage\[local\].*--clickhouse URL"):
        LocalClickHouse(tmp_path).start()


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from infra.local.clickhouse import LocalClickHouse\n"
        "local = LocalClickHouse(Path(sys.argv[1])); local.start(); print(local.port, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    with Client("127.0.0.1", port) as client:
        assert client.execute("SELECT 1") == [(1,)]
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(gone)


def test_user_and_password(tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("s3cret\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "infra.local.clickhouse_endpoint", "--path", str(tmp_path / "engine")]
    command += ["--port", str(port), "--user", "auditor", "--password-file", str(password_file)]
    endpoint = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _accepts(port), 30)
        with Client("127.0.0.1", port, user="auditor", password="s3cret") as client:
            assert client.execute("SELECT 1") == [(1,)]
        for user, password in (("auditor", "wrong"), ("auditor", ""), ("default", "s3cret"), ("default", "")):
            with (
                Client("127.0.0.1", port, user=user, password=password) as client,
                pytest.raises(ServerException) as refused,
            ):
                client.execute("SELECT 1")
            assert refused.value.code == 516
    finally:
        endpoint.terminate()
        assert endpoint.wait(10) == 0


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_other_machines_need_a_password(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "infra.local.clickhouse_endpoint",
        "--path",
        str(tmp_path / "engine"),
        "--port",
        "0",
    ]
    refused = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert "give a --password-file" in refused.stderr
