"""`lineage export` on the real parts: a small stack by its command, and a person of it in every format.

One data directory serves the whole module, and the tests tell one story in their order.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from lxml import html
from prov.model import ProvActivity, ProvDocument

from infra.audit_client import AuditClient, find_api
from infra.cli.over_api import NO_REASON
from infra.settings import settings
from schemas import schema_dir
from tests.integration.test_cli_stack import AMENDMENT, RECIPIENTS, Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

OPERATOR = """
name: Aoxun Photos
contact: privacy@aoxun.example
jurisdiction: CN
"""


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("stack") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS))
    assert done.returncode == 0, done.stderr
    command("policy", "publish", str(AMENDMENT))
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def user(lineage: Lineage) -> str:
    """Whoever has the most disclosures of some simulated people."""
    file = lineage.simulate("events.jsonl", seed=11, people=40)
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")
    events = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return Counter(event["user_id"] for event in events if event["topic"] == "sharing").most_common(1)[0][0]


def export(lineage: Lineage, user: str, format_: str, *more: str) -> bytes:
    file = lineage.data.parent / f"export.{format_}"
    told = lineage("export", user, "--format", format_, "--output", str(file), *more)
    document = file.read_bytes()
    assert (told["file"], told["bytes"], told["format"]) == (str(file), len(document), format_)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert user.encode() not in document
    return document


def test_every_format_has_every_event_of_the_person(lineage: Lineage, user: str) -> None:
    (lineage.data / "operator.yaml").write_text(OPERATOR, encoding="utf-8")
    shown = lineage("subject", user)
    ids = [event["event_id"] for event in shown["events"]]
    assert {"collect", "share", "consent"} <= {event["activity"] for event in shown["events"]}
    rows = csv.DictReader(io.StringIO(export(lineage, user, "csv").decode(), newline=""), strict=True)
    assert [row["event_id"] for row in rows] == ids
    frame = pl.read_parquet(export(lineage, user, "parquet"))
    assert frame["event_id"].to_list() == ids
    assert frame["verdict"].to_list() == [event["verdict"] for event in shown["events"]]
    provenance = ProvDocument.deserialize(io.StringIO(export(lineage, user, "prov-json").decode()))
    assert {str(one.identifier) for one in provenance.get_records(ProvActivity)} == {f"uuid:{one}" for one in ids}
    records = json.loads(export(lineage, user, "iso27560"))
    schema = json.loads((schema_dir() / "exports" / "consent-records.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(records, schema)
    assert records["records"][0]["party_identification"][0]["party_name"] == "Aoxun Photos"
    graph = json.loads(export(lineage, user, "dpv-jsonld"))["@graph"]
    judged = sum(event["verdict"] is not None for event in shown["events"])
    assert sum(node.get("events", 0) for node in graph) == judged
    report = json.loads(export(lineage, user, "report-json"))
    assert report["summary"]["events"] == len(ids)
    assert report["operator"]["contact"] == "privacy@aoxun.example"
    page = html.fromstring(export(lineage, user, "report-html"))
    assert len(page.xpath("//section[@class='annex']//tbody/tr")) == judged


def test_as_of_a_moment_nothing_later_is_in_it(lineage: Lineage, user: str) -> None:
    events = lineage("subject", user)["events"]
    middle = events[len(events) // 2]["occurred_at"]
    frame = pl.read_parquet(export(lineage, user, "parquet", "--as-of", middle))
    assert frame["event_id"].to_list() == [event["event_id"] for event in events if event["occurred_at"] <= middle]
    report = json.loads(export(lineage, user, "report-json", "--as-of", middle))
    assert report["as_of"] == middle
    assert report["summary"]["last_at"] == middle


def test_under_the_version_by_which_it_was_judged_nothing_changes(lineage: Lineage, user: str) -> None:
    stored = lineage("subject", user)["events"]
    judged = [e for e in stored if e["policy_version"] == 1 and e["revision"] == 0]
    assert judged
    anew = {row["event_id"]: row for row in read(export(lineage, user, "parquet", "--policy-version", "1"))}
    differing = [e["event_id"] for e in judged if verdict(anew[e["event_id"]]) != verdict(e)]
    # Only what a late consent has not reached yet may differ; after `wait` that is little.
    assert len(differing) < len(judged) / 10
    under_two = read(export(lineage, user, "parquet", "--policy-version", "2"))
    assert {row["policy_version"] for row in under_two if row["verdict"] is not None} == {2}
    shown = lineage("subject", user, "--policy-version", "2")["events"]
    assert {event["event_id"]: event["verdict"] for event in shown} == {
        row["event_id"]: row["verdict"] for row in under_two
    }


def read(document: bytes) -> list[dict[str, Any]]:
    return pl.read_parquet(document).to_dicts()


def verdict(event: dict[str, Any]) -> tuple[str, list[str], str]:
    return event["verdict"], list(event["clauses"]), event["legal_basis"]


def test_a_request_for_erasure_is_in_the_report(lineage: Lineage, user: str) -> None:
    request = lineage("erase", user, "--unverified")["request_id"]
    report = json.loads(export(lineage, user, "report-json"))
    [told] = report["erasures"]["requests"]
    assert (told["request_id"], told["state"]) == (request, "received")
    before = json.loads(export(lineage, user, "report-json", "--as-of", "2026-06-01T00:00:00Z"))
    assert before["erasures"] == {"requests": [], "asked": [], "past": []}


def test_of_an_unknown_person_it_says_so_and_the_file_is_empty_but_valid(lineage: Lineage) -> None:
    file = lineage.data.parent / "nobody.csv"
    done = lineage.run("export", "nobody-at-all", "--format", "csv", "--output", str(file))
    assert done.returncode == 0
    assert "no such person is known here" in done.stderr
    assert file.read_text("utf-8").count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xml"], "is not one of"),
        (["--format", "csv", "--as-of", "yesterday"], "is not a time with its zone"),
        (["--format", "csv", "--policy-version", "9"], "was never published; published: 1, 2"),
        (["--format", "report-html", "--all-revisions"], "is for csv and parquet"),
        (["--format", "csv", "--json"], "name the file"),
    ],
)
def test_errors_say_what_to_do(lineage: Lineage, user: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    done = lineage.run("export", user, *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stdout == ""


def test_an_operator_that_cannot_be_read_is_told(lineage: Lineage, user: str) -> None:
    file = lineage.data / "operator.yaml"
    file.write_text("nom: Aoxun Photos\n", encoding="utf-8")
    try:
        done = lineage.run("export", user, "--format", "report-html")
    finally:
        file.write_text(OPERATOR, encoding="utf-8")
    assert (done.returncode, done.stdout) == (1, "")
    assert "operator.yaml:1" in done.stderr


def test_every_look_is_recorded_with_its_reason(lineage: Lineage, user: str) -> None:
    lineage(
        "export", user, "--format", "csv", "--output", str(lineage.data.parent / "why.csv"), "--reason", "case 4711"
    )
    lineage("subject", user)
    place = find_api(settings({}, data=lineage.data))
    [last, before] = AuditClient(place).get("/looks", limit=2)["looks"]
    subject = lineage("subject", user)["subject"]
    assert (last["client"], last["operation"], last["subject"], last["reason"]) == (
        "operator",
        "lineage",
        subject,
        NO_REASON,
    )
    assert (before["operation"], before["subject"], before["reason"]) == ("export", subject, "case 4711")


def test_it_goes_to_standard_output(lineage: Lineage, user: str) -> None:
    done = lineage.run("export", user, "--format", "report-html")
    assert done.returncode == 0
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.rstrip().endswith("</html>")
