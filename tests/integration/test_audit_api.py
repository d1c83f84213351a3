"""The audit API as a process on real Kafka and ClickHouse: what each operation answers, its pages and its errors."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from audit.api.examples import examples
from audit.api.permissions import OPERATIONS
from audit.exports.export import FORMATS
from processors.pseudonyms import alias
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from streams.kafka import Kafka
from streams.publishing import publish_policies, publish_recipients
from streams.topics import apply, plan
from tests import audit_world as world
from tests.api_process import ApiProcess, api_process
from tests.audit_world import ANN, BOB, CROWD, GONE, STRANGER, named
from tests.kafka_fixture import KafkaForTests

V1 = "/api/v1"
WHY = {"X-Reason": "case 4711"}


@pytest.fixture(scope="module")
def api(kafka: KafkaForTests, clickhouse: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    publish_policies(Kafka(kafka.bootstrap), world.policies())
    publish_recipients(Kafka(kafka.bootstrap), world.recipients())
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    with api_process(tmp_path_factory.mktemp("api"), kafka.bootstrap, url) as running:
        world.fill(client, running.settings.pepper())
        client.disconnect()
        yield running


@pytest.fixture(scope="module")
def auditor(api: ApiProcess) -> Iterator[httpx.Client]:
    with api.client(api.token("ada", "auditor")) as client:
        client.headers.update(WHY)
        yield client


@pytest.fixture(scope="module")
def eraser(api: ApiProcess) -> Iterator[httpx.Client]:
    with api.client(api.token("eve", "eraser")) as client:
        yield client


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


INCIDENT = {"recipient": "glacier-backup", "from": "2026-03-05T00:00:00Z", "to": "2026-04-01T00:00:00Z"}
# A request of every operation that is answered: path and body.
ASKED: dict[str, tuple[str, dict[str, Any] | None]] = {
    "lineage": ("/subjects/lineage", {"user": ANN}),
    "lineage_by_query": (f"/subjects/lineage?user={ANN}", None),
    "accounting": ("/subjects/accounting", {"user": ANN}),
    "access_report": ("/subjects/access-report", {"user": ANN}),
    "export": ("/subjects/export", {"user": ANN, "format": "csv"}),
    "event": (f"/events/{named('ann to ads')}", None),
    "events": ("/events?limit=2", None),
    "incident": ("/incidents", INCIDENT),
    "recipients": ("/recipients?limit=2", None),
    "recipient": ("/recipients/lumen-analytics", None),
    "purposes": ("/purposes", None),
    "clauses": ("/clauses", None),
    "verdicts": ("/verdicts?limit=2", None),
    "totals": ("/totals", None),
    "requests": ("/requests", None),
    "request": (f"/requests/{world.DONE}", None),
    "certificate": (f"/requests/{world.DONE}/certificate", None),
    "retry": (f"/requests/{world.OPEN}/retry", {"recipient": "glacier-backup"}),
    "confirm": (f"/requests/{world.OPEN}/confirm", {"recipient": "glacier-backup", "note": "e-mail of 3 May"}),
    "exempt": (f"/requests/{world.OPEN}/exempt", {"recipient": "glacier-backup", "ground": "tax law"}),
    "looks": ("/looks", None),
}


@pytest.fixture(scope="module")
def answers(auditor: httpx.Client, eraser: httpx.Client) -> dict[str, httpx.Response]:
    """The answer to each of `ASKED`."""
    return {
        name: (auditor if "auditor" in OPERATIONS[name].roles else eraser).request(
            OPERATIONS[name].method, V1 + path, json=body
        )
        for name, (path, body) in ASKED.items()
    }


def lines_of(client: httpx.Client, method: str, path: str, body: Any = None) -> list[Any]:
    """All entries, one a line."""
    answer = client.request(method, V1 + path, json=body, headers={"Accept": "application/x-ndjson"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def paged(client: httpx.Client, path: str, name: str, limit: int) -> list[Any]:
    """All entries of a list, page by page; no page is longer than it may be, and only the last one is shorter."""
    found: list[Any] = []
    asked = f"{V1}{path}{'&' if '?' in path else '?'}limit={limit}"
    cursor = ""
    while True:
        page = ok(client.get(asked + cursor))
        found += page[name]
        if page["next"] is None:
            assert len(page[name]) <= limit
            return found
        assert len(page[name]) == limit
        cursor = f"&cursor={page['next']}"


def person(client: httpx.Client, path: str, user: str, **body: Any) -> Any:
    return ok(client.post(f"{V1}/subjects/{path}", json={"user": user, **body}))


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_id"] for event in events]


# One person


def test_a_lineage_has_each_event_once_with_its_hop_and_the_verdict_that_counts(auditor: httpx.Client) -> None:
    found = person(auditor, "lineage", ANN)
    assert found["subject"] == str(named(ANN))
    told = [(e["activity"], e["recipient"], e["verdict"], e["revision"], e["hop"]) for e in found["events"]]
    assert told == [
        ("consent", None, None, 0, 0),
        ("collect", None, "lawful", 0, 0),
        ("share", "lumen-analytics", "lawful", 0, 1),
        ("share", "glacier-backup", "violation", 0, 2),
        ("share", "brightlane-ads", "lawful", 7, 1),
        ("share", "nobody-knows", "gap", 0, 1),
    ]
    assert found["events"][2]["consents"] == [str(named("ann accepts"))]
    assert ok(auditor.get(f"{V1}/subjects/lineage", params={"user": ANN})) == found
    assert lines_of(auditor, "POST", "/subjects/lineage", {"user": ANN}) == found["events"]


def test_a_lineage_as_of_a_moment_with_all_revisions_and_under_a_policy(auditor: httpx.Client) -> None:
    early = person(auditor, "lineage", ANN, as_of="2026-03-03T16:00:00+08:00")
    assert ids(early["events"]) == [str(named(name)) for name in ("ann accepts", "ann opens", "ann to lumen")]
    every = person(auditor, "lineage", ANN, all_revisions=True)["events"]
    assert [e["revision"] for e in every if e["recipient"] == "brightlane-ads"] == [0, 7]
    under = person(auditor, "lineage", ANN, policy_version=1)["events"]
    assert {e["policy_version"] for e in under if e["verdict"]} == {1}
    assert auditor.post(f"{V1}/subjects/lineage", json={"user": ANN, "policy_version": 9}).status_code == 404
    both = auditor.post(f"{V1}/subjects/lineage", json={"user": ANN, "policy_version": 1, "all_revisions": True})
    assert both.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("user", [GONE, STRANGER, "x" * 512, "用户", "a\x00b", "'; DROP TABLE lineage; --"])
def test_of_nobody_there_is_nothing(auditor: httpx.Client, user: str) -> None:
    assert person(auditor, "lineage", user) == {"subject": None, "events": [], "next": None}
    assert person(auditor, "accounting", user)["disclosures"] == []
    assert person(auditor, "access-report", user)["subject"] is None


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_a_lineage_in_pages_is_the_whole_of_it(auditor: httpx.Client, limit: int) -> None:
    whole = person(auditor, "lineage", ANN, all_revisions=True)["events"]
    found: list[Any] = []
    body: dict[str, Any] = {"all_revisions": True, "limit": limit}
    while True:
        page = person(auditor, "lineage", ANN, **body)
        found += page["events"]
        if page["next"] is None:
            break
        body["cursor"] = page["next"]
    assert found == whole


def test_an_accounting_has_date_nature_purpose_and_who_received_it(auditor: httpx.Client) -> None:
    found = person(auditor, "accounting", ANN)["disclosures"]
    assert [(d["recipient"]["id"], d["verdict"]) for d in found] == [
        ("lumen-analytics", "lawful"),
        ("glacier-backup", "violation"),
        ("brightlane-ads", "lawful"),
        ("nobody-knows", "gap"),
    ]
    assert found[1] == {
        "date": "2026-03-04T08:00:00.000Z",
        "nature": {
            "activity": "share",
            "data_categories": ["user.device", "user.telemetry"],
            "discloser": "lumen-analytics",
            "hop": 2,
        },
        "purpose": {"id": "development", "clause": "2.3", "heading": "Product development and optimization"},
        "recipient": {
            "id": "glacier-backup",
            "name": "Glacier Backup",
            "contact": "privacy@glacier.example",
            "kind": "partner",
            "country": "CN",
        },
        "legal_basis": "none",
        "verdict": "violation",
        "clauses": ["3.1(4)"],
        "event_id": str(named("ann to glacier")),
    }
    assert (found[3]["recipient"]["name"], found[3]["recipient"]["contact"]) == (None, None)
    some = {"from": "2026-03-04T08:00:00Z", "to": "2026-03-06T08:00:00Z"}
    assert ids(person(auditor, "accounting", ANN, **some)["disclosures"]) == ids(found[1:3])
    first = person(auditor, "accounting", ANN, limit=3)
    rest = person(auditor, "accounting", ANN, limit=3, cursor=first["next"])
    assert (first["disclosures"] + rest["disclosures"], rest["next"]) == (found, None)


def test_the_access_report_and_every_export(auditor: httpx.Client) -> None:
    report = person(auditor, "access-report", ANN)
    assert (report["subject"], report["summary"]["disclosures"]) == (str(named(ANN)), 4)
    for name, form in FORMATS.items():
        answer = auditor.post(f"{V1}/subjects/export", json={"user": ANN, "format": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, form.media_type)
        assert ANN not in answer.headers["content-disposition"]
        assert answer.content
        assert ANN.encode() not in answer.content
    unknown = auditor.post(f"{V1}/subjects/export", json={"user": ANN, "format": "docx"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "invalid_request")


# Events


def test_an_event_is_explained(auditor: httpx.Client) -> None:
    found = ok(auditor.get(f"{V1}/events/{named('ann to ads')}"))
    assert (found["subject"], found["verdict"], found["revision"]) == (str(named(ANN)), "lawful", 7)
    assert [(r["revision"], r["verdict"]) for r in found["revisions"]] == [(0, "violation"), (7, "lawful")]
    assert found["facts"]["recipient"]["name"] == "Brightlane Ads"
    assert "Brightlane Ads" in found["text"]
    missing = auditor.get(f"{V1}/events/{named('no such event')}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert auditor.get(f"{V1}/events/17").status_code == 400


def judged() -> dict[str, dict[str, Any]]:
    """Every collection and disclosure of the world, once, by the row that counts."""
    rows = sorted(world.rows(), key=lambda row: row.get("revision", 0))
    return {str(row["event_id"]): row for row in rows if row["activity"] != "consent"}


def newest_first(chosen: Callable[[dict[str, Any]], bool]) -> list[set[str]]:
    """The ids of chosen events, in groups of the same moment."""
    found = [(row["occurred_at"], event) for event, row in judged().items() if chosen(row)]
    ordered = groupby(sorted(found, reverse=True), key=lambda one: one[0])
    return [{event for _, event in group} for _, group in ordered]


FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "": lambda row: True,
    "recipient=glacier-backup": lambda row: row.get("recipient") == "glacier-backup",
    "verdict=violation": lambda row: row["verdict"] == "violation",
    "verdict=gap&recipient=lumen-analytics": lambda row: False,
    "clause=3.1(4)&verdict=lawful": lambda row: "3.1(4)" in row["clauses"] and row["verdict"] == "lawful",
    "purpose=ad_measurement": lambda row: row["purpose"] == "ad_measurement",
    "activity=collect": lambda row: row["activity"] == "collect",
    "from=2026-03-05T08:00:00Z&to=2026-03-18T01:00:00Z": lambda row: (
        world.at("2026-03-05T08:00:00") <= row["occurred_at"] < world.at("2026-03-18T01:00:00")
    ),
    "from=2030-01-01T00:00:00Z": lambda row: False,
    "recipient=%27%20OR%201%3D1%20--": lambda row: False,
}


@pytest.mark.parametrize(("query", "chosen"), FILTERS.items(), ids=FILTERS)
def test_events_are_found_once_each_and_the_newest_first(
    auditor: httpx.Client, query: str, chosen: Callable[[dict[str, Any]], bool]
) -> None:
    whole = lines_of(auditor, "GET", f"/events?{query}")
    in_order = [{event["event_id"] for event in group} for _, group in groupby(whole, key=lambda e: e["occurred_at"])]
    assert in_order == newest_first(chosen)
    assert len(ids(whole)) == len(set(ids(whole)))
    for limit in (max(1, len(whole) // 3), 1000):
        assert paged(auditor, f"/events?{query}", "events", limit) == whole
    assert not {"subject", "alias"} & {name for event in whole for name in event}, "a list of events names nobody"


# Counts


def counted(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    verdicts = Counter(row["verdict"] for row in rows)
    return {"events": verdicts.total(), "by_verdict": {name: verdicts[name] for name in ("lawful", "violation", "gap")}}


@pytest.mark.parametrize(
    ("days", "chosen"),
    [
        ("", lambda day: True),
        ("from=2026-03-05&to=2026-03-20", lambda day: "2026-03-05" <= day < "2026-03-20"),
    ],
)
def test_counts_are_those_of_the_events(auditor: httpx.Client, days: str, chosen: Callable[[str], bool]) -> None:
    rows = [row for row in judged().values() if chosen(f"{row['occurred_at']:%Y-%m-%d}")]

    def of(path: str, name: str, key: str) -> dict[str, Any]:
        entries = {entry[key]: entry for entry in ok(auditor.get(f"{V1}{path}?limit=1000&{days}"))[name]}
        return {
            value: {k: entry[k] for k in ("events", "by_verdict")}
            for value, entry in entries.items()
            if entry["events"]
        }

    def by(values: Callable[[dict[str, Any]], Iterable[str]]) -> dict[str, Any]:
        found = {value for row in rows for value in values(row)}
        return {value: counted(row for row in rows if value in values(row)) for value in found}

    assert of("/recipients", "recipients", "id") == by(lambda row: [row["recipient"]] if "recipient" in row else [])
    assert of("/purposes", "purposes", "purpose") == by(lambda row: [row["purpose"]])
    assert of("/clauses", "clauses", "clause") == by(lambda row: row["clauses"])
    assert of("/verdicts", "verdicts", "day") == by(lambda row: [f"{row['occurred_at']:%Y-%m-%d}"])


def test_verdicts_by_filters_and_in_pages(auditor: httpx.Client) -> None:
    every = paged(auditor, "/verdicts", "verdicts", 1000)
    assert [day["day"] for day in every] == sorted(day["day"] for day in every)
    assert paged(auditor, "/verdicts", "verdicts", 4) == every == lines_of(auditor, "GET", "/verdicts")
    violations = paged(auditor, "/verdicts?verdict=violation&clause=3.1(4)&recipient=lumen-analytics", "verdicts", 1000)
    assert sum(day["events"] for day in violations) == 10
    assert paged(auditor, "/verdicts?recipient=brightlane-ads&verdict=violation", "verdicts", 10) == []


def test_a_recipient_with_all_that_is_known_of_it(auditor: httpx.Client) -> None:
    found = ok(auditor.get(f"{V1}/recipients/lumen-analytics"))
    assert (found["name"], found["people"], found["direct"], found["onward"]) == ("Lumen Analytics", 32, 32, 0)
    assert [(month["month"], month["events"]) for month in found["by_month"]] == [("2026-03", 16), ("2026-04", 16)]
    assert found["passed_on_to"] == [{"recipient": "glacier-backup", "people": 1, "disclosures": 1}]
    assert {c["category"]: c["people"] for c in found["categories"]} == {
        "user.device": 31,
        "user.telemetry": 31,
        "user.unique_id": 1,
    }
    stranger = ok(auditor.get(f"{V1}/recipients/nobody-knows"))
    assert (stranger["registered"], stranger["entries"], stranger["events"]) == (False, [], 1)
    assert auditor.get(f"{V1}/recipients/no-such").status_code == 404
    names = [entry["id"] for entry in paged(auditor, "/recipients", "recipients", 3)]
    assert names == sorted({*(entry["id"] for entry in world.recipients()), "nobody-knows"})


def test_totals(auditor: httpx.Client) -> None:
    found = ok(auditor.get(f"{V1}/totals"))
    assert (found["events"], found["subjects"], found["dead_letters"]) == (len(judged()) + 1, len(CROWD) + 2, 0)
    assert found["by_verdict"] == dict(Counter(row["verdict"] for row in judged().values()).most_common())


# Incidents


def test_an_incident_names_whoever_is_affected_and_says_why(auditor: httpx.Client) -> None:
    found = ok(auditor.post(f"{V1}/incidents", json=INCIDENT))
    summary = found["summary"]
    assert {name: summary[name] for name in ("people", "direct", "onward", "before", "during", "disclosures")} == {
        "people": 2,
        "direct": 1,
        "onward": 1,
        "before": 1,
        "during": 1,
        "disclosures": 2,
    }
    assert summary["recipient"]["contact"] == "privacy@glacier.example"
    assert summary["categories"][0] == {"category": "user.device", "people": 2, "disclosures": 2}
    people = {entry["subject"]: entry for entry in found["people"]}
    assert people.keys() == {str(named(ANN)), str(named(BOB))}
    ann, bob = people[str(named(ANN))], people[str(named(BOB))]
    assert (ann["direct"], ann["onward"], ann["through"], ann["during"]) == (False, True, ["lumen-analytics"], 0)
    assert (bob["direct"], bob["onward"], bob["through"], bob["disclosures"]) == (True, False, [], 1)
    assert "passed them on (onward)" in summary["explanation"][0]
    assert ok(auditor.post(f"{V1}/incidents", json=INCIDENT)) == found


def test_the_alias_of_an_incident_leads_the_app_to_its_user(api: ApiProcess, auditor: httpx.Client) -> None:
    aliases = {entry["alias"] for entry in ok(auditor.post(f"{V1}/incidents", json=INCIDENT))["people"]}
    assert aliases == {alias(api.settings.pepper(), user).hex() for user in (ANN, BOB)}


def test_an_incident_in_pages_is_the_whole_of_it_and_the_erased_are_counted(auditor: httpx.Client) -> None:
    body = {"recipient": "lumen-analytics", "from": "2026-03-04T00:00:00Z", "to": "2026-04-11T00:00:00Z"}
    first = ok(auditor.post(f"{V1}/incidents", json={**body, "limit": 10}))
    # The crowd's first 25 days lie before the end.
    assert first["summary"]["people"] == 27
    assert first["summary"]["erased"] == {"people": 1, "confirmed_before": 1}
    assert "1 people who had been given" in first["summary"]["explanation"][-1]
    people, more = first["people"], first["next"]
    while more is not None:
        page = ok(auditor.post(f"{V1}/incidents", json={**body, "limit": 10, "cursor": more}))
        assert page["summary"] is None
        people, more = people + page["people"], page["next"]
    assert len({entry["subject"] for entry in people}) == len(people) == 27
    assert lines_of(auditor, "POST", "/incidents", body) == people
    other = ok(auditor.post(f"{V1}/incidents", json={**body, "from": "2026-03-02T00:00:00Z"}))
    assert other["summary"]["erased"] == {"people": 1, "confirmed_before": 0}


def test_an_incident_that_cannot_be(auditor: httpx.Client) -> None:
    backwards = auditor.post(f"{V1}/incidents", json={**INCIDENT, "to": INCIDENT["from"]})
    assert backwards.json()["error"]["code"] == "invalid_request"
    assert auditor.post(f"{V1}/incidents", json={**INCIDENT, "recipient": "no-such"}).status_code == 404
    nobody = ok(auditor.post(f"{V1}/incidents", json={**INCIDENT, "recipient": "crashhound"}))
    assert (nobody["summary"]["people"], nobody["people"], nobody["summary"]["first_at"]) == (0, [], None)


# Erasure requests


def test_requests_and_their_certificates(auditor: httpx.Client) -> None:
    every = paged(auditor, "/requests", "requests", 1)
    assert [request["request_id"] for request in every] == [str(world.OPEN), str(world.DONE)]
    assert every == lines_of(auditor, "GET", "/requests")
    assert [r["state"] for r in paged(auditor, "/requests?open=true", "requests", 10)] == ["awaiting"]
    assert [r["state"] for r in paged(auditor, "/requests?state=completed", "requests", 10)] == ["completed"]
    one = ok(auditor.get(f"{V1}/requests/{world.DONE}"))
    assert one == every[1]
    assert {t["recipient"]: t["grade"] for t in one["targets"]}["lumen-analytics"] == "signed"
    certificate = auditor.get(f"{V1}/requests/{world.DONE}/certificate")
    assert (certificate.text, certificate.headers["content-type"]) == (world.CERTIFICATE, "application/jose")
    assert auditor.get(f"{V1}/requests/{world.OPEN}/certificate").status_code == 404
    assert auditor.get(f"{V1}/requests/{named('no such')}").status_code == 404
    assert auditor.get(f"{V1}/requests/{named('no such')}/certificate").status_code == 404


# The description


def test_every_operation_is_described_with_an_example(api: ApiProcess) -> None:
    found = httpx.get(f"{api.url}{V1}/openapi.json").json()
    assert found["servers"] == [{"url": V1}]
    described = {one["operationId"]: one for methods in found["paths"].values() for one in methods.values()}
    assert described.keys() == OPERATIONS.keys()
    for name, operation in described.items():
        content = operation["responses"]["200"]["content"]
        assert "example" in content[examples()[name].media_type]
        assert "422" not in operation["responses"]
        if OPERATIONS[name].method == "POST":
            assert operation["requestBody"]["content"]["application/json"]["example"]
        reasons = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header"]
        assert reasons == (["X-Reason"] if OPERATIONS[name].is_look else [])


def same_shape(example: Any, real: Any, where: str) -> None:
    """The example's keys are those of a real answer, at every depth; of a list its first entries are compared."""
    if isinstance(example, dict) and isinstance(real, dict) and "by_" not in where:
        assert example.keys() == real.keys(), where
        for name in example:
            same_shape(example[name], real[name], f"{where}.{name}")
    elif isinstance(example, list) and isinstance(real, list) and example and real:
        same_shape(example[0], max(real, key=lambda one: str(one).count(":")), f"{where}[]")


@pytest.mark.parametrize("operation", ASKED)
def test_examples_are_like_real_answers(answers: dict[str, httpx.Response], operation: str) -> None:
    answer, example = answers[operation], examples()[operation]
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == example.media_type
    assert (ASKED[operation][1] is None) == (example.body is None)
    if example.is_json:
        same_shape(example.answer, answer.json(), operation)


def test_who_asks_is_asked_before_what_they_ask_is_read(api: ApiProcess) -> None:
    with api.client("lineage_nobody") as nobody:
        answer = nobody.post(f"{V1}/subjects/lineage", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


def test_both_reasons_must_be_one(auditor: httpx.Client) -> None:
    for body in ({"user": ANN, "reason": "x"}, {"user": ANN, "reason": "y" * 501}):
        answer = auditor.post(f"{V1}/subjects/lineage", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "reason_required")


def test_what_is_not_allowed_tells_all_that_is(auditor: httpx.Client) -> None:
    answer = auditor.put(f"{V1}/subjects/lineage")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    "path", ["/recipients/a%0Ab", "/recipients/%0A", "/requests/%0A/certificate", "/%0A", "/no/such"]
)
def test_whatever_the_path_holds_errors_are_told_alike(auditor: httpx.Client, path: str) -> None:
    answer = auditor.get(V1 + path)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("not_found", "invalid_request")
