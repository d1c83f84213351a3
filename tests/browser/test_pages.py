"""The pages in a real browser, on the demo's data: each page's main path is walked as an auditor would.

LINEAGE_TEST_BROWSER names the browser, or is `required`; LINEAGE_TEST_DEMO names the folder of a `lineage demo --keep`
to use instead of a new one; LINEAGE_TEST_PICTURES a folder for the pictures of docs/pages.md.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from infra.api.authentication import create_token
from infra.settings import settings
from tests.browser.auditor import Auditor, Walk, browser_path, launched, window
from tests.integration.test_cli_stack import Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]


@dataclass
class Demo:
    """A demo that runs on. `user`: somebody with some disclosures, not all of them lawful."""

    lineage: Lineage
    url: str
    user: str

    def token(self, *roles: str) -> str:
        found = settings({}, data=self.lineage.data)
        return create_token(found.api_clients(), "-".join(roles), roles)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    browser_path()
    given = os.environ.get("LINEAGE_TEST_DEMO")
    lineage = Lineage(Path(given) if given else tmp_path_factory.mktemp("pages") / "data")
    try:
        if not given:
            done = lineage.run("demo", "--keep", "--people", "80", "--data", str(lineage.data), timeout=600)
            assert done.returncode == 0, done.stderr
        state = json.loads((lineage.data / "stack.json").read_text())
        yield Demo(lineage, f"http://{state['api']}", somebody(lineage))
    finally:
        if not given:
            lineage.run("down")


def somebody(lineage: Lineage) -> str:
    """Of people with data passed on, and a lineage that fits a page: the one with the most that is not lawful."""
    events: Counter[str] = Counter()
    onward: Counter[str] = Counter()
    with (lineage.data / "simulated.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            events[event["user_id"]] += 1
            onward[event["user_id"]] += event["topic"] == "sharing" and event.get("discloser", "self") != "self"
    best, most = "", -1
    for user in [user for user, n in events.most_common() if 60 <= n <= 160 and onward[user]][:8]:
        shown = lineage("subject", user)["events"]
        unlawful = sum(event["verdict"] in ("violation", "gap") for event in shown)
        if unlawful > most:
            best, most = user, unlawful
    assert most > 0
    return best


def number(text: str) -> int:
    """The first one of a text; words for screen readers may stand behind it."""
    return int(text.split()[0].replace(",", ""))


def events_of(edge: Locator) -> int:
    """How many a drawn flow stands for, by its name."""
    found = re.search(r": ([\d,]+) event", edge.locator("title").text_content() or "")
    assert found is not None
    return number(found[1])


@pytest.fixture(scope="module")
def browser(demo: Demo) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launched(playwright)
        yield started
        started.close()


@pytest.fixture(scope="module")
def auditors_token(demo: Demo) -> str:
    return demo.token("auditor")


@pytest.fixture
def auditor(demo: Demo, browser: Browser, auditors_token: str) -> Iterator[Auditor]:
    """Signed in as an auditor."""
    with window(browser, demo.url) as found:
        found.sign_in(auditors_token)
        yield found


def test_a_person_is_found_and_drawn_as_a_graph(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    page = auditor.page
    assert demo.user not in page.url
    drawing = page.get_by_role("region", name="Graph")
    expect(drawing.locator("a.node").first).to_be_visible()
    assert {"collected", "purpose", "recipient"} <= {
        kind for node in drawing.locator("a.node").all() for kind in (node.get_attribute("class") or "").split()
    }
    assert drawing.locator("a.edge.bad, a.node.bad").count(), "what was not lawful stands out"
    auditor.picture("person")
    # The drawing puts small flows together; none is left out.
    drawn = [events_of(edge) for edge in drawing.locator("a.edge").all()]
    page.locator("#graph-table summary").click()
    listed = page.locator("#graph-table tbody td.number").all_inner_texts()
    assert sum(drawn) == sum(map(number, listed))
    # An edge leads to the events behind it, as many as it says.
    edge = drawing.locator("a.edge.bad").first
    told = events_of(edge)
    edge.focus()
    page.keyboard.press("Enter")
    auditor.arrives("/events")
    assert page.locator("main table tbody tr").count() == min(told, 100)


def test_moving_through_time_changes_what_is_shown(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    page = auditor.page

    told = page.locator("#told")

    def events() -> int:
        # A page that takes another's place clears this line and writes it again, so that screen readers say it.
        expect(told).to_contain_text("event")
        return int(re.sub(r"\D", "", told.inner_text().split("event")[0]))

    everything, all_told = events(), told.inner_text()
    slide = page.get_by_label("Move through time")
    expect(slide).to_be_visible()
    slide.focus()
    page.keyboard.press("Home")
    expect(page).to_have_url(re.compile("as_of="))
    expect(page.locator(".warning")).to_contain_text("Only what occurred until")
    at_first = events()
    assert 0 < at_first < everything
    slide.focus()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    expect(told).not_to_have_text(re.compile(f"^({at_first} event.*)?$"))
    assert at_first < events() < everything
    auditor.picture("as-of")
    page.get_by_role("link", name="Show all, as recorded").click()
    expect(page).not_to_have_url(re.compile("as_of="))
    expect(told).to_have_text(all_told)


def test_another_policy_version_is_told_to_be_one(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    auditor.page.get_by_label("Judged by").select_option("2")
    auditor.page.get_by_role("button", name="Show", exact=True).click()
    expect(auditor.page.locator(".warning")).to_contain_text("version 2 of the policy would have given")


def test_the_timeline_draws_disclosures_beside_consents(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    page = auditor.page
    page.get_by_role("link", name="Timeline").click()
    drawing = page.get_by_role("region", name="Timeline")
    expect(drawing.locator("svg").first).to_be_visible()
    assert drawing.locator("rect").count() > 0, "consents stand as bars"
    marks = drawing.locator("a[href]")
    assert marks.count() > 0
    auditor.picture("timeline")
    marks.first.focus()
    page.keyboard.press("Enter")
    auditor.arrives("/events")


def test_an_event_is_explained(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    page = auditor.page
    page.get_by_role("link", name=re.compile(r"^\d+$")).first.click()
    auditor.arrives("verdict=violation")
    page.locator("main table tbody a").first.click()
    why = page.locator("#why-title")
    expect(why).to_contain_text("violation")
    expect(why).to_contain_text(re.compile(r"by \d"))
    expect(page.locator(".findings li").first).to_be_visible()
    auditor.picture("event")


def test_keyboard_alone_leads_from_search_to_explanation(demo: Demo, auditor: Auditor) -> None:
    page = auditor.page
    auditor.open("/")
    # The browser gives a page's first field the focus when it first draws it, which may be after it has loaded.
    expect(page.get_by_label("User id")).to_be_focused()
    page.keyboard.type(demo.user)
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("case 4711")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(demo.user)
    page.wait_for_load_state()

    def tab_to(wanted: str) -> None:
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement?.matches(wanted) ?? false", wanted):
                shown = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert shown != "none", f"{wanted}: the focus is not seen"
                return
        raise AssertionError(f"{wanted} is not reached")

    tab_to(".tabs a[href*='/events']")
    page.keyboard.press("Enter")
    auditor.arrives("/events")
    tab_to("main table tbody a")
    page.keyboard.press("Enter")
    expect(page.locator("#why-title")).to_be_visible()


def test_a_person_is_audited_without_scripts(demo: Demo, browser: Browser, auditors_token: str) -> None:
    with window(browser, demo.url, java_script_enabled=False) as auditor:
        auditor.sign_in(auditors_token)
        auditor.find(demo.user)
        page = auditor.page
        page.locator("#graph-table summary").click()
        page.locator("#graph-table tbody a").first.click()
        page.locator("main table tbody a").first.click()
        expect(page.locator("#why-title")).to_be_visible()


def test_exports_are_downloaded(demo: Demo, auditor: Auditor) -> None:
    auditor.find(demo.user)
    page = auditor.page
    page.get_by_role("link", name="Exports").click()
    auditor.picture("exports")
    with page.expect_download() as download:
        page.get_by_role("main").get_by_role("button", name=re.compile("CSV")).or_(
            page.get_by_role("main").get_by_role("link", name=re.compile("CSV"))
        ).first.click()
    text = Path(download.value.path()).read_text("utf-8")
    assert "event_id" in text.splitlines()[0]
    assert demo.user not in download.value.suggested_filename


def test_violations_lead_to_their_events(demo: Demo, auditor: Auditor) -> None:
    auditor.open("/violations")
    page = auditor.page
    expect(page.locator("main svg rect").first).to_be_visible()
    auditor.picture("violations")
    table = page.get_by_role("table").first
    figure = table.locator("td.number a").last
    told = number(figure.inner_text())
    figure.click()
    auditor.arrives("/events.*clause=")
    assert page.locator("main table tbody tr").count() == min(told, 100)
    # It names nobody; an event's page does, and wants a reason first.
    page.locator("main table tbody a").first.click()
    page.get_by_label("Reason").fill("case 4711")
    page.get_by_role("main").get_by_role("button").click()
    expect(page.locator("#why-title")).to_contain_text("violation")


def test_a_recipient_has_a_page(demo: Demo, auditor: Auditor) -> None:
    auditor.open("/recipients")
    auditor.page.get_by_role("main").get_by_role("link", name="Lumen Analytics").or_(
        auditor.page.get_by_role("main").get_by_role("link", name="lumen-analytics", exact=True)
    ).first.click()
    expect(auditor.page.get_by_role("heading", level=1)).to_contain_text("Lumen Analytics")
    expect(auditor.page.locator("main svg rect").first).to_be_visible()
    auditor.picture("recipient")


def test_an_incident_ends_in_a_list_to_notify(demo: Demo, auditor: Auditor) -> None:
    auditor.open("/incidents")
    page = auditor.page
    page.get_by_label("Recipient").select_option("glacier-backup")
    page.get_by_role("button", name="Next: the period").click()
    page.get_by_label("When the breach began").fill("2026-04-01T00:00")
    page.get_by_label("When it had ended").fill("2026-05-01T00:00")
    page.get_by_role("button", name="Next: the reason").click()
    page.get_by_label("Reason").fill("incident 12")
    page.get_by_role("button", name="Show the report").click()
    figures = page.get_by_role("list", name="Whom it affected")
    people = number(figures.locator(".figure").first.inner_text())
    assert people > 0
    auditor.picture("incident")
    with page.expect_download() as download:
        page.get_by_role("main").get_by_role("link", name=re.compile("CSV")).first.click()
    lines = Path(download.value.path()).read_text("utf-8").strip().splitlines()
    assert len(lines) == people + 1


def test_an_erasure_shows_its_evidence_and_its_certificate(demo: Demo, auditor: Auditor) -> None:
    auditor.open("/overview")
    auditor.picture("overview")
    auditor.open("/erasures?all=true")
    page = auditor.page
    row = page.locator("main table tbody tr").filter(has_text=re.compile(r"\bcompleted"))
    row.get_by_role("link").first.click()
    recipients = page.get_by_role("table", name=re.compile("Recipients"))
    expect(recipients.get_by_text("signed", exact=True).first).to_be_visible()
    assert recipients.get_by_role("row").count() > 1, "a heading, and whoever got data"
    auditor.picture("erasure")
    page.get_by_role("link", name="Read it").click()
    expect(page.get_by_role("main")).to_contain_text(re.compile("signature", re.IGNORECASE))
    auditor.picture("certificate")


def test_an_eraser_takes_a_recipients_word_down(demo: Demo, browser: Browser) -> None:
    user, recipient = somebody_a_person_must_ask_about(demo)
    request = demo.lineage("erase", user)["request_id"]
    with window(browser, demo.url) as eraser:
        eraser.sign_in(demo.token("eraser"))
        page = eraser.page
        row = page.get_by_role("table", name=re.compile("Recipients")).get_by_role("row").filter(has_text=recipient)
        # It is shown some seconds after it was made; then it is asked.
        eraser.until(f"/erasures/{request}", lambda: row.get_by_text("dispatched").count() == 1)
        assert not eraser.grave_barriers()
        page.get_by_role("heading", name="Do something about a recipient").evaluate("one => one.scrollIntoView()")
        eraser.picture("acts")
        confirmed = page.get_by_role("heading", name="It has confirmed to a person").locator("..")
        confirmed.get_by_label("Recipient", exact=True).select_option(recipient)
        confirmed.get_by_label("Who confirmed it, and how").fill("letter of 3 May")
        confirmed.get_by_role("button", name="Confirm").press("Enter")
        expect(page.get_by_role("status").filter(has_text="word is taken down")).to_be_visible()
        eraser.until(f"/erasures/{request}", lambda: row.get_by_text("completed").count() == 1)
        expect(row).to_contain_text("confirmed to eraser: letter of 3 May")


def somebody_a_person_must_ask_about(demo: Demo) -> tuple[str, str]:
    """A user, and one of their recipients that only a person can ask."""
    with (demo.lineage.data / "simulated.jsonl").open(encoding="utf-8") as lines:
        shared = [event for event in map(json.loads, lines) if event["topic"] == "sharing"]
    users = dict.fromkeys(event["user_id"] for event in shared if event["user_id"] != demo.user)
    for user in [*users][:20]:
        told = demo.lineage("erase", user, "--dry-run")
        for target in told["targets"]:
            if target["protocol"] == "manual":
                return user, target["recipient"]
    raise AssertionError("nobody's data went to a recipient that a person has to ask")


def test_the_look_just_taken_is_on_record(demo: Demo, browser: Browser, auditor: Auditor) -> None:
    auditor.find(demo.user, "case 0815")
    with window(browser, demo.url) as overseer:
        overseer.sign_in(demo.token("overseer"))
        overseer.open("/looks")
        row = overseer.page.locator("main table tbody tr").filter(has_text="case 0815").first
        expect(row).to_contain_text("auditor")
        overseer.picture("looks")


def test_who_may_not_is_told_so(demo: Demo, browser: Browser) -> None:
    with window(browser, demo.url) as engineer:
        engineer.sign_in(demo.token("engineer"))
        assert engineer.page.goto(f"{demo.url}/events").status == 403  # type: ignore[union-attr]
        expect(engineer.page.get_by_role("main")).to_contain_text("auditor")
        engineer.expects(403)


# Those whose drawings and tables are another matter with many data; every page is walked in test_every_page.py.
PATHS = ("/overview", "/violations", "/recipients", "/recipients/lumen-analytics", "/events", "/erasures?all=true")
TABS = ("", "/timeline", "/events", "/exports")


def more_pages(auditor: Auditor) -> list[str]:
    """Paths of pages that are reached through others: an erasure that has ended, its certificate, and the report of an
    incident."""
    page = auditor.page
    auditor.open("/erasures?state=partially_completed")
    if not page.locator("main table tbody a").count():
        auditor.open("/erasures?state=completed")
    erasure = page.locator("main table tbody a").first.get_attribute("href") or ""
    auditor.open("/incidents?recipient=lumen-analytics&from=2026-01-01T00%3A00&to=2030-01-01T00%3A00")
    page.get_by_label("Reason").fill("incident 12")
    page.get_by_role("button", name="Show the report").click()
    expect(page.get_by_role("list", name="Whom it affected")).to_be_visible()
    return [erasure, f"{erasure}/certificate", urlsplit(page.url).path]


def test_nobody_is_barred(demo: Demo, auditor: Auditor) -> None:
    walk = Walk(auditor)
    for path in PATHS:
        walk.to(path)
    auditor.find(demo.user)
    case = urlsplit(auditor.page.url).path
    for tab in TABS:
        walk.to(case + tab)
    auditor.open(f"{case}/events?verdict=violation")
    auditor.page.locator("main table tbody a").first.click()
    expect(auditor.page.locator("#why-title")).to_be_visible()
    walk.here()
    for path in more_pages(auditor):
        walk.to(path)
    assert not walk.barred
