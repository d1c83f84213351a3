"""The pages that are not about one person, through HTTP on real Kafka and ClickHouse: who sees them, that their figures
are those of the API, what they say, and what becomes of hostile input."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from audit.api.permissions import OPERATIONS
from processors.api_clients import ROLES
from processors.erasure import DAY, Request, Target, to_record
from processors.erasure_certificate import ErasedPlace, certificate, load_signing_key, sign
from processors.pseudonyms import alias
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasures import insert_erasure_states
from streams.kafka import Kafka
from streams.publishing import publish_policies, publish_recipients
from streams.topics import apply, plan
from tests import audit_world as world
from tests.api_process import ApiProcess, api_process
from tests.audit_world import ANN, BOB, RECEIVED, VIOLATION, named, shared
from tests.html_page import HtmlPage
from tests.kafka_fixture import KafkaForTests

V1 = "/api/v1"
# Names that somebody could register, or send: markup, a formula, a path, a query.
EVIL = '=HYPERLINK("http://x.example/?a=1&b=2","<script>alert(1)</script>")'
CERTIFIED, FORGED, LATE, HELD = (named(f"request {name}") for name in ("certified", "forged", "late", "held"))
LIST = "People affected"


def evil_rows() -> list[dict[str, Any]]:
    """Bob's data at a recipient, by another one and for a purpose, all with an evil name; and lawful ones with it."""
    evil = {"data_categories": [EVIL, "user.device"], "clauses": ["3.1(4)", EVIL]}
    return [
        shared(BOB, "bob to evil", "2026-04-11T08:00:00", EVIL, EVIL, purpose=EVIL, **{**VIOLATION, **evil}),
        shared(BOB, "bob to evil again", "2026-04-12T08:00:00", EVIL),
    ]


def more_requests(api: ApiProcess) -> list[Request]:
    """One with a certificate, one whose certificate was altered, one that is late and stuck, one that is held."""
    given: dict[str, Any] = {"verified_at": RECEIVED, "verified_by": "shop", "due_at": RECEIVED + 30 * DAY}
    lumen = Target("lumen-analytics", 1, "completed", "signed", "opendsr", attempts=1, ended_at=RECEIVED + DAY)
    lumen = Target(**{**vars(lumen), "evidence": ("ab" * 32,)})
    public = Target("redpay", 2, "exempt", "none", "none", ended_at=RECEIVED, ground="tax law: invoices")
    store = Target("store:lineage", 0, "completed", "verified", "purge", ended_at=RECEIVED + 3 * DAY)
    ends: dict[str, Any] = {"erased_at": RECEIVED + 2 * DAY, "ended_at": RECEIVED + 3 * DAY}
    done = Request(CERTIFIED, RECEIVED, state="partially_completed", targets=(lumen, public, store), **given, **ends)
    claims = certificate(
        to_record(done), [ErasedPlace("lineage", 12, 0)], "shop.example", RECEIVED + 3 * DAY, "Aoxun 1"
    )
    signed = sign(claims, load_signing_key(api.settings.certificate_key()))
    head, payload, signature = signed.split(".")
    altered = f"{head}.{payload[:-8]}{'A' if payload[-8] != 'A' else 'B'}{payload[-7:]}.{signature}"
    stuck = Target(EVIL, 3, "waiting", "dispatched", "http", attempts=9, detail=EVIL)
    waits = Target("glacier-backup", None, "acknowledged", "acknowledged", "manual", attempts=1, disclosed_at=RECEIVED)
    return [
        Request(**{**vars(done), "certificate": signed}),
        Request(**{**vars(done), "request_id": FORGED, "certificate": altered}),
        Request(LATE, RECEIVED - 60 * DAY, b"l" * 16, named("l"), state="awaiting", targets=(waits, stuck),
                alarms=("glacier-backup got data after it had said that it was completed",),
                history=((RECEIVED, EVIL),), **{**given, "due_at": RECEIVED - 30 * DAY}),
        Request(HELD, RECEIVED, b"h" * 16, named("h"), state="dispatching", hold=EVIL, targets=(waits,), **given),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def api(kafka: KafkaForTests, clickhouse: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    publish_policies(Kafka(kafka.bootstrap), world.policies())
    publish_recipients(Kafka(kafka.bootstrap), world.recipients())
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    with api_process(tmp_path_factory.mktemp("pages"), kafka.bootstrap, url) as running:
        world.fill(client, running.settings.pepper())
        for row in evil_rows():
            client.execute(f"INSERT INTO lineage ({', '.join(row)}) VALUES", [tuple(row.values())])
        more = more_requests(running)
        insert_erasure_states(client, [to_record(one) for one in more], range(10, 10 + len(more)), "more")
        client.disconnect()
        yield running


class Visitor:
    """A browser without scripts, signed in."""

    def __init__(self, api: ApiProcess, *roles: str, name: str = "") -> None:
        self.token = api.token(name or "-".join(roles), *roles)
        self.http = api.client()
        self.http.headers["Origin"] = api.url
        self.api = api.client(self.token)
        answer = self.http.post("/sign-in", data={"token": self.token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")

    def get(self, path: str, status: int = 200) -> HtmlPage:
        answer = self.http.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        assert answer.headers["cache-control"] == "no-store"
        return HtmlPage(answer.text)

    def told(self, path: str, **parameters: Any) -> Any:
        """What the API answers."""
        answer = self.api.get(V1 + path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def close(self) -> None:
        self.http.close()
        self.api.close()


@pytest.fixture(scope="module")
def visitors(api: ApiProcess) -> Iterator[dict[str, Visitor]]:
    found = {role: Visitor(api, role) for role in ROLES}
    yield found
    for visitor in found.values():
        visitor.close()


@pytest.fixture(scope="module")
def auditor(visitors: dict[str, Visitor]) -> Visitor:
    return visitors["auditor"]


def look_count(visitor: Visitor) -> int:
    return len(visitor.told("/looks", limit=1000)["looks"])


# Who may see what

PAGES = {
    "/overview": "totals",
    "/violations": "verdicts",
    "/recipients": "recipients",
    "/recipients/lumen-analytics": "recipient",
    "/events": "events",
    "/incidents": "incident",
    "/erasures": "requests",
    "/erasures?all=true": "requests",
    f"/erasures/{CERTIFIED}": "request",
    f"/erasures/{CERTIFIED}/certificate": "certificate",
    f"/erasures/{CERTIFIED}/certificate.jws": "certificate",
    "/looks": "looks",
}


@pytest.mark.parametrize("path", PAGES)
def test_every_role_sees_the_pages_that_the_matrix_gives_it_and_no_other(
    visitors: dict[str, Visitor], path: str
) -> None:
    for role, visitor in visitors.items():
        may = role in OPERATIONS[PAGES[path]].roles
        answer = visitor.http.get(path)
        assert answer.status_code == (200 if may else 403), (role, path)
        if not may:
            assert "needs the role" in HtmlPage(answer.text).text


def test_the_navigation_leads_to_what_the_visitor_may_see(visitors: dict[str, Visitor]) -> None:
    for visitor in visitors.values():
        for path in visitor.get("/").links:
            if path.startswith("/") and path != "/":
                visitor.get(path)


def test_nobody_sees_a_page_who_is_not_signed_in(api: ApiProcess) -> None:
    with api.client() as client:
        for path in PAGES:
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={quote(path, safe='')}")


def test_figures_have_no_links_for_those_who_may_not_list_events(visitors: dict[str, Visitor]) -> None:
    for path in ("/overview", "/violations", "/recipients", "/recipients/lumen-analytics"):
        assert not [url for url in visitors["engineer"].get(path).links if url.startswith("/events")], path
        assert '"href":null' in visitors["engineer"].get(path).source.replace(" ", "") or path == "/recipients"
        assert [url for url in visitors["auditor"].get(path).links if url.startswith("/events?")], path


# Figures


@pytest.mark.parametrize(
    "path",
    [
        "/overview",
        "/violations",
        "/violations?by=day",
        "/violations?by=week&from=2026-03-04&to=2026-04-02",
        "/violations?by=month&from=2026-03-18&recipient=lumen-analytics",
        "/violations?verdict=gap",
        "/violations?verdict=lawful&clause=3.1(4)&purpose=development",
        f"/violations?recipient={quote(EVIL)}",
        "/recipients",
        "/recipients?from=2026-03-10&to=2026-04-01",
        "/recipients/lumen-analytics",
        "/recipients/glacier-backup",
        f"/recipients/{quote(EVIL, safe='')}",
    ],
)
def test_every_figure_leads_to_so_many_events(auditor: Visitor, path: str) -> None:
    page = auditor.get(path)
    figures = {(text.split()[0], url) for url, text in page.links.items() if url.startswith("/events?")}
    for table in page.tables.values():
        linked = (one for row in table for cell in row for one in cell.links.items())
        figures |= {(text.split()[0], url) for text, url in linked if url.startswith("/events?")}
    for script in page.scripts:
        figures |= {(f"{bar['events']:,}", bar["href"]) for bar in json.loads(script)["bars"]} if script else set()
    assert figures
    found = {url: re.findall(r"(\S+) events? ", auditor.get(url).text)[0] for url in {url for _, url in figures}}
    assert figures == {(found[url], url) for _, url in figures}


def test_the_overview_has_the_totals_of_the_api(auditor: Visitor) -> None:
    page, totals = auditor.get("/overview"), auditor.told("/totals")
    for value, what in (
        (totals["events"], "events"),
        (totals["subjects"], "people"),
        (totals["by_verdict"]["violation"], "violations"),
        (totals["by_verdict"]["gap"], "gaps: cannot be decided"),
        (totals["by_verdict"]["lawful"], "lawful"),
        (totals["dead_letters"], "dead letters"),
    ):
        assert f"{value:,} {what}" in page.text
    shown = page.rows("Disclosures by recipient")
    assert {row[0]: int(row[2].split()[0]) for row in shown} == totals["by_recipient"]
    activities = {row[0]: int(row[1].split()[0]) for row in page.rows("Events by activity")}
    assert activities == totals["by_activity"]
    assert page.tables["Late and stuck ones first"][1][0].text == str(LATE)


def test_what_was_lately_is_compared_with_what_was_before(auditor: Visitor) -> None:
    days = auditor.told("/verdicts", limit=1000)["verdicts"]
    end = max(day["day"] for day in days)
    start, before = (datetime.fromtimestamp(_days(end) - n * 86_400, UTC).date().isoformat() for n in (29, 59))
    rows = auditor.get("/overview").tables["The last 30 days against the 30 days before"][1:]
    for row in rows:
        verdict = row[0].text.split()[-1]
        last = sum(day["by_verdict"][verdict] for day in days if day["day"] >= start)
        earlier = sum(day["by_verdict"][verdict] for day in days if before <= day["day"] < start)
        assert [int(row[n].text.split()[0]) for n in (1, 2)] == [last, earlier]
        changed = "as many" if last == earlier else f"{abs(last - earlier)} {'more' if last > earlier else 'fewer'}"
        assert row[3].text == changed


def _days(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())


def test_violations_are_those_of_the_api_by_clause_and_by_time(auditor: Visitor) -> None:
    for given in ({}, {"recipient": "lumen-analytics"}, {"purpose": "development", "from": "2026-03-10"}):
        page = auditor.get(f"/violations?{httpx.QueryParams(given)}")
        clauses = auditor.told("/clauses", **given)["clauses"]
        wanted = {one["clause"]: one["by_verdict"]["violation"] for one in clauses if one["by_verdict"]["violation"]}
        assert {row[0]: int(row[2].split()[0]) for row in page.rows("Violations by clause")} == wanted
        days = auditor.told("/verdicts", verdict="violation", limit=1000, **given)["verdicts"]
        [pivot] = [caption for caption in page.tables if caption.startswith("Violations by clause and")]
        assert sum(int(row[1].split()[0]) for row in page.rows(pivot)[:-1]) == sum(day["events"] for day in days)
        assert int(page.rows(pivot)[-1][1].split()[0]) == sum(day["events"] for day in days)


def test_recipients_are_those_of_the_api(auditor: Visitor) -> None:
    told = auditor.told("/recipients", limit=1000)["recipients"]
    rows = auditor.get("/recipients?by=id").rows("Recipients")
    assert [row[0] for row in rows] == [one["id"] for one in told]
    for row, one in zip(rows, told, strict=True):
        numbers = [one["events"], *(one["by_verdict"][verdict] for verdict in ("violation", "gap", "lawful"))]
        assert [int(text.split()[0]) for text in row[4:]] == numbers
        assert ("not registered" in row[1]) != one["registered"]
    first = auditor.get("/recipients").rows("Recipients")[0]
    assert int(first[5].split()[0]) == max(one["by_verdict"]["violation"] for one in told)
    sought = [row[0] for row in auditor.get("/recipients?q=GLACIER").rows("Recipients")]
    assert sought == ["glacier-backup"]
    assert auditor.get("/recipients?q=no-such-name").rows("Recipients")[0][0].startswith("There is none")


def test_a_recipient_is_what_the_api_says(auditor: Visitor) -> None:
    page, told = auditor.get("/recipients/lumen-analytics"), auditor.told("/recipients/lumen-analytics")
    assert page.heading == told["name"]
    for number, what in ((told["people"], "people"), (told["direct"], "of them by the app itself")):
        assert f"{number} {what}" in page.text
    assert [row[0] for row in page.rows("By purpose and verdict")] == [one["purpose"] for one in told["by_purpose"]]
    assert [[row[0], int(row[1]), int(row[2])] for row in page.rows("Categories of data")] == [
        [one["category"], one["people"], one["disclosures"]] for one in told["categories"]
    ]
    assert page.rows("Onward recipients") == [["glacier-backup", "1", "1"]]
    months = page.rows("Disclosures by purpose and month")[:-1]
    assert [(row[0], int(row[1].split()[0])) for row in reversed(months)] == [
        (one["month"], one["events"]) for one in told["by_month"]
    ]
    assert len(page.rows("Registry entries, the newest first")) == len(told["entries"])
    assert "/incidents?recipient=lumen-analytics" in page.links
    waiting = auditor.get("/recipients/glacier-backup").rows("Open erasure requests that wait for this recipient")
    assert {row[0] for row in waiting} == {str(world.OPEN), str(LATE), str(HELD)}
    # A recipient that nobody has said how to ask is asked by a person.
    assert "by a person, in writing" in page.text
    unknown = auditor.get("/recipients/nobody-knows")
    assert "not registered" in unknown.text
    auditor.get("/recipients/never-heard-of", 404)


EVENT_FILTERS = [
    {},
    {"recipient": "glacier-backup"},
    {"purpose": "ad_measurement"},
    {"clause": "3.1(4)"},
    {"verdict": "violation"},
    {"verdict": "gap"},
    {"activity": "collect"},
    {"from": "2026-03-04", "to": "2026-03-06"},
    {"recipient": EVIL, "clause": EVIL, "purpose": EVIL},
    {"recipient": "", "purpose": "", "clause": "", "verdict": "", "activity": "", "from": "", "to": "", "cursor": ""},
]


@pytest.mark.parametrize("given", EVENT_FILTERS, ids=str)
def test_events_are_those_of_the_api(auditor: Visitor, given: dict[str, str]) -> None:
    asked = {name: f"{value}T00:00:00Z" if name in ("from", "to") else value for name, value in given.items() if value}
    told = [event["event_id"] for event in auditor.told("/events", limit=1000, **asked)["events"]]
    page = auditor.get(f"/events?{httpx.QueryParams(given)}")
    shown = [url for row in page.tables["Events"] for cell in row for url in cell.links.values()]
    assert [url for url in shown if url.startswith("/events/")] == [f"/events/{one}" for one in told[:100]]
    assert f"{len(told)} event" in page.text


def test_events_come_in_pages(api: ApiProcess, auditor: Visitor) -> None:
    client = connect(api.settings.clickhouse())
    rows = [shared("many", f"many {n}", f"2026-02-{1 + n % 28:02d}T08:00:00", "halcyon-cloud") for n in range(250)]
    client.execute(f"INSERT INTO lineage ({', '.join(rows[0])}) VALUES", [tuple(row.values()) for row in rows])
    client.disconnect()
    found: list[str] = []
    path = "/events?recipient=halcyon-cloud&from=2026-02-01"
    sizes = []
    while path:
        page = auditor.get(path)
        ids = [url for url in page.links if url.startswith("/events/")]
        sizes.append(len(ids))
        found += ids
        assert "250 events" in page.text
        assert ("First page" in page.links.values()) == (len(sizes) > 1)
        path = next((url for url, text in page.links.items() if text == "Next page"), "")
    assert (sizes, len(set(found))) == ([100, 100, 50], 250)


# Erasures


def test_the_queue_has_late_and_stuck_requests_first(auditor: Visitor) -> None:
    rows = auditor.get("/erasures").rows("Open erasure requests")
    assert {row[0] for row in rows} == {str(LATE), str(HELD), str(world.OPEN)}
    assert rows[0][0] == str(LATE)
    assert "over by" in rows[0][3]
    for what in ("the term is over since", "was tried 9 times", "contradiction"):
        assert what in rows[0][6]
    assert "held" in next(row for row in rows if row[0] == str(HELD))[1]
    every = auditor.get("/erasures?all=true").rows("All erasure requests, the last received first")
    assert [row[0] for row in every] == [one["request_id"] for one in auditor.told("/requests")["requests"]]
    done = auditor.get("/erasures?state=completed")
    assert [row[0] for row in done.rows("Erasure requests that are completed, the last received first")] == [
        str(world.DONE)
    ]
    auditor.get("/erasures?state=nonsense", 400)


def test_a_request_shows_the_evidence_of_every_target(auditor: Visitor) -> None:
    page, told = auditor.get(f"/erasures/{LATE}"), auditor.told(f"/requests/{LATE}")
    rows = page.rows("Recipients, those that are not done first")
    assert {row[0] for row in rows} == {target["recipient"] for target in told["targets"]}
    glacier = next(row for row in rows if row[0] == "glacier-backup")
    assert "acknowledged the recipient confirmed that it had the request" in glacier[3]
    assert glacier[1] == "not known"
    assert EVIL in page.text
    for warning in told["warnings"]:
        assert warning in page.text
    held = auditor.get(f"/erasures/{HELD}")
    assert f"held {EVIL}" in held.text
    certified = auditor.get(f"/erasures/{CERTIFIED}")
    assert f"answer: SHA-256 {'ab' * 32}" in certified.text
    assert "tax law: invoices" in certified.text
    assert certified.rows("Own stores")[0][0] == "lineage"
    auditor.get(f"/erasures/{named('no such request')}", 404)


def test_a_certificate_is_verified_shown_and_handed_out(auditor: Visitor) -> None:
    page = auditor.get(f"/erasures/{CERTIFIED}/certificate")
    assert "The signature holds." in page.text
    assert "the key is the one this system signs with" in page.text
    assert "lineage certificate verify" in page.text
    assert [row[:1] + row[3:4] for row in page.rows("Recipients")] == [
        ["lumen-analytics", f"the recipient's signed word answer: SHA-256 {'ab' * 32}"],
        ["redpay", "no evidence"],
    ]
    assert page.rows("Own stores")[0][:3] == ["lineage", "12", "0"]
    file = auditor.http.get(f"/erasures/{CERTIFIED}/certificate.jws")
    assert file.headers["content-disposition"] == f'attachment; filename="{CERTIFIED}.jws"'
    assert file.text == auditor.told(f"/requests/{CERTIFIED}")["certificate"]
    for altered in (FORGED, world.DONE):
        shown = auditor.get(f"/erasures/{altered}/certificate")
        assert "This certificate is not valid." in shown.text
        assert "What it says" not in shown.text
        assert "not valid" in auditor.get(f"/erasures/{altered}").text
    auditor.get(f"/erasures/{LATE}/certificate", 404)


# Looks


def test_looks_are_shown_to_whom_they_belong_and_to_overseers(visitors: dict[str, Visitor]) -> None:
    clerk, overseer = visitors["clerk"], visitors["overseer"]
    for visitor, why in ((clerk, "case of the clerk"), (visitors["auditor"], "case of the auditor")):
        answer = visitor.api.post(f"{V1}/subjects/lineage", json={"user": ANN, "reason": why})
        assert answer.status_code == 200
    own = clerk.get("/looks")
    assert own.heading == "Your looks at people"
    assert {row[1] for row in own.rows("Looks, the newest first")} == {"clerk"}
    assert "case of the clerk" in own.text
    assert "case of the auditor" not in own.text
    clerk.get("/looks?client=auditor", 403)
    every = overseer.get("/looks")
    assert {"clerk", "auditor"} <= {row[1] for row in every.rows("Looks, the newest first")}
    only = overseer.get(f"/looks?client=clerk&operation=lineage&subject={named(ANN)}&from=2026-01-01&to=")
    assert {(row[1], row[5]) for row in only.rows("Looks, the newest first")} == {("clerk", str(named(ANN)))}
    none = overseer.get("/looks?client=nobody").rows("Looks, the newest first")
    assert none == [["There is none."]]


# Incidents

BREACH = {"recipient": "glacier-backup", "from": "2026-03-05T00:00", "to": "2026-04-01T00:00"}
ASKED = {"recipient": "glacier-backup", "from": "2026-03-05T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


def report(visitor: Visitor, **changes: str) -> str:
    """Walks through the wizard as a browser without scripts does; the path of the report."""
    given = {**BREACH, "reason": "incident 12", **changes}
    first = visitor.get("/incidents")
    assert first.forms[-1]["action"] == "/incidents"
    second = visitor.get(f"/incidents?{httpx.QueryParams(recipient=given['recipient'])}")
    assert {"recipient", "from", "to"} <= second.fields.keys()
    third = visitor.get(f"/incidents?{httpx.QueryParams({name: given[name] for name in BREACH})}")
    assert {name: third.fields[name] for name in BREACH} == {name: given[name] for name in BREACH}
    answer = visitor.http.post("/incidents", data={**third.fields, **given})
    assert answer.status_code == 303, answer.text
    assert re.fullmatch(r"/incidents/[\w-]{16}", answer.headers["location"])
    return answer.headers["location"]


def test_the_wizard_ends_in_a_list_of_whom_to_notify(api: ApiProcess, auditor: Visitor) -> None:
    path = report(auditor)
    told = auditor.api.post(f"{V1}/incidents", json={**ASKED, "reason": "incident 12"}).json()
    before = look_count(auditor)
    page = auditor.get(path)
    look = auditor.told("/looks", limit=1)["looks"][0]
    assert look_count(auditor) == before + 1
    assert (look["operation"], look["people"]) == ("incident", len(told["people"]))
    assert look["subject_matter"].endswith(": incident 12")
    rows = page.rows(LIST)
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (one["alias"], one["subject"], str(one["disclosures"])) for one in told["people"]
    ]
    assert alias(api.settings.pepper(), ANN).hex() in {row[0] for row in rows}
    for sentence in told["summary"]["explanation"]:
        assert sentence.replace("`", "") in page.text
    assert f"{told['summary']['people']} people to notify" in page.text
    assert "Clause 4.3" in page.text


def test_the_list_is_handed_out_whole_and_recorded(auditor: Visitor) -> None:
    path = report(auditor)
    told = auditor.api.post(f"{V1}/incidents", json={**ASKED, "reason": "incident 12"}).json()
    before = look_count(auditor)
    table = auditor.http.get(f"{path}/people.csv")
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["alias"], row["subject"], row["direct"]) for row in rows] == [
        (one["alias"], one["subject"], str(one["direct"]).lower()) for one in told["people"]
    ]
    assert auditor.http.get(f"{path}/report.json").json() == {name: told[name] for name in ("summary", "people")}
    assert look_count(auditor) == before + 2


def test_no_cell_of_the_list_is_a_formula(auditor: Visitor) -> None:
    path = report(auditor, recipient=EVIL, **{"from": "2026-04-01T00:00", "to": "2026-05-01T00:00"})
    assert EVIL in auditor.get(path).text
    [row] = csv.DictReader(io.StringIO(auditor.http.get(f"{path}/people.csv").text))
    assert row["through"] == f"'{EVIL}"
    for cell in row.values():
        for part in re.split(r'[;,|\t\r\n"]', cell):
            assert not re.match(r"\s*[=+\-@]", part), cell


def test_long_lists_come_in_pages(auditor: Visitor) -> None:
    path = report(auditor, recipient="lumen-analytics")
    page = auditor.get(f"{path}?size=10")
    found = [row[1] for row in page.rows(LIST)]
    while following := next((url for url, text in page.links.items() if text == "Next page"), None):
        page = auditor.get(following)
        assert len(page.rows(LIST)) <= 10
        found += [row[1] for row in page.rows(LIST)]
    assert found == [row[1] for row in auditor.get(f"{path}?size=1000").rows(LIST)]
    assert len(found) > 10


def test_the_wizard_says_what_is_missing(auditor: Visitor) -> None:
    for given, told in (
        ({"recipient": "never-heard-of"}, "No such recipient"),
        ({**BREACH, "to": "2026-01-01T00:00"}, "The end of the breach must be later"),
        ({**BREACH, "from": "yesterday"}, "Give its begin as a day and a time"),
        ({**BREACH, "to": "1812-01-01T00:00"}, "Its end must lie between"),
    ):
        page = auditor.get(f"/incidents?{httpx.QueryParams(given)}", 400)
        assert told in page.text
        assert page.forms[-1]["method"] == "get"
    unknown = auditor.http.post("/incidents", data={**BREACH, "recipient": "never-heard-of", "reason": "incident 12"})
    assert (unknown.status_code, "No such recipient" in HtmlPage(unknown.text).text) == (400, True)
    before = look_count(auditor)
    for reason in ("", "x", "y" * 501, "\x00\x01\x02"):
        answer = auditor.http.post("/incidents", data={**BREACH, "reason": reason})
        assert answer.status_code == 400
        assert "Say why you look" in HtmlPage(answer.text).text
    assert look_count(auditor) == before


def test_an_incident_is_open_in_its_session_only(api: ApiProcess, auditor: Visitor) -> None:
    path = report(auditor)
    other = Visitor(api, "auditor", name="other")
    for what in ("", "/people.csv", "/report.json"):
        assert "not open in your session" in other.get(f"{path}{what}", 404).text
    other.close()
    elsewhere = auditor.http.post("/incidents", data=BREACH, headers={"Origin": "https://evil.example"})
    assert elsewhere.status_code == 403


# Hostile input

PARAMETERS = {
    "/violations": ("verdict", "clause", "recipient", "purpose", "by", "from", "to"),
    "/recipients": ("q", "from", "to", "by", "page"),
    "/events": ("recipient", "purpose", "clause", "verdict", "activity", "from", "to", "cursor"),
    "/erasures": ("state", "all", "cursor"),
    "/incidents": ("recipient", "from", "to"),
    "/looks": ("client", "operation", "subject", "from", "to", "cursor"),
}
HOSTILE = [
    EVIL,
    "' OR 1=1 --",
    "%(recipient)s",
    "{{ 1234*4321 }}",
    "\x00",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "../../etc/passwd",
    "-1",
    "99999999999999999999",
    "9999-12-31",
    "0001-01-01T00:00:00",
    "x" * 3000,
    "２０２６-０３-０１",
    "W10",
]


@pytest.mark.parametrize("path", PARAMETERS)
def test_hostile_input_fails_nothing_and_is_escaped(auditor: Visitor, path: str) -> None:
    for name in PARAMETERS[path]:
        for value in HOSTILE:
            answer = auditor.http.get(path, params={name: value})
            assert answer.status_code in (200, 400, 403, 404), (name, value, answer.text)
            HtmlPage(answer.text)
            assert "<script>alert" not in answer.text
            assert str(1234 * 4321) not in answer.text
        double = auditor.http.get(f"{path}?{name}=a&{name}=b&{name}[]=c&{name}=%ff%fe&{quote(EVIL)}=1")
        assert double.status_code in (200, 400, 403, 404)


@pytest.mark.parametrize("value", [*HOSTILE, "..%2f..", "%00", "%ff", "a/b/c"])
def test_hostile_paths_lead_nowhere(auditor: Visitor, value: str) -> None:
    for path in (
        "/recipients/{}",
        "/erasures/{}",
        "/erasures/{}/certificate",
        "/incidents/{}",
        "/incidents/{}/people.csv",
    ):
        answer = auditor.http.get(path.format(value if "%" in value else quote(value, safe="")))
        # The evil recipient is there.
        assert answer.status_code in ((200,) if value == EVIL and "recipients" in path else (400, 404)), (path, value)
        assert "<script>alert" not in answer.text


def test_a_range_that_is_empty_is_refused(auditor: Visitor) -> None:
    for path in ("/violations", "/recipients", "/events", "/looks"):
        page = auditor.get(f"{path}?from=2026-03-02&to=2026-03-02", 400)
        assert "The range is empty" in page.text
    url = urlsplit(auditor.get("/events?verdict=gap").forms[-1]["action"])
    assert (url.path, parse_qsl(url.query)) == ("/events", [])
