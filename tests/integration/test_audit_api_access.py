"""The audit API's door on the real parts: every role on every operation, looks recorded, limits, errors, injection."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from clickhouse_driver import Client

from audit.api.errors import CODES
from audit.api.permissions import OPERATIONS
from infra.api.authentication import create_token, revoke
from processors.api_clients import ROLES
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.purge import purge
from tests.api_process import ApiProcess, api_process
from tests.audit_world import ANN, CROWD, GONE, STRANGER, named
from tests.integration.test_audit_api import ASKED, INCIDENT, V1, WHY, lines_of, ok, paged
from tests.integration.test_audit_api import api as api
from tests.kafka_fixture import KafkaForTests


@pytest.fixture(scope="module")
def clients(api: ApiProcess) -> Iterator[dict[str, httpx.Client]]:
    """A client of each role; its name is the role."""
    found = {role: api.client(api.token(role, role)) for role in ROLES}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def database(api: ApiProcess) -> Iterator[Client]:
    connected = connect(api.settings.clickhouse())
    yield connected
    connected.disconnect()


def ask(client: httpx.Client, operation: str, **headers: Any) -> httpx.Response:
    path, body = ASKED[operation]
    return client.request(OPERATIONS[operation].method, V1 + path, json=body, headers={**WHY, **headers})


def refused(answer: httpx.Response, code: str) -> str:
    """The text of an error, which has the form of all errors."""
    assert (answer.status_code, answer.headers["content-type"]) == (CODES[code], "application/json"), answer.text
    error = answer.json()
    assert error.keys() == {"error"}
    assert error["error"].keys() == {"code", "message"}
    assert error["error"]["code"] == code
    return str(error["error"]["message"])


def look_count(database: Client) -> int:
    return int(execute(database, "SELECT count() FROM looks")[0][0])


# Who may


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_role_reaches_what_the_matrix_gives_it_and_nothing_else(
    clients: dict[str, httpx.Client], database: Client, operation: str
) -> None:
    for role, client in clients.items():
        before = look_count(database)
        answer = ask(client, operation)
        if role in OPERATIONS[operation].roles:
            assert answer.status_code == 200, (role, answer.text)
        else:
            assert "docs/permissions.md" in refused(answer, "forbidden")
        recorded = look_count(database) - before
        assert recorded == (OPERATIONS[operation].is_look and answer.status_code == 200), role


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_comes_in_without_a_token_that_holds(api: ApiProcess, operation: str) -> None:
    expired = create_token(api.settings.api_clients(), "late", ["auditor"], days=0)
    gone = api.token("gone", "auditor")
    revoke(api.settings.api_clients(), "gone")
    for authorization in (
        "",
        "Basic YTpi",
        "Bearer",
        "Bearer nonsense",
        f"Bearer {expired}",
        f"Bearer {gone}",
        b"\xff",
    ):
        with api.client() as client:
            answer = ask(client, operation, Authorization=authorization)
        refused(answer, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_several_roles_of_one_client_add_up(api: ApiProcess, clients: dict[str, httpx.Client]) -> None:
    with api.client(api.token("both", "clerk", "overseer")) as both:
        assert ask(both, "lineage").status_code == 200
        names = {look["client"] for look in ok(both.get(f"{V1}/looks?limit=1000"))["looks"]}
        assert {"both", "auditor"} <= names


# Looks


def test_a_look_is_recorded_with_who_whom_when_and_why(
    api: ApiProcess, clients: dict[str, httpx.Client], database: Client
) -> None:
    begun = datetime.now(UTC)
    with api.client(api.token("eve", "clerk")) as eve:
        for body, why in (({}, "from the header"), ({"reason": "申请  4711\n"}, "申请 4711")):
            answer = eve.post(
                f"{V1}/subjects/lineage", json={"user": ANN, **body}, headers={"X-Reason": "from the header"}
            )
            assert answer.status_code == 200
            look = ok(eve.get(f"{V1}/looks?limit=1"))["looks"][0]
            shown = {name: look[name] for name in ("client", "role", "operation", "people", "subject", "reason")}
            assert shown == {
                "client": "eve",
                "role": "clerk",
                "operation": "lineage",
                "people": 1,
                "subject": str(named(ANN)),
                "reason": why,
            }
        assert ask(eve, "lineage", **{"X-Reason": "投诉人".encode()}).status_code == 200
        assert ok(eve.get(f"{V1}/looks?limit=1"))["looks"][0]["reason"] == "投诉人"
        assert begun - timedelta(seconds=1) < datetime.fromisoformat(look["at"]) < datetime.now(UTC)
        for user in (GONE, STRANGER):
            eve.post(f"{V1}/subjects/access-report", json={"user": user, "reason": "who is it"})
        for look in ok(eve.get(f"{V1}/looks?limit=2"))["looks"]:
            assert (look["people"], look["subject"], look["operation"]) == (0, None, "access_report")
    assert {look["client"] for look in ok(clients["overseer"].get(f"{V1}/looks?client=eve"))["looks"]} == {"eve"}


def test_a_look_at_many_is_recorded_with_what_was_asked(clients: dict[str, httpx.Client]) -> None:
    ask(clients["auditor"], "incident")
    [look] = ok(clients["auditor"].get(f"{V1}/looks?limit=1"))["looks"]
    assert (look["operation"], look["people"], look["subject"], look["reason"]) == ("incident", 2, None, None)
    assert look["subject_matter"] == (
        "recipient glacier-backup from 2026-03-05T00:00:00.000Z to 2026-04-01T00:00:00.000Z: case 4711"
    )


@pytest.mark.parametrize("operation", [name for name, one in OPERATIONS.items() if one.is_look])
@pytest.mark.parametrize("reason", ["", "ab", "x" * 501, "a\tb\x07c"])
def test_no_look_without_a_reason(
    clients: dict[str, httpx.Client], database: Client, operation: str, reason: str
) -> None:
    before = look_count(database)
    text = refused(ask(clients["auditor"], operation, **{"X-Reason": reason}), "reason_required")
    assert "X-Reason" in text
    assert look_count(database) == before


def test_clients_see_their_own_looks_and_overseers_all(clients: dict[str, httpx.Client]) -> None:
    for role in ("auditor", "clerk"):
        ask(clients[role], "lineage")
        assert {look["client"] for look in lines_of(clients[role], "GET", "/looks")} == {role}
        assert {look["client"] for look in lines_of(clients[role], "GET", f"/looks?client={role}")} == {role}
    refused(clients["auditor"].get(f"{V1}/looks?client=clerk"), "forbidden")
    overseer = clients["overseer"]
    every = lines_of(overseer, "GET", "/looks")
    assert {"auditor", "clerk"} <= {look["client"] for look in every}
    assert every == sorted(every, key=lambda look: look["at"], reverse=True)
    assert paged(overseer, "/looks", "looks", max(1, len(every) // 3)) == every
    at_ann = lines_of(overseer, "GET", f"/looks?subject={named(ANN)}&operation=lineage")
    assert at_ann == [x for x in every if (x["subject"], x["operation"]) == (str(named(ANN)), "lineage")]
    newest, oldest = every[0]["at"], every[-1]["at"]
    assert lines_of(overseer, "GET", f"/looks?to={newest}") == [look for look in every if look["at"] < newest]
    assert lines_of(overseer, "GET", f"/looks?from={oldest}") == every


def test_looks_of_many_at_once_are_all_recorded(api: ApiProcess, clients: dict[str, httpx.Client]) -> None:
    users = [ANN, *CROWD[:19]] * 2
    with api.client(api.token("busy", "clerk")) as busy, ThreadPoolExecutor(12) as pool:
        asked = pool.map(lambda user: busy.post(f"{V1}/subjects/lineage", json={"user": user}, headers=WHY), users)
        assert [answer.status_code for answer in asked] == [200] * len(users)
    found = [look["subject"] for look in lines_of(clients["overseer"], "GET", "/looks?client=busy")]
    assert sorted(found) == sorted(str(named(user)) for user in users)


def test_what_cannot_be_recorded_is_not_answered(clients: dict[str, httpx.Client], database: Client) -> None:
    execute(database, "RENAME TABLE looks TO elsewhere")
    try:
        for operation, served in OPERATIONS.items():
            if served.is_look:
                answer = ask(clients["auditor"], operation)
                refused(answer, "unavailable")
                assert answer.headers["retry-after"]
                assert str(named(ANN)) not in answer.text
    finally:
        execute(database, "RENAME TABLE elsewhere TO looks")
    assert ask(clients["auditor"], "lineage").status_code == 200


def test_of_an_erased_person_the_look_stays_and_at_whom_and_why_goes(
    clients: dict[str, httpx.Client], database: Client
) -> None:
    user = CROWD[-1]
    ok(clients["clerk"].post(f"{V1}/subjects/accounting", json={"user": user, "reason": f"a letter of {user}"}))
    [look] = lines_of(clients["overseer"], "GET", f"/looks?subject={named(user)}")
    assert look["reason"] == f"a letter of {user}"
    purged = purge(database, [named(user)])
    assert purged.rows["looks"] == 1
    assert lines_of(clients["overseer"], "GET", f"/looks?subject={named(user)}") == []
    kept = {one["look_id"]: one for one in lines_of(clients["overseer"], "GET", "/looks")}[look["look_id"]]
    assert kept == {**look, "subject": None, "reason": None}


# Errors, limits, injection


def test_errors_say_what_is_wrong_and_quote_nothing(clients: dict[str, httpx.Client]) -> None:
    auditor = clients["auditor"]
    secret = "someone@example.org"
    for body in (
        {},
        {"user": ""},
        {"user": secret * 100},
        {"user": 7},
        {"user": [secret]},
        {"user": secret, "as_of": "yesterday"},
        {"user": secret, "as_of": "2026-03-01T08:00:00"},
        {"user": secret, "as_of": 17},
        {"user": secret, "as_of": "9999-12-31T00:00:00Z"},
        {"user": secret, "limit": 0},
        {"user": secret, "limit": 1001},
        {"user": secret, "policy_version": 2**63},
        {"user": secret, "uesr": secret},
        {"user": secret, secret: 1},
        [secret],
        secret,
        None,
    ):
        answer = auditor.post(f"{V1}/subjects/lineage", json=body, headers=WHY)
        assert secret not in refused(answer, "invalid_request").replace(f"body.{secret}", "")
    refused(auditor.post(f"{V1}/subjects/lineage", json={"user": secret, "reason": " \n "}), "reason_required")
    for content in (b"", b"{", b"\xff\xfe", b'{"user": "\\ud800"}', b'{"user": "a", "limit": 1e99}', b"[" * 100_000):
        refused(auditor.post(f"{V1}/subjects/lineage", content=content, headers=WHY), "invalid_request")
    for query in (
        "limit=0",
        "limit=x",
        "verdict=guilty",
        "activity=consent",
        "from=x",
        "recipient=",
        "from=2026-03-01",
    ):
        refused(auditor.get(f"{V1}/events?{query}"), "invalid_request")
    for query in ("from=2026-03-01T00:00:00Z", "to=1969-12-31", "to=2149-01-01", "from=20260301", "limit=1001"):
        refused(auditor.get(f"{V1}/verdicts?{query}"), "invalid_request")
    for path in ("/events", "/recipients", "/verdicts", "/requests", "/looks"):
        for cursor in ("x", "eyJ9", "AAAA", "%00", "a" * 400):
            refused(auditor.get(f"{V1}{path}?cursor={cursor}"), "bad_cursor")
    other = ok(auditor.get(f"{V1}/events?limit=1"))["next"]
    refused(auditor.get(f"{V1}/events?limit=1&verdict=lawful&cursor={other}"), "bad_cursor")


def test_what_is_not_there(clients: dict[str, httpx.Client]) -> None:
    auditor = clients["auditor"]
    for path in ("/", "/nothing", "/subjects", "/docs", "/looks/", "/recipients/a/b"):
        refused(auditor.get(f"{V1}{path}"), "not_found")
    refused(auditor.delete(f"{V1}/looks"), "method_not_allowed")
    refused(auditor.get(f"{V1}/subjects/accounting"), "method_not_allowed")


def test_a_body_that_is_too_large(clients: dict[str, httpx.Client]) -> None:
    answer = clients["auditor"].post(f"{V1}/subjects/lineage", content=b"x" * (300 << 10), headers=WHY)
    refused(answer, "too_large")


INJECTED = [
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "x'); DROP TABLE lineage; --",
    "%(limit)s",
    "{conditions}",
    "%s%n%%",
    "`; SELECT 1",
    "a\x00b",
    "'||(SELECT subject FROM subjects LIMIT 1)||'",
    "\\",
    "))) UNION ALL SELECT alias FROM subjects --",
    "\N{RIGHT SINGLE QUOTATION MARK}\U0001f600\u202e",
]


@pytest.mark.parametrize("text", INJECTED)
def test_nothing_that_is_sent_becomes_sql(clients: dict[str, httpx.Client], database: Client, text: str) -> None:
    auditor, overseer = clients["auditor"], clients["overseer"]
    tables = execute(database, "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase()")
    rows = {name: n for name, n in tables if name != "looks"}
    for path, names in {
        "/events": ("recipient", "purpose", "clause"),
        "/verdicts": ("recipient", "purpose", "clause"),
        "/purposes": ("recipient",),
        "/clauses": ("recipient", "purpose"),
        "/requests": ("state",),
    }.items():
        for name in names:
            [found] = [v for k, v in ok(auditor.get(V1 + path, params={name: text})).items() if k != "next"]
            assert sum(entry.get("events", 1) for entry in found) == 0, (path, name)
    assert ok(overseer.get(f"{V1}/looks", params={"client": text}))["looks"] == []
    assert ok(overseer.get(f"{V1}/looks", params={"operation": text}))["looks"] == []
    assert ok(auditor.post(f"{V1}/subjects/lineage", json={"user": text}, headers=WHY))["subject"] is None
    refused(auditor.post(f"{V1}/incidents", json={**INCIDENT, "recipient": text}, headers=WHY), "not_found")
    refused(auditor.get(f"{V1}/recipients/{httpx.QueryParams({'x': text})}"[:900]), "not_found")
    if text.isprintable():
        body = {"user": ANN, "reason": text.ljust(3) + " !"}
        assert ok(auditor.post(f"{V1}/subjects/accounting", json=body))["subject"] == str(named(ANN))
        look = ok(auditor.get(f"{V1}/looks?limit=1"))["looks"][0]
        assert look["reason"] == " ".join(body["reason"].split())
    for cursor in (text, f"eyJ{text}"):
        answer = auditor.get(f"{V1}/events", params={"cursor": cursor})
        refused(answer, "bad_cursor")
    after = execute(database, "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase()")
    assert {name: n for name, n in after if name != "looks"} == rows


def test_who_asks_too_often_is_told_when_to_come_again(
    api: ApiProcess, kafka: KafkaForTests, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("slow")
    with (
        api_process(data, kafka.bootstrap, api.settings.clickhouse(), LINEAGE_API_RATE="0.1") as slow,
        slow.client(slow.token("busy", "engineer")) as busy,
        slow.client(slow.token("calm", "engineer")) as calm,
    ):
        assert busy.get(f"{V1}/requests").status_code == 200
        answer = busy.get(f"{V1}/requests")
        refused(answer, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert calm.get(f"{V1}/requests").status_code == 200


def test_no_user_id_and_no_token_stands_in_the_log(api: ApiProcess, clients: dict[str, httpx.Client]) -> None:
    ask(clients["auditor"], "lineage_by_query")
    log = api.log.read_text()
    assert ANN not in log
    assert ANN.replace("@", "%40") not in log
    assert "lineage_" not in log
    assert str(named(ANN)) not in log


def test_a_subject_is_never_taken_for_a_user(clients: dict[str, httpx.Client]) -> None:
    """A look by subject would need no user id: who has only a subject finds nobody by it."""
    for user in (str(named(ANN)), str(UUID(int=0))):
        found: Any = clients["auditor"].post(f"{V1}/subjects/lineage", json={"user": user}, headers=WHY)
        assert ok(found)["subject"] is None
