"""The subject access report: what it tells, and that its page is well made: escaped, self-contained, accessible."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from lxml import html

from audit.exports.background import Background, Operator
from audit.exports.export import export_lineage
from audit.exports.words import category_words
from processors.hops import SELF
from tests.unit.exported_lives import NOW, OPERATOR, REQUEST, SUBJECT, background, consent, life, lineage, row

DAY = 86_400_000


def report(person: dict[str, Any], beside: Background | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(export_lineage(person, "report-json", beside or background()).content))
    return found


def page(person: dict[str, Any], beside: Background | None = None) -> str:
    return b"".join(export_lineage(person, "report-html", beside or background()).content).decode()


@pytest.fixture(scope="module")
def person() -> dict[str, Any]:
    return lineage(life(120))


def test_every_event_is_in_the_report_and_the_sums_agree(person: dict[str, Any]) -> None:
    told = report(person)
    collected = [e["event_id"] for e in person["events"] if e["activity"] == "collect"]
    disclosed = [e["event_id"] for e in person["events"] if e["activity"] in ("share", "transfer", "publish")]
    assert [e["event_id"] for e in told["collections"]] == collected
    assert [e["event_id"] for e in told["disclosures"]] == disclosed
    assert sum(one["events"] for one in told["recipients"]) == len(disclosed)
    assert told["summary"]["violation"] == sum(e["verdict"] == "violation" for e in person["events"]) > 0
    assert {one["category"] for one in told["collected"]} == {
        c for e in person["events"] if e["activity"] == "collect" for c in e["data_categories"]
    }


def test_recipients_with_contact_who_gave_and_whom_they_passed_it_on_to(person: dict[str, Any]) -> None:
    found = {one["recipient"]: one for one in report(person)["recipients"]}
    ads, exchange = found["brightlane-ads"], found["meridian-exchange"]
    assert (ads["name"], ads["contact"], ads["hop"]) == ("Brightlane Ads", "data@brightlane.example", 1)
    assert (ads["from"], ads["passed_on_to"]) == (["us"], ["Meridian Ad Exchange"])
    assert (exchange["from"], exchange["hop"]) == (["Brightlane Ads"], 2)
    assert found["public"]["name"] == "the public"
    assert found["nobody-knows"]["contact"] is None
    bureau = found["cyber-bureau"]
    assert bureau["bases"] == ["the law or an authority requires it"]


def test_why_it_is_not_in_line_is_told_in_words(person: dict[str, Any]) -> None:
    unknown = next(e for e in report(person)["disclosures"] if e["recipient"] == "nobody-knows")
    assert unknown["verdict_words"] == "our records do not suffice to tell"
    assert any("the recipient was not registered (3.1)" in reason for reason in unknown["reasons"])
    later = [e for e in report(person)["disclosures"] if e["recipient"] == "nobody-knows"][-1]
    assert any(reason.startswith("you had withdrawn") for reason in later["reasons"])


def test_rights_cite_the_clauses_of_the_policy_in_force() -> None:
    person = lineage([consent("accept", 0, consent_version=1)])
    rights = report(person)["rights"]
    clauses = {right["clause"] for right in rights}
    assert {"5", "6", "7", "8", "4.2", "3.1(1)", "2.6"} <= clauses
    assert any("30 days" in right["text"] and right["words"] == "8 Contact us" for right in rights)
    # Before the first policy there are no clauses to cite.
    assert report(person, background(as_of=0))["rights"] == []


def test_of_a_policy_with_other_numbers_no_clause_is_guessed() -> None:
    policies, recipients = background().policies, background().recipients
    other = {**policies[0], "rules": {**policies[0]["rules"], "suppressed": "12"}, "clauses": {"12": "Deletion"}}
    told = report(lineage([]), Background([other], recipients, exported_at=NOW))
    assert {right["clause"] for right in told["rights"] if "days" in right["text"]} == {"12"}


def test_erasure_requests_as_they_stand_or_as_they_were_asked() -> None:
    asked = row("erase", 9, erasure_phase="requested", request_id=UUID(REQUEST))
    person = lineage([asked])
    assert report(person)["erasures"]["asked"] == ["2026-01-01T00:09:00.000Z"]
    target = {"id": "redpay", "state": "exempt", "grade": "claimed", "ground": "tax law", "ended_at": NOW}
    request = {
        "request_id": REQUEST, "state": "awaiting", "received_at": NOW - DAY, "verified_at": NOW - DAY,
        "due_at": NOW + 29 * DAY, "erased_at": None, "ended_at": None, "ground": "", "hold": "",
        "targets": [target, {**target, "id": "store:lineage"}],
    }  # fmt: skip
    beside = background(requests=[request])
    told = report(person, beside)["erasures"]
    assert told["asked"] == []
    [recipient] = told["requests"][0]["recipients"]
    assert (recipient["name"], recipient["state"], recipient["ground"]) == ("Redpay Payment", "exempt", "tax law")
    text = html.fromstring(page(person, beside)).text_content()
    assert "may keep the data: tax law" in text
    assert "2026-07-30" in text


class Structure(HTMLParser):
    """Every tag must be closed, in its turn."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_has_nothing_from_elsewhere(person: dict[str, Any]) -> None:
    text = page(person)
    assert text.startswith("<!DOCTYPE html>")
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    tree = html.fromstring(text)
    assert not tree.xpath("//script | //link | //img | //iframe | //object | //embed | //form | //base")
    assert not tree.xpath("//@src | //@srcset | //@style | //*[starts-with(name(@*), 'on')]")
    assert all(href.startswith("#") for href in tree.xpath("//@href"))
    [style] = tree.xpath("//style/text()")
    assert not re.search(r"url\(|@import|expression", style)
    assert "default-src 'none'" in tree.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")


def test_the_page_is_accessible(person: dict[str, Any]) -> None:
    tree = html.fromstring(page(person))
    assert tree.get("lang") == "en"
    assert tree.xpath("//title/text()") == [f"What we hold about you: {OPERATOR.name}"]
    levels = [int(heading.tag[1]) for heading in tree.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    referred = {href[1:] for href in tree.xpath("//@href")} | set(tree.xpath("//@aria-labelledby"))
    assert referred <= set(ids)
    assert len(tree.xpath("//main")) == len(tree.xpath("//header")) == 1
    tables = tree.xpath("//table")
    assert tables
    for table in tables:
        assert table.xpath("./caption")
        columns = table.xpath("./thead/tr/th[@scope='col']")
        assert len(columns) > 1
        spans = [sum(int(cell.get("colspan", 1)) for cell in r) for r in table.xpath("./tbody/tr")]
        assert set(spans) <= {len(columns), len(columns) - 1}
        assert all(header.get("scope") for header in table.xpath(".//th"))
    # What scrolls can be reached by keyboard.
    assert all(box.get("tabindex") == "0" for box in tree.xpath("//*[@class='wide']"))


def test_the_page_prints(person: dict[str, Any]) -> None:
    [style] = html.fromstring(page(person)).xpath("//style/text()")
    for rule in ("@page", "@media print", "table-header-group", "break-inside: avoid", "break-before: page"):
        assert rule in style


def test_whatever_is_in_the_data_is_shown_as_text() -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    rows = [
        row("collect", 1, event_type=evil, given_purpose=evil, fields=["ip"], region="CN", storage_country="CN"),
        row("share", 2, discloser=SELF, recipient=evil, given_purpose=evil, given_categories=[f"user.{evil}"]),
        consent("grant", 3, consent_activity="share", purpose=evil, recipient=evil, data_categories=[evil]),
    ]
    beside = background(Operator(name=evil, contact=evil, address=evil, withdrawal=evil, complaints=evil))
    tree = html.fromstring(page(lineage(rows), beside))
    assert not tree.xpath("//script | //img")
    assert tree.text_content().count("<script>alert(1)</script>") >= 8


def test_neither_the_user_id_nor_an_alias_can_be_in_it(person: dict[str, Any]) -> None:
    told = export_lineage(person, "report-html", background())
    assert told.file_name == f"lineage-{SUBJECT}.report.html"
    assert SUBJECT in page(person)


def test_of_nobody_it_says_that_there_is_nothing() -> None:
    nobody: dict[str, Any] = {"subject": None, "events": []}
    assert "We have nothing about you on record" in html.fromstring(page(nobody)).text_content()
    assert report(nobody)["summary"]["events"] == 0


def test_every_category_of_the_policy_has_words() -> None:
    policy = background().policies[0]
    named = {*policy["categories"], *policy["fields"].values()}
    assert all(category_words(category) != category.rpartition(".")[2] for category in named)
    assert category_words("user.own.shoe_size") == "shoe size"
