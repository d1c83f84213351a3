"""Each role of sinks/clickhouse/accounts.py on the real engine, which has its grants and refuses the rest: the job does
its work, and everything else is tried and denied.

The embedded engine knows users and roles from a file only, so that the statements that make them are checked by its
parser, and what they grant by the engine itself (tests/limited_engine.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from confluent_kafka.admin import AdminClient

from audit.api.permissions import OPERATIONS
from infra.cli.main import lineage
from sinks.clickhouse import migrate
from sinks.clickhouse.accounts import ROLES, UsersError, read_users, role_statements, user_statements
from sinks.clickhouse.births import candidates, known_requests, people, waiting_requests
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasable import PLACES, Shown
from sinks.clickhouse.erasures import (
    disclosures,
    erasure_request,
    insert_erasure_states,
    markers,
    new_disclosures,
    open_request_of,
    subjects_of_aliases,
)
from sinks.clickhouse.insert import insert_subjects
from sinks.clickhouse.judged import Scope, facts_of_people, judged_events, months_of_events
from sinks.clickhouse.lineage_table import LineageTable
from sinks.clickhouse.projected_rows import ERASURE_REQUESTS, SUBJECTS, ProjectedRows
from sinks.clickhouse.purge import purge, purge_stale, rows_of_people
from sinks.clickhouse.queries import count_events, linked_aliases
from sinks.clickhouse.stored_rows import StoredRows
from sinks.clickhouse.verdicts import StoredVerdicts
from streams.kafka import Kafka
from streams.publishing import publish_policies, publish_recipients
from streams.topics import apply, plan
from tests import audit_world as world
from tests.api_process import api_process
from tests.audit_world import BOB, CROWD, named
from tests.integration.test_audit_api import ASKED, V1, WHY
from tests.integration.test_clickhouse_sink import records
from tests.integration.test_erasures import erasure_state
from tests.kafka_fixture import KafkaForTests
from tests.limited_engine import limited
from tests.lives_table import KNOWLEDGE, NOW

pytestmark = pytest.mark.clickhouse

DATABASE = "company"
DENIED = 497
PEPPER = b"p" * 32
EVERYTHING = ["ALL ON *.* WITH GRANT OPTION"]
MIGRATOR = {"migrator": ROLES["lineage_migrations"].grants(DATABASE)}


def url(port: int) -> str:
    return f"clickhouse://127.0.0.1:{port}/{DATABASE}"


def create_database(folder: Path) -> None:
    (folder / "engine").mkdir()
    with limited(folder, EVERYTHING) as port, Client("127.0.0.1", port) as client:
        client.execute(f"CREATE DATABASE {DATABASE}")


def migrations() -> list[migrate.Migration]:
    """The account of the embedded engine is the one under test, hence cannot be whose rights the views have."""
    return [migrate.Migration(m.name, m.text.replace("CURRENT_USER", "migrator")) for m in migrate.migrations()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with people in it, whose views read with the rights of the role lineage_migrations."""
    folder = tmp_path_factory.mktemp("accounts")
    create_database(folder)
    with limited(folder, EVERYTHING, MIGRATOR) as port, connect(url(port)) as client:
        migrate.apply(client, known=migrations())
        world.fill(client, PEPPER)
    return folder


def test_migrations_run_with_their_role(tmp_path: Path) -> None:
    create_database(tmp_path)
    with limited(tmp_path, ROLES["lineage_migrations"].grants(DATABASE)) as port, connect(url(port)) as client:
        assert migrate.apply(client) == migrate.migrations()
        assert migrate.plan(client) == []
        assert execute(client, "SELECT count() FROM lineage") == [(0,)]
        assert not allowed(client, "SELECT count() FROM disclosures"), "whose rights a view has need not read it"
        assert not allowed(client, "SELECT * FROM subjects")
        assert not allowed(client, "ALTER TABLE lineage DELETE WHERE 0")
        assert not allowed(client, "ALTER TABLE lineage UPDATE source = '' WHERE 0")
        assert not allowed(client, "DROP TABLE lineage")


# What each job does


def loads(client: Client) -> None:
    table = LineageTable(client)
    new = records("ConsentRecorded", {"action": "accept", "version": 1})
    table.insert(new, "t")
    assert list(table.present(3, 0, 10)) == [0]
    assert table.recorded_facts([(3, 0, 10)])
    table.late_facts(table.facts(new))


def links(client: Client) -> None:
    import numpy as np

    ids = np.frombuffer(uuid4().bytes, np.uint8).reshape(-1, 16)
    insert_subjects(client, ids, ids, np.array([1], np.uint64), "a")
    insert_subjects(client, ids, np.zeros((1, 16), np.uint8), np.array([2], np.uint64), "b")
    assert purge_stale(client, "subjects") == 1


def requests(client: Client) -> None:
    request_id = uuid4()
    state = erasure_state(request_id, alias=uuid4().bytes, subject=uuid4().bytes)
    insert_erasure_states(client, [state], [1], "open")
    ended = erasure_state(request_id, state="completed", ended_at=state["received_at"] + 1, version=2)
    insert_erasure_states(client, [ended], [2], "ended")
    assert purge_stale(client, "erasing") == 1


def revises(client: Client) -> None:
    scope = Scope((named(BOB).bytes,), since=0)
    assert len(judged_events(client, scope, 1, 10**9)) == 2
    facts_of_people(client, scope, 1, 10**9)
    months_of_events(client, scope)


def erases(client: Client) -> None:
    view = KNOWLEDGE.view(KNOWLEDGE.epoch(NOW))
    for cause in ("minor", "leave", "withdrawal", "merger", "retention"):
        candidates(client, cause, view, NOW)
    people(client, {named(BOB): None}, NOW)
    waiting_requests(client, ["minor"], "births", NOW)
    known_requests(client, [uuid4()])
    alias = world.alias(PEPPER, CROWD[0])
    [(_, subject)] = subjects_of_aliases(client, [alias]).items()
    markers(client, {uuid4(): subject}, "requested")
    assert disclosures(client, [subject])
    new_disclosures(client, {1: 0}, {1: 10**9}, [subject])
    open_request_of(client, alias)
    erasure_request(client, world.OPEN)
    assert rows_of_people(client, [subject])
    assert purge(client, [subject]).rows == {"lineage": 2, "subjects": 1, "looks": 0}


def commands(client: Client) -> None:
    assert count_events(client)
    assert linked_aliases(client)
    assert open_request_of(client, b"x" * 16)
    assert migrate.plan(client, known=migrations()) == []


def verifies(client: Client) -> None:
    verdicts, stored = StoredVerdicts(client), StoredRows(client)
    assert list(verdicts.that_count(1, 10**9))
    assert list(verdicts.of_subjects([named(BOB).bytes]))
    assert stored.digests({1: 10**9}, [named(BOB).bytes])
    list(verdicts.beyond({1: 0}))
    for place, key in ((SUBJECTS, bytes(16)), (ERASURE_REQUESTS, bytes(16))):
        projected = ProjectedRows(client, place)
        assert projected.at([key]) == {}
        assert projected.unknown([key], 0, 1, 10)
        assert projected.of_subjects([b"\1" * 16], 10) == []


def reads_views(client: Client) -> None:
    assert execute(client, "SELECT count() FROM disclosures") > [(20,)]
    for view in ROLES["lineage_bi"].select:
        execute(client, f"SELECT * FROM {view}")


def oversees(client: Client) -> None:
    execute(client, "SELECT * FROM looks_taken")


JOBS: dict[str, Callable[[Client], None]] = {
    "lineage_loader": loads,
    "lineage_links": links,
    "lineage_requests": requests,
    "lineage_revisions": revises,
    "lineage_erasures": erases,
    "lineage_commands": commands,
    "lineage_verify": verifies,
    "lineage_bi": reads_views,
    "lineage_overseer": oversees,
}

ON_A_TABLE = {
    "select": "SELECT {column} FROM {table} LIMIT 0",
    "insert": "INSERT INTO {table} ({column}) SELECT defaultValueOfTypeName('{type}') WHERE 0",
    "delete": "ALTER TABLE {table} DELETE WHERE 0",
    "truncate": "TRUNCATE TABLE {table}",
    "drop": "DROP TABLE {table}",
    "alter": "ALTER TABLE {table} ADD COLUMN stranger UInt8",
    "rename": "RENAME TABLE {table} TO stranger",
    "optimize": "OPTIMIZE TABLE {table}",
}
ON_THE_SERVER = (
    "CREATE TABLE stranger (a UInt8) ENGINE = MergeTree ORDER BY a",
    "CREATE VIEW stranger AS SELECT 1",
    "CREATE DATABASE stranger",
    "CREATE USER stranger",
    "CREATE ROLE stranger",
    "GRANT SELECT ON company.* TO default",
    "SHOW GRANTS FOR migrator",
    "SELECT name FROM system.users",
    "DROP DATABASE company",
    "SYSTEM STOP MERGES lineage",
    "SYSTEM SHUTDOWN",
    "SYSTEM DROP MARK CACHE",
    "SYSTEM FLUSH LOGS",
    "CREATE FUNCTION stranger AS x -> x",
    "SELECT * FROM file('users.xml', 'TSVRaw', 'a String')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'TSVRaw', 'a String')",
    "SELECT * FROM remote('127.0.0.1:1', 'company', 'lineage')",
    "BACKUP TABLE lineage TO File('x')",
)


def allowed(client: Client, sql: str) -> bool:
    try:
        client.execute(sql)
    except ServerException as refusal:
        return refusal.code != DENIED
    return True


@pytest.fixture(scope="module")
def columns(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Table or view → (name, type) of its columns."""
    found: dict[str, list[tuple[str, str]]] = {}
    with limited(folder, EVERYTHING, MIGRATOR) as port, connect(url(port)) as client:
        sql = "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY position"
        for table, name, type_ in execute(client, sql):
            found.setdefault(table, []).append((name, type_))
    assert found.keys() == PLACES.keys()
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_role_does_its_job_and_nothing_else(
    folder: Path, columns: dict[str, list[tuple[str, str]]], name: str
) -> None:
    role = ROLES[name]
    granted = {"select": role.select, "insert": role.insert, "delete": role.delete}
    with limited(folder, role.grants(DATABASE), MIGRATOR) as port, connect(url(port)) as client:
        JOBS[name](client)
        wrong = []
        for table, (first, *_) in columns.items():
            words = {"table": table, "column": f"`{first[0]}`", "type": first[1].replace("'", "\\'")}
            for what, sql in ON_A_TABLE.items():
                if isinstance(PLACES[table], Shown) and what not in ("select", "drop"):
                    continue
                if allowed(client, sql.format(**words)) != (table in granted.get(what, ())):
                    wrong.append(f"{what} {table}")
            for column in PLACES[table].columns if not isinstance(PLACES[table], Shown) else ():
                may = allowed(client, f"ALTER TABLE {table} UPDATE `{column}` = `{column}` WHERE 0")
                if may != (column in role.empties.get(table, ())):
                    wrong.append(f"update {table}.{column}")
        wrong += [sql for sql in ON_THE_SERVER if allowed(client, sql)]
    assert not wrong, f"{name} may do, or may not do: {wrong}"


def test_the_api_answers_everything_with_its_role(
    folder: Path, columns: dict[str, Any], kafka: KafkaForTests, tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    publish_policies(Kafka(kafka.bootstrap), world.policies())
    publish_recipients(Kafka(kafka.bootstrap), world.recipients())
    role = ROLES["lineage_api"]
    with limited(folder, role.grants(DATABASE), MIGRATOR) as port:
        with (
            api_process(tmp_path, kafka.bootstrap, url(port), LINEAGE_PEPPER_FILE=_pepper(tmp_path)) as api,
            api.client(api.token("ada", "auditor", "overseer", "eraser")) as client,
        ):
            client.headers.update(WHY)
            for name, (path, body) in ASKED.items():
                answer = client.request(OPERATIONS[name].method, V1 + path, json=body)
                assert answer.status_code == 200, (name, answer.text)
            assert client.get(f"{V1}/looks").json()["looks"]
            assert client.get("/readyz").status_code == 200
            assert "lineage_" in client.get("/metrics").text
        with connect(url(port)) as direct:
            for table in columns:
                assert allowed(direct, f"SELECT 1 FROM {table} LIMIT 0") == (table in role.select), table
                assert not allowed(direct, f"DROP TABLE {table}"), table
            assert not allowed(direct, "ALTER TABLE looks DELETE WHERE 1"), "who looked cannot be taken back"


def _pepper(folder: Path) -> str:
    (folder / "pepper").write_bytes(PEPPER)
    return str(folder / "pepper")


# The statements


@pytest.mark.parametrize("cluster", [None, "main"])
def test_the_statements_are_well_formed(clickhouse: Any, cluster: str | None) -> None:
    users = read_users("ada lineage_bi it's a \\ secret\n# a comment\n\nloader-1 lineage_loader x")
    with clickhouse.database().client() as client:
        for statement in role_statements("my db", cluster) + user_statements(users, cluster):
            [(formatted,)] = execute(client, "SELECT formatQuery(%(sql)s)", {"sql": statement})
            assert ("ON CLUSTER main" in formatted) is bool(cluster), formatted


def test_no_password_is_printed_and_each_hash_is_salted_anew() -> None:
    users = read_users("ada lineage_bi open sesame\nbob lineage_bi open sesame")
    first, again = user_statements(users), user_statements(users)
    assert "sesame" not in "".join(first) + repr(users)
    hashes = re.findall(r"BY '([0-9a-f]{64})'", "".join(first + again))
    assert len(set(hashes)) == len(hashes) / 2 == 4, "in CREATE and ALTER the same"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ada lineage_bi", "line 1: expected USER ROLE PASSWORD"),
        ("\nada admin secret", "line 2: there is no role admin"),
        ("lineage_bi lineage_bi secret", "the name of a role"),
    ],
)
def test_what_is_wrong_with_a_list_of_users_is_told(text: str, message: str) -> None:
    with pytest.raises(UsersError, match=message) as refused:
        read_users(text)
    assert "secret" not in str(refused.value)


def test_the_command_prints_the_statements(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("ada lineage_bi open sesame\n")
    done = CliRunner().invoke(lineage, ["migrate", "accounts", "--database", DATABASE, "--users", str(file)])
    assert done.exit_code == 0, done.output
    statements = done.output.rstrip().removesuffix(";").split(";\n")
    assert statements[: len(role_statements(DATABASE))] == role_statements(DATABASE)
    assert "GRANT `lineage_bi` TO `ada`" in statements
    assert "sesame" not in done.output
    file.write_text("ada lineage_bi")
    failed = CliRunner().invoke(lineage, ["migrate", "accounts", "--database", "x", "--users", str(file)])
    assert failed.exit_code != 0
    assert "line 1" in failed.output + str(failed.exception)


# The documentation


@pytest.fixture
def documented() -> list[list[str]]:
    """The lines of the table of roles in docs/permissions.md."""
    text = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text("utf-8").partition("## In ClickHouse")[2]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `lineage_.*", text, re.M)
    ]


def test_the_documentation_says_what_each_role_may(documented: list[list[str]]) -> None:
    told = {line[0].strip("`"): [set(re.findall(r"`([\w.]+)`", cell)) for cell in line[2:5]] for line in documented}
    assert told == {name: [set(r.select), set(r.insert), set(r.delete)] for name, r in ROLES.items()}
