"""A person with 10,000 events: each export is made in a few seconds, in pieces, and what it says is whole."""

import csv
import io
import json
import time
from typing import Any

import jsonschema
import polars as pl
import pytest
from lxml import html
from prov.model import ProvActivity, ProvDocument

from audit.exports.export import FORMATS, export_lineage
from schemas import schema_dir
from tests.unit.exported_lives import background, life, lineage

EVENTS = 10_000
# Of one core that others use as well; measured is a tenth of it.
SECONDS = 10.0


@pytest.fixture(scope="module")
def person() -> dict[str, Any]:
    return lineage(life(EVENTS))


@pytest.fixture(scope="module")
def made(person: dict[str, Any]) -> dict[str, tuple[bytes, int, float]]:
    """Format → document, number of its pieces, seconds of processor time."""
    found = {}
    for name in FORMATS:
        began = time.process_time()
        pieces = list(export_lineage(person, name, background()).content)
        found[name] = b"".join(pieces), len(pieces), time.process_time() - began
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_each_is_made_in_seconds(name: str, made: dict[str, tuple[bytes, int, float]]) -> None:
    document, pieces, seconds = made[name]
    print(f"{name}: {seconds:.2f} s, {len(document) / 1e6:.1f} MB, {pieces} pieces")
    assert seconds < SECONDS


@pytest.mark.parametrize("name", ["csv", "report-html", "prov-json", "dpv-jsonld"])
def test_the_large_ones_come_in_pieces(name: str, made: dict[str, tuple[bytes, int, float]]) -> None:
    assert made[name][1] > 10


def test_tables_have_every_event(person: dict[str, Any], made: dict[str, tuple[bytes, int, float]]) -> None:
    ids = [event["event_id"] for event in person["events"]]
    rows = csv.DictReader(io.StringIO(made["csv"][0].decode(), newline=""), strict=True)
    assert [row["event_id"] for row in rows] == ids
    assert pl.read_parquet(made["parquet"][0])["event_id"].to_list() == ids


def test_provenance_has_every_event(made: dict[str, tuple[bytes, int, float]]) -> None:
    document = made["prov-json"][0]
    schema = json.loads((schema_dir() / "exports" / "prov-json.schema.json").read_text(encoding="utf-8"))
    parsed = json.loads(document)
    # All of what is one of its kind, and of the many a part: the validator is slow, and they are made alike.
    part = {name: dict(list(section.items())[::20]) for name, section in parsed.items() if name != "prefix"}
    jsonschema.Draft202012Validator(schema).validate({"prefix": parsed["prefix"], **part})
    provenance = ProvDocument.deserialize(io.StringIO(document.decode()))
    assert len(list(provenance.get_records(ProvActivity))) == EVENTS


def test_dpv_has_every_judged_event(person: dict[str, Any], made: dict[str, tuple[bytes, int, float]]) -> None:
    nodes = json.loads(made["dpv-jsonld"][0])["@graph"]
    named = [event for node in nodes if node["@type"] == "dpv:Process" for event in node["event"]]
    judged = {f"urn:uuid:{event['event_id']}" for event in person["events"] if event["verdict"] is not None}
    assert (len(named), set(named)) == (len(judged), judged)


def test_the_report_has_every_event(person: dict[str, Any], made: dict[str, tuple[bytes, int, float]]) -> None:
    told = json.loads(made["report-json"][0])
    judged = sum(event["verdict"] is not None for event in person["events"])
    assert len(told["collections"]) + len(told["disclosures"]) == judged
    tree = html.fromstring(made["report-html"][0])
    assert len(tree.xpath("//section[@class='annex']//tbody/tr")) == judged
