"""The pages of a person on real Kafka and ClickHouse, over HTTP as a browser speaks it, but without its scripts."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from clickhouse_driver import Client

from audit.exports.export import FORMATS
from infra.api.authentication import create_token, revoke
from processors.erasure import DAY, Request, Target, to_record
from processors.pseudonyms import alias
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasures import insert_erasure_states
from tests import audit_world as world
from tests.api_process import ApiProcess
from tests.audit_world import ANN, GONE, STRANGER, named
from tests.integration.test_audit_api import api as api

WHY = "case <4711> & more"
HOSTILE = '"><script>alert(1)</script>'


class Browser:
    """One signed-in visitor: keeps the cookie, sends forms with their Origin, and follows redirects."""

    def __init__(self, api: ApiProcess, token: str | None = None) -> None:
        self.url = api.url
        self.http = httpx.Client(base_url=api.url, timeout=60, follow_redirects=True)
        if token is not None:
            assert self.post("/sign-in", token=token).status_code == 200

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.http.get(path, params=parameters or None)

    def post(self, path: str, **form: str) -> httpx.Response:
        return self.http.post(path, data=form, headers={"Origin": self.url})

    def search(self, user: str, reason: str = WHY) -> str:
        """The path of their case."""
        found = self.post("/people", user=user, reason=reason)
        assert found.status_code == 200, found.text
        return found.url.path


class Page(HTMLParser):
    """What a page says: its text, its links, its headings."""

    def __init__(self, answer: httpx.Response, status: int = 200) -> None:
        super().__init__()
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._told: list[str] = []
        self._is_script = False
        self.feed(answer.text)
        self.text = " ".join(" ".join(self._told).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self._is_script = tag == "script"
        if tag == "a":
            self.links.append(given["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if not self._is_script:
            self._told.append(data)


@pytest.fixture(scope="module")
def auditor(api: ApiProcess) -> Iterator[Browser]:
    browser = Browser(api, api.token("page auditor", "auditor"))
    yield browser
    browser.http.close()


@pytest.fixture
def database(api: ApiProcess) -> Iterator[Client]:
    connected = connect(api.settings.clickhouse())
    yield connected
    connected.disconnect()


def looks_of(database: Client, client: str) -> list[tuple[Any, ...]]:
    """(operation, people, subject, reason) of a client's looks, by time."""
    sql = "SELECT operation, people, subject, reason FROM looks WHERE client = %(client)s ORDER BY at"
    return list(execute(database, sql, {"client": client}))


# Signing in


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_back(api: ApiProcess) -> None:
    browser = Browser(api)
    asked = browser.get("/people/some-case/events?verdict=violation")
    assert asked.url.path == "/sign-in"
    [wanted] = [given["value"] for tag, given in Page(asked).tags if tag == "input" and given["name"] == "next"]
    assert wanted == "/people/some-case/events?verdict=violation"
    token = api.token("comes back", "auditor")
    answer = browser.http.post(
        "/sign-in", data={"token": token, "next": wanted}, headers={"Origin": api.url}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, wanted)
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/"))
    assert token not in answer.headers["set-cookie"]


def test_only_a_token_that_holds_signs_in_and_none_that_was_revoked_stays_in(api: ApiProcess) -> None:
    browser = Browser(api)
    late = create_token(api.settings.api_clients(), "late page", ["auditor"], days=0)
    for token in ("", "nonsense", late, "x" * 20_000):
        assert "That did not work" in Page(browser.post("/sign-in", token=token), 401).text
    token = api.token("soon gone", "auditor")
    browser.post("/sign-in", token=f"Bearer {token}")
    assert Page(browser.get("/")).text.count("soon gone") == 1
    revoke(api.settings.api_clients(), "soon gone")
    assert browser.get("/").url.path == "/sign-in"


def test_whoever_signs_out_is_out(api: ApiProcess) -> None:
    browser = Browser(api, api.token("leaves", "auditor"))
    cookie = browser.http.cookies["lineage_session"]
    assert browser.post("/sign-out").url.path == "/sign-in"
    browser.http.cookies.set("lineage_session", cookie)
    assert browser.get("/").url.path == "/sign-in"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=str,
)
def test_a_form_of_another_site_does_nothing(auditor: Browser, database: Client, headers: dict[str, str]) -> None:
    given = {"Origin": auditor.url, **headers} if "Sec-Fetch-Site" in headers else headers
    for path in ("/people", "/sign-in", "/sign-out", f"/events/{named('ann to ads')}"):
        answer = auditor.http.post(path, data={"user": ANN, "reason": WHY}, headers=given)
        assert "another site" in Page(answer, 403).text
    assert auditor.get("/").url.path == "/"


def test_what_is_no_browser_is_told_that_there_is_no_such_page(api: ApiProcess) -> None:
    assert httpx.post(f"{api.url}/no-such-api", json={}).status_code == 404
    assert httpx.post(f"{api.url}/people", data={"user": ANN, "reason": WHY}).headers["location"] == "/sign-in"


# Everything that is answered


def test_headers_let_nothing_in_from_elsewhere(auditor: Browser) -> None:
    case = auditor.search(ANN)
    for path in ("/", "/sign-in", "/nothing", case, f"{case}/timeline", f"{case}/events"):
        headers = auditor.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_files_have_a_version_in_their_path_and_are_kept(auditor: Browser) -> None:
    case = auditor.search(ANN)
    loaded = set()
    for path in ("/", case, f"{case}/timeline"):
        loaded |= {
            given.get("src") or given.get("href")
            for tag, given in Page(auditor.get(path)).tags
            if tag in ("script", "link") and (given.get("src") or given.get("href"))
        }
    assert any(str(path).endswith("dagre.min.js") for path in loaded)
    assert any(str(path).endswith("plot.umd.min.js") for path in loaded)
    for path in loaded:
        assert re.fullmatch(r"/static/[0-9a-f]{12}/[\w./-]+", str(path)), path
        answer = auditor.get(str(path))
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        missing = auditor.get(f"{path}.no")
        assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


def test_what_cannot_be_is_a_page_that_says_what_to_do(auditor: Browser) -> None:
    case = auditor.search(ANN)
    for path, status, said in (
        ("/nothing", 404, "no such page"),
        ("/people/made-up", 404, "Search for the person again"),
        (f"{case}/exports/docx", 404, "parquet"),
        (f"{case}/events/{named('nothing')}", 404, "No such event"),
        (f"{case}?as_of=yesterday", 400, "must be a time"),
        (f"{case}?policy=x", 400, "version of the policy"),
        (f"{case}?policy=99", 404, "never published"),
        (f"{case}?policy=1&verdicts=every", 400, "as it was given"),
        (f"{case}/events?page=0", 400, "page"),
        (f"{case}/events/no-id", 400, "event_id"),
    ):
        page = Page(auditor.get(path), status)
        assert said in page.text, path
        assert "Sign out" in page.text


# One person


def test_a_search_leads_to_the_person_and_every_page_of_them(
    api: ApiProcess, auditor: Browser, database: Client
) -> None:
    case = auditor.search(ANN)
    subject = str(named(ANN))
    before = len(looks_of(database, "page auditor"))
    page = Page(auditor.get(case))
    assert all(said in page.text for said in (ANN, subject, WHY, "1 violation", "1 gap", "Glacier Backup"))
    assert [tag for tag, _ in page.tags].count("h1") == 1
    timeline = Page(auditor.get(f"{case}/timeline"))
    assert all(said in timeline.text for said in ("policy version 1", "it stands", "Brightlane Ads"))
    events = Page(auditor.get(f"{case}/events"))
    assert "6 events" in events.text
    for path in {urljoin(case, link) for link in page.links + timeline.links + events.links if link.startswith(case)}:
        assert auditor.get(path).status_code == 200, path
    looked = looks_of(database, "page auditor")[before:]
    assert {(people, str(who), why) for _, people, who, why in looked} == {(1, subject, WHY)}
    assert {operation for operation, *_ in looked} == {"lineage", "event", "export"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 6),
        ("verdict=violation", 1),
        ("discloser=lumen-analytics&recipient=glacier-backup", 1),
        ("activity=disclosure", 4),
        ("activity=collect&event_type=app_open&purpose=service", 1),
        ("recipient=brightlane-ads&verdict=", 1),
        ("as_of=2026-03-04", 4),
        ("as_of=2026-03-04T07:59:59", 3),
        ("as_of=2026-03-04T08:00:00Z", 4),
        ("verdicts=every", 7),
        ("policy=1&verdict=violation", 0),
        ("from=2026-03-03T00:00:00.000Z&to=2026-03-05T00:00:00.000Z", 2),
        ("recipient=' OR 1 --", 0),
    ],
)
def test_events_as_chosen(auditor: Browser, query: str, found: int) -> None:
    page = Page(auditor.get(f"{auditor.search(ANN)}/events?{query}"))
    assert f"{found} event{'' if found == 1 else 's'}" in page.text
    rows = {link for link in page.links if re.search(r"/events/[0-9a-f-]{36}", link)}
    assert len(rows) == (found if query != "verdicts=every" else 6)


def test_as_of_a_moment_nothing_later_is_shown(auditor: Browser) -> None:
    case = auditor.search(ANN)
    page = Page(auditor.get(case, as_of="2026-03-03"))
    assert "Lumen Analytics" in page.text
    assert "Glacier Backup" not in page.text
    assert "Only what occurred until 2026-03-03 23:59:59.999 is shown" in page.text
    # It goes on to the other pages of the person.
    [link] = {link for link in page.links if "/timeline" in link}
    assert "brightlane" not in Page(auditor.get(link)).text.lower()


def test_erasure_states_stand_at_the_recipients(api: ApiProcess, auditor: Browser, database: Client) -> None:
    user, id_ = world.CROWD[0], named("a request of the crowd")
    target = Target("lumen-analytics", 1, "acknowledged", "acknowledged", "opendsr", attempts=1)
    at = {"verified_at": world.RECEIVED, "due_at": world.RECEIVED + 30 * DAY}
    known = (alias(api.settings.pepper(), user), named(user))
    request = Request(id_, world.RECEIVED, *known, state="awaiting", targets=(target,), **at)
    insert_erasure_states(database, [to_record(request)], [9], "a request of the crowd")
    page = Page(auditor.get(auditor.search(user)))
    assert "Erasure request … awaiting , due 2026-03-31" in page.text
    assert f"/erasures/{id_}" in page.links
    assert re.search(r"Lumen Analytics.*… acknowledged", page.text)


@pytest.mark.parametrize("user", [GONE, STRANGER])
def test_nobody_is_shown_of_whom_nothing_is_known_and_the_look_is_recorded(
    api: ApiProcess, database: Client, user: str
) -> None:
    name = f"looks for {user}"
    browser = Browser(api, api.token(name, "auditor"))
    page = Page(browser.get(browser.search(user)))
    assert "Nobody is known here by this user id" in page.text
    assert looks_of(database, name)[-1][:2] == ("lineage", 0)


def test_an_event_is_explained_with_its_evidence(auditor: Browser) -> None:
    case = auditor.search(ANN)
    page = Page(auditor.get(f"{case}/events/{named('ann to nobody')}"))
    assert "? gap by 3.1" in page.text
    assert f"{case}/events/{named('ann accepts')}" in page.links, "the consent that counts"
    revised = Page(auditor.get(f"{case}/events/{named('ann to ads')}"))
    assert "Every verdict this event ever had" in revised.text
    assert "7 (counts)" in revised.text
    assert "No verdict" in Page(auditor.get(f"{case}/events/{named('ann accepts')}")).text


def test_an_event_of_a_list_is_shown_once_a_reason_is_given(api: ApiProcess, database: Client) -> None:
    browser = Browser(api, api.token("from the list", "auditor"))
    path = f"/events/{named('ann to ads')}"
    assert "Why do you look?" in Page(browser.get(path)).text
    assert "That did not work" in Page(browser.post(path, reason="x"), 400).text
    assert not looks_of(database, "from the list")
    assert "Every verdict" in Page(browser.post(path, reason="a breach")).text
    assert browser.get(path).status_code == 200
    assert {(o, str(who), why) for o, _, who, why in looks_of(database, "from the list")} == {
        ("event", str(named(ANN)), "a breach")
    }


@pytest.mark.parametrize("form", FORMATS)
def test_exports_are_those_of_the_api(api: ApiProcess, auditor: Browser, form: str) -> None:
    case = auditor.search(ANN)
    made = auditor.get(f"{case}/exports/{form}?as_of=2026-03-04T08:00:00Z")
    assert made.status_code == 200
    assert made.headers["content-disposition"].startswith(f'attachment; filename="lineage-{named(ANN)}.')
    with api.client(api.token("exports", "auditor")) as client:
        body = {"user": ANN, "reason": WHY, "format": form, "as_of": "2026-03-04T08:00:00Z"}
        same = client.post("/api/v1/subjects/export", json=body)
    assert made.headers["content-type"] == same.headers["content-type"]
    if form in ("csv", "parquet"):
        assert made.content == same.content
    else:
        # They say when they were made.
        assert abs(len(made.content) - len(same.content)) < 10
    assert ANN.encode() not in made.content


def test_the_report_opens_to_be_printed_and_can_do_nothing_else(auditor: Browser) -> None:
    opened = auditor.get(f"{auditor.search(ANN)}/exports/report-html?shown=inline")
    assert opened.headers["content-disposition"] == "inline"
    policy = opened.headers["content-security-policy"]
    assert all(part in policy for part in ("default-src 'none'", "sandbox", "frame-ancestors 'none'"))


# Who may, and what must not leak


@pytest.mark.parametrize("role", ["engineer", "eraser", "overseer"])
def test_a_role_that_sees_no_people_is_told_which_one_does(api: ApiProcess, auditor: Browser, role: str) -> None:
    case = auditor.search(ANN)
    browser = Browser(api, api.token(f"page {role}", role))
    home = Page(browser.get("/"))
    assert "do not show single people" in home.text
    for path in (case, f"{case}/events", f"{case}/exports/csv", f"/events/{named('ann to ads')}"):
        page = Page(browser.get(path), 403)
        assert "auditor or clerk" in page.text
        assert "Ask whoever runs this system" in page.text
    assert "auditor or clerk" in Page(browser.post("/people", user=ANN, reason=WHY), 403).text


def test_a_clerk_sees_the_person_of_their_case(api: ApiProcess) -> None:
    browser = Browser(api, api.token("page clerk", "clerk"))
    assert "Glacier Backup" in Page(browser.get(browser.search(ANN))).text


def test_a_case_is_of_one_session(api: ApiProcess, auditor: Browser) -> None:
    other = Browser(api, api.token("other auditor", "auditor"))
    assert "not open in your session" in Page(other.get(auditor.search(ANN)), 404).text


@pytest.mark.parametrize("reason", ["", "ab", "x" * 501, "a\x07bcd"])
def test_nobody_is_searched_for_without_a_reason(auditor: Browser, database: Client, reason: str) -> None:
    before = len(looks_of(database, "page auditor"))
    page = Page(auditor.post("/people", user=ANN, reason=reason), 400)
    assert "That did not work" in page.text
    assert len(looks_of(database, "page auditor")) == before


def test_what_people_type_is_text_and_never_part_of_the_page(api: ApiProcess) -> None:
    browser = Browser(api, api.token(HOSTILE, "auditor"))
    case = browser.search(HOSTILE, HOSTILE)
    filtered = f"{case}/events?recipient={HOSTILE}&purpose={HOSTILE}&from={HOSTILE}"
    for path in (case, filtered, "/", f"/sign-in?next=/{HOSTILE}", f"{case}?as_of={HOSTILE}"):
        text = browser.get(path).text
        assert "<script>alert" not in text, path
        assert HOSTILE not in text, path
    failed = browser.post("/people", user=HOSTILE, reason="x")
    assert "<script>alert" not in failed.text


def test_no_url_header_or_log_has_the_user_id_or_the_alias(api: ApiProcess) -> None:
    browser = Browser(api, api.token("leaks nothing", "auditor"))
    secrets = (ANN, ANN.replace("@", "%40"), alias(api.settings.pepper(), ANN).hex(), WHY)
    case = browser.search(ANN)
    for below in ("", "/timeline", "/events", "/exports", f"/events/{named('ann to ads')}"):
        answer = browser.get(f"{case}{below}")
        sent = [str(answer.url), *answer.headers.values(), *Page(answer).links]
        assert not [text for text in sent for secret in secrets if secret in text]
    assert not [secret for secret in secrets if secret in api.log.read_text()]
