"""Migrations, inserts, recovery and answers on the real ClickHouse engine, through its native protocol."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from clickhouse_driver import Client

from audit.subject import subject_lineage
from audit.totals import totals
from processors.coded import MISSING_TIME, CodedRows
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, create_database, execute
from sinks.clickhouse.errors import TRANSIENT_CODES, TerminalError, TransientError
from sinks.clickhouse.insert import insert_lineage, insert_subjects
from sinks.clickhouse.native import ColumnError
from sinks.clickhouse.recovery import count_offsets, present_offsets
from sinks.clickhouse.rows import lineage_rows, split_by_month

JANUARY = 1_767_225_600_000  # 2026-01-01T00:00:00Z
DAY = 86_400_000
# The last byte is zero: what compares identifiers as text would lose it.
ALIAS = bytes(range(1, 16)) + b"\0"
SUBJECT = UUID(int=0xA0A1A2A3A4A5A6A7A8A9AAABACADAEAF)
OTHER = UUID(int=7)
# An event in JSON, of all that it does not have.
ABSENT: dict[str, Any] = {
    **{name: [] for name in ("data_categories", "given_categories", "fields", "clauses", "findings")},
    "event_type": None,
    "discloser": None,
    "recipient": None,
    "recipient_kind": None,
    "recipient_effective_at": None,
    "purpose": None,
    "given_purpose": None,
    "region": None,
    "storage_country": None,
    "collected_at": None,
    "legal_order": None,
    "legal_basis": None,
    "verdict": None,
    "policy_version": None,
    "consent_action": None,
    "consent_version": None,
    "consent_activity": None,
    "age_band": None,
    "guardian_granted": None,
    "erasure_phase": None,
    "request_id": None,
}


@pytest.fixture(params=["", "?compression=lz4"], ids=["plain", "lz4"])
def client(clickhouse: Any, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a fresh database with all tables."""
    connected = connect(clickhouse.database().url + request.param)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


@pytest.fixture
def bare(clickhouse: Any) -> Iterator[Client]:
    """A client of a fresh, empty database."""
    connected = connect(clickhouse.database().url)
    yield connected
    connected.disconnect()


def uuids(*ids: UUID) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(i.bytes for i in ids), dtype=np.uint8).reshape(-1, 16)


def records(kind: str, *values: dict[str, Any], offset: int = 0, subject: UUID = SUBJECT) -> CodedRows:
    """Rows of the table of records given as fields; each event has the id of its offset, unless it names one."""
    n = len(values)
    own = ("event_id", "occurred_at", "collected_at", "revision")
    columns: dict[str, Any] = {
        "subject": uuids(*[subject] * n),
        "event_id": uuids(*[v.get("event_id", UUID(int=offset + i)) for i, v in enumerate(values)]),
        "occurred_at": np.array([v.get("occurred_at", JANUARY) for v in values]),
        "judged_at": np.full(n, JANUARY + DAY),
        "revision": np.array([v.get("revision", 0) for v in values]),
        "kafka_partition": np.full(n, 3),
        "kafka_offset": np.arange(offset, offset + n),
    }
    if kind == "DisclosureRecorded":
        columns["collected_at"] = np.array([v.get("collected_at", MISSING_TIME) for v in values])
    shapes = pl.DataFrame(
        [{k: v for k, v in value.items() if k not in own} for value in values], infer_schema_length=None
    )
    return lineage_rows(kind, CodedRows(columns, np.arange(n, dtype=np.int32), shapes))


def collections(n: int, **fields: Any) -> CodedRows:
    return records("CollectionRecorded", *[{"verdict": "lawful", "tagged_purpose": "p", **fields}] * n)


# Migrations


def test_migrations_are_planned_applied_and_recorded_once(bare: Client) -> None:
    names = [m.name for m in migrate.plan(bare)]
    assert names[:2] == ["0001_lineage", "0002_subjects"]
    assert execute(bare, "SHOW TABLES") == [], "a plan changes nothing"
    assert [m.name for m in migrate.apply(bare)] == names
    assert migrate.plan(bare) == migrate.apply(bare) == []
    recorded = execute(bare, "SELECT name, sha256, applied_at > now() - 600 FROM schema_migrations ORDER BY name")
    assert recorded == [(m.name, m.sha256, 1) for m in migrate.migrations()]


def test_a_changed_an_unknown_and_an_overtaken_migration_are_errors(bare: Client) -> None:
    first, second = (migrate.Migration(f"000{i}_x", f"CREATE TABLE x{i} (a UInt8) ENGINE = Log;\n") for i in (1, 2))
    migrate.apply(bare, known=[second])
    with pytest.raises(migrate.MigrationError, match="0001_x comes before 0002_x"):
        migrate.plan(bare, known=[first, second])
    with pytest.raises(migrate.MigrationError, match="0002_x changed"):
        migrate.apply(bare, known=[migrate.Migration(second.name, second.text + "-- more\n")])
    with pytest.raises(migrate.MigrationError, match="newer than this program"):
        migrate.plan(bare, known=[])


def test_a_migration_that_broke_is_run_again(bare: Client) -> None:
    broken = migrate.Migration("0001_x", "CREATE TABLE IF NOT EXISTS x (a UInt8) ENGINE = Log;\nNONSENSE;\n")
    with pytest.raises(TerminalError):
        migrate.apply(bare, known=[broken])
    mended = migrate.Migration("0001_x", broken.text.replace("NONSENSE", "CREATE VIEW y AS SELECT a FROM x"))
    assert migrate.apply(bare, known=[mended]) == [mended]


def test_on_a_cluster_every_statement_is_for_all_hosts_and_replicated(bare: Client) -> None:
    """No cluster here: the engine's own parser says that the statements are well-formed."""
    for migration in migrate.migrations():
        for statement in migration.statements("main"):
            [(formatted,)] = execute(bare, "SELECT formatQuery(%(sql)s)", {"sql": statement})
            assert "ON CLUSTER main" in formatted
            assert "ENGINE = Replicated" in formatted or formatted.startswith(("ALTER TABLE", "CREATE VIEW"))


def test_a_database_is_created_once(clickhouse: Any) -> None:
    url = f"clickhouse://{clickhouse.host}:{clickhouse.port}/created-{np.random.default_rng().integers(2**60)}"
    create_database(url)
    create_database(url)
    assert migrate.plan(connect(url))


# Inserts


def test_every_column_of_every_record_comes_back(client: Client) -> None:
    disclosure = {
        "occurred_at": JANUARY + 1,
        "collected_at": JANUARY - DAY,
        "activity": "share",
        "discloser": "self",
        "recipient": "acme",
        "recipient_kind": "partner",
        "recipient_effective_at": JANUARY - 9 * DAY,
        "purpose": None,
        "tagged_purpose": "ads",
        "categories": ["user.device"],
        "tagged_categories": ["user.device", "user.location"],
        "region": "CN",
        "order": "order 7",
        "source": "app",
        "verdict": "violation",
        "clauses": ["3.1(4)", "2"],
        "legal_basis": "none",
        "findings": ["violation 3.1(4) contract", "violation 2 purpose"],
        "policy_version": 4,
        "sensitive": True,
        "revision": 9,
    }
    consent = {
        "occurred_at": JANUARY + 2,
        "action": "withdraw",
        "version": 2**40,
        "band": "14_17",
        "granted": False,
        "activity": "share",
        "purpose": "*",
        "recipient": "kind:partner",
        "categories": ["*"],
        "source": "app",
    }
    collection = {
        "occurred_at": JANUARY,
        "event_type": "login",
        "purpose": "account",
        "tagged_purpose": "account",
        "categories": [],
        "tagged_categories": ["user.unique_id"],
        "fields": ["user_id"],
        "storage_country": "SG",
        "verdict": "lawful",
        "clauses": ["2.1"],
        "legal_basis": "policy_acceptance",
        "source": "app",
    }
    erasure = {"occurred_at": JANUARY + 3, "phase": "requested", "request_id": UUID(int=5).bytes}
    parts = [
        records("CollectionRecorded", collection, offset=10),
        records("DisclosureRecorded", disclosure, offset=11),
        records("ConsentRecorded", consent, offset=12),
        records("ErasureRecorded", erasure, offset=13),
    ]
    insert_lineage(client, CodedRows.concat(parts), "t")
    insert_subjects(client, np.frombuffer(ALIAS, np.uint8).reshape(1, 16), uuids(SUBJECT), np.array([1]), "s")
    lineage = subject_lineage(client, ALIAS)
    assert lineage["subject"] == str(SUBJECT)

    def event(offset: int, activity: str, **values: Any) -> dict[str, Any]:
        fixed = {
            "event_id": str(UUID(int=offset)),
            "occurred_at": f"2026-01-01T00:00:00.00{offset - 10}Z",
            "activity": activity,
            "sensitive": False,
            "revision": 0,
            "judged_at": "2026-01-02T00:00:00.000Z",
            "source": "app",
            "kafka_partition": 3,
            "kafka_offset": offset,
            "hop": 0,
        }
        return ABSENT | fixed | values

    assert lineage["events"] == [
        event(
            10,
            "collect",
            event_type="login",
            purpose="account",
            given_purpose="account",
            data_categories=["user.unique_id"],
            fields=["user_id"],
            storage_country="SG",
            verdict="lawful",
            clauses=["2.1"],
            legal_basis="policy_acceptance",
        ),
        event(
            11,
            "share",
            discloser="self",
            recipient="acme",
            recipient_kind="partner",
            recipient_effective_at="2025-12-23T00:00:00.000Z",
            purpose="ads",
            data_categories=["user.device", "user.location"],
            given_categories=["user.device"],
            region="CN",
            collected_at="2025-12-31T00:00:00.000Z",
            legal_order="order 7",
            verdict="violation",
            clauses=["3.1(4)", "2"],
            legal_basis="none",
            findings=["violation 3.1(4) contract", "violation 2 purpose"],
            policy_version=4,
            sensitive=True,
            revision=9,
            hop=1,
        ),
        event(
            12,
            "consent",
            consent_action="withdraw",
            consent_version=2**40,
            age_band="14_17",
            guardian_granted=False,
            consent_activity="share",
            purpose="*",
            recipient="kind:partner",
            data_categories=["*"],
        ),
        event(13, "erase", erasure_phase="requested", request_id=str(UUID(int=5)), source=""),
    ]


def test_a_token_inserts_once(client: Client) -> None:
    rows = collections(1000)
    insert_lineage(client, rows, "t:3:0-999:202601")
    insert_lineage(client, rows, "t:3:0-999:202601")
    assert len(present_offsets(client, 3, 0, 999)) == 1000
    insert_lineage(client, rows, "t:3:0-999:202601:r1")
    assert len(present_offsets(client, 3, 0, 999)) == 2000
    assert count_offsets(client, 3, 0, 999) == 1000


def test_a_large_block_stays_one_part_of_each_month(client: Client) -> None:
    execute(client, "SYSTEM STOP MERGES lineage")
    rows = collections(150_000)
    rows.rows["occurred_at"][:] = JANUARY + np.arange(len(rows)) % 100 * DAY
    for month, block in split_by_month(rows):
        insert_lineage(client, block, f"t:{month}")
    parts = execute(
        client,
        "SELECT partition, count(), sum(rows) FROM system.parts "
        "WHERE active AND table = 'lineage' AND database = currentDatabase() GROUP BY 1 ORDER BY 1",
    )
    assert parts == [("202601", 1, 46_500), ("202602", 1, 42_000), ("202603", 1, 46_500), ("202604", 1, 15_000)]


def test_no_rows_are_no_insert(client: Client) -> None:
    insert_lineage(client, collections(1).take(np.zeros(1, bool)), "t")
    assert execute(client, "SELECT count() FROM lineage") == [(0,)]


def test_months_of_rows_are_months_of_the_table(client: Client) -> None:
    times = [-1, 0, JANUARY - 1, JANUARY, 4_102_444_800_000, -2_208_988_800_000]
    rows = records("CollectionRecorded", *[{"occurred_at": t, "verdict": "gap"} for t in times])
    for month, block in split_by_month(rows):
        insert_lineage(client, block, f"t:{month}")
    wanted = sorted((month, len(block)) for month, block in split_by_month(rows))
    partitions = execute(
        client,
        "SELECT toUInt32(partition), sum(rows) FROM system.parts "
        "WHERE active AND table = 'lineage' AND database = currentDatabase() GROUP BY 1 ORDER BY 1",
    )
    assert partitions == wanted


# Errors


def test_a_refused_insert_leaves_nothing_and_the_client_usable(client: Client) -> None:
    execute(client, "ALTER TABLE lineage ADD CONSTRAINT small CHECK kafka_offset < 500")
    with pytest.raises(TerminalError) as refused:
        insert_lineage(client, collections(1000), "t")
    assert refused.value.code == 469
    with pytest.raises(ColumnError, match="verdict"):
        insert_lineage(client, collections(1, verdict="perhaps"), "t")
    assert execute(client, "SELECT count() FROM lineage") == [(0,)]
    insert_lineage(client, collections(1), "t2")
    assert execute(client, "SELECT count() FROM lineage") == [(1,)]


def test_errors_are_sorted(client: Client) -> None:
    with pytest.raises(TerminalError) as unknown:
        execute(client, "SELECT nothing FROM lineage")
    assert unknown.value.code == 47
    with pytest.raises(TransientError) as slow:
        execute(client, "SELECT count() FROM numbers(1e12)", max_execution_time=1, timeout_overflow_mode="throw")
    assert slow.value.code == 159
    with pytest.raises(TransientError):
        execute(connect("clickhouse://127.0.0.1:1/x?connect_timeout=1"), "SELECT 1")
    for url in ("http://127.0.0.1", "clickhouse://", "nothing"):
        with pytest.raises(ValueError, match="looks like"):
            connect(url)


def test_codes_have_the_names_that_the_engine_gives_them(bare: Client) -> None:
    codes = list(TRANSIENT_CODES)
    rows = execute(bare, "SELECT arrayJoin(%(codes)s) AS code, errorCodeToName(code)", {"codes": codes})
    assert dict(rows) == TRANSIENT_CODES


# Recovery


def test_what_is_there_is_told_by_kafka_coordinates(client: Client) -> None:
    rows = collections(100)
    insert_lineage(client, rows.take(np.arange(100) % 3 == 0), "t")
    assert present_offsets(client, 3, 1, 12).tolist() == [3, 6, 9, 12]
    assert count_offsets(client, 3, 1, 12) == 4
    assert count_offsets(client, 2, 0, 100) == 0
    assert present_offsets(client, 3, 200, 300).tolist() == []


# Answers


def link(client: Client, subject: UUID, version: int) -> None:
    alias = np.frombuffer(ALIAS, np.uint8).reshape(1, 16)
    insert_subjects(client, alias, uuids(subject), np.array([version]), f"s{version}")


def test_an_alias_is_followed_to_its_latest_subject(client: Client) -> None:
    insert_lineage(client, collections(1), "t")
    assert subject_lineage(client, ALIAS) == {"subject": None, "events": []}
    link(client, SUBJECT, 5)
    link(client, OTHER, 4)
    assert len(subject_lineage(client, ALIAS)["events"]) == 1
    link(client, UUID(int=0), 6)
    assert subject_lineage(client, ALIAS) == {"subject": None, "events": []}
    link(client, OTHER, 7)
    assert subject_lineage(client, ALIAS) == {"subject": str(OTHER), "events": []}


def shared(discloser: str, recipient: str | None, day: int, **more: Any) -> dict[str, Any]:
    activity = "share" if recipient else "publish"
    values = {"activity": activity, "discloser": discloser, "recipient": recipient, "occurred_at": JANUARY + day * DAY}
    return {"verdict": "lawful", "clauses": ["3.1(4)"], **values, **more}


def test_the_latest_revision_counts_and_hops_follow_the_data(client: Client) -> None:
    link(client, SUBJECT, 1)
    changed = UUID(int=0xFF)
    rows = records(
        "DisclosureRecorded",
        shared("b", "c", 3),
        shared("self", "a", 1, event_id=changed, verdict="gap", clauses=[]),
        shared("self", "a", 1, event_id=changed, verdict="violation", clauses=["5", "2"], revision=70),
        shared("self", "a", 1, event_id=changed, verdict="lawful", revision=8),
        shared("self", "a", 1, event_id=changed, verdict="gap", clauses=[], revision=0),
        shared("a", "b", 2),
        shared("c", "a", 4),
        shared("stranger", "d", 5),
        shared("self", None, 40, clauses=["3.3(1)"]),
    )
    for month, block in split_by_month(rows):
        insert_lineage(client, block, f"t{month}")
    insert_lineage(client, records("DisclosureRecorded", shared("self", "x", 1), offset=99, subject=OTHER), "other")

    events = subject_lineage(client, ALIAS)["events"]
    assert [(e["discloser"], e["recipient"], e["verdict"], e["revision"], e["hop"]) for e in events] == [
        ("self", "a", "violation", 70, 1),
        ("a", "b", "lawful", 0, 2),
        ("b", "c", "lawful", 0, 3),
        ("c", "a", "lawful", 0, 4),
        ("stranger", "d", "lawful", 0, None),
        ("self", None, "lawful", 0, 1),
    ]
    revisions = subject_lineage(client, ALIAS, all_revisions=True)["events"]
    assert [e["revision"] for e in revisions if e["event_id"] == str(changed)] == [0, 8, 70]
    assert len(revisions) == len(events) + 2
    then = subject_lineage(client, ALIAS, as_of=datetime(2026, 1, 3, tzinfo=UTC))["events"]
    assert [e["recipient"] for e in then] == ["a", "b"]

    assert totals(client) == {
        "events": 7,
        "subjects": 2,
        "by_activity": {"share": 6, "publish": 1},
        "by_verdict": {"lawful": 6, "violation": 1},
        "by_clause": {"3.1(4)": 5, "3.3(1)": 1, "5": 1, "2": 1},
        "by_recipient": {"a": 2, "b": 1, "c": 1, "d": 1, "x": 1},
    }


def test_totals_count_consents_as_events_and_markers_apart(client: Client) -> None:
    consent = {"action": "grant", "activity": "share", "recipient": "a", "purpose": "*", "categories": ["*"]}
    parts = [
        collections(5, clauses=["2.1"]),
        records("ConsentRecorded", consent, consent, offset=20),
        records("ErasureRecorded", {"phase": "completed", "request_id": bytes(16)}, offset=30),
    ]
    insert_lineage(client, CodedRows.concat(parts), "t")
    assert totals(client) == {
        "events": 7,
        "subjects": 1,
        "by_activity": {"collect": 5, "consent": 2, "erase": 1},
        "by_verdict": {"lawful": 5},
        "by_clause": {"2.1": 5},
        "by_recipient": {},
    }


def test_totals_follow_an_erasure_through_the_projection(client: Client) -> None:
    insert_lineage(client, collections(10), "t")
    insert_lineage(client, records("CollectionRecorded", {"verdict": "gap"}, offset=50, subject=OTHER), "u")
    execute(
        client,
        "ALTER TABLE lineage DELETE WHERE subject = %(subject)s",
        {"subject": SUBJECT},
        mutations_sync=2,
    )
    counted = totals(client)
    assert (counted["events"], counted["subjects"], counted["by_verdict"]) == (1, 1, {"gap": 1})
    by_day = "SELECT toDate(occurred_at), count() FROM lineage GROUP BY toDate(occurred_at)"
    assert execute(client, by_day, force_optimize_projection=1) == [(datetime(2026, 1, 1).date(), 1)]
