"""Whatever a lineage holds, every format is made of it, and is what it says it is."""

import csv
import io
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import jsonschema
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from prov.model import ProvDocument

from audit.exports.export import FORMATS, export_lineage
from audit.subject import events_for_json
from infra.cli.export import FORMATS as OFFERED
from schemas import schema_dir
from tests.unit.exported_lives import START, SUBJECT, background, row

SCHEMAS = {
    name: json.loads((schema_dir() / "exports" / f"{file}.schema.json").read_text(encoding="utf-8"))
    for name, file in (("prov-json", "prov-json"), ("iso27560", "consent-records"))
}
# What can come through JSON, Avro and ClickHouse: no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.one_of(
    st.sampled_from(["lumen-analytics", "redpay", "service", "push", "user.device", "*", "kind:partner", "self"]), TEXT
)
NAMES = st.lists(NAME, max_size=3)
MAYBE = st.none() | NAME
BASE = {
    "occurred_at": st.integers(-(10**5), 10**6).map(lambda minutes: START + timedelta(minutes=minutes)),
    "event_id": st.uuids(version=4),
    "purpose": MAYBE,
    "data_categories": NAMES,
    "recipient": MAYBE,
    "source": TEXT,
    "policy_version": st.integers(0, 3),
}
JUDGED = BASE | {
    "verdict": st.sampled_from(["lawful", "violation", "gap"]),
    "legal_basis": st.sampled_from(["none", "explicit_consent", "policy_acceptance", "legal_obligation"]),
    "clauses": NAMES,
    "findings": st.lists(st.sampled_from(["violation 3.1(1) refused", "gap 3.1 recipient_unknown", "x", ""])),
    "fields": NAMES,
    "event_type": NAME,
    "region": MAYBE,
    "storage_country": st.none() | st.sampled_from(["CN", "US"]),
    "legal_order": MAYBE,
}
DISCLOSURE = JUDGED | {"discloser": NAME, "collected_at": st.none() | BASE["occurred_at"]}
CONSENT = BASE | {
    "consent_action": st.sampled_from(["accept", "leave", "age", "guardian", "grant", "withdraw"]),
    "consent_version": st.integers(1, 3),
    "consent_activity": st.sampled_from(["use", "share", "transfer", "publish"]),
    "guardian_granted": st.booleans(),
}
ERASURE = BASE | {
    "erasure_phase": st.sampled_from(["requested", "completed"]),
    "request_id": st.sampled_from([UUID(int=0), UUID(int=1)]),
}


def rows(activity: str, values: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(values).map(lambda drawn: row(activity, 0, **drawn))


EVENTS = st.lists(
    st.one_of(
        rows("collect", JUDGED),
        *(rows(activity, DISCLOSURE) for activity in ("share", "transfer", "publish")),
        rows("consent", CONSENT),
        rows("erase", ERASURE),
    ),
    max_size=12,
    unique_by=lambda event: event["event_id"],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(EVENTS)
def test_every_format_is_made_of_anything(drawn: list[dict[str, Any]]) -> None:
    ordered = sorted(drawn, key=lambda event: (event["occurred_at"], str(event["event_id"])))
    person = {"subject": SUBJECT, "events": events_for_json(ordered)}
    made = {name: b"".join(export_lineage(person, name, background()).content) for name in FORMATS}
    ids = [event["event_id"] for event in person["events"]]
    read = list(csv.DictReader(io.StringIO(made["csv"].decode(), newline=""), strict=True))
    assert [one["event_id"] for one in read] == ids
    assert pl.read_parquet(made["parquet"])["source"].to_list() == [event["source"] for event in person["events"]]
    for name, schema in SCHEMAS.items():
        jsonschema.validate(json.loads(made[name]), schema)
    provenance = ProvDocument.deserialize(io.StringIO(made["prov-json"].decode()))
    assert len(provenance.get_records()) == sum(
        len(section) for name, section in json.loads(made["prov-json"]).items() if name != "prefix"
    )
    assert json.loads(made["dpv-jsonld"])["@graph"]
    report = json.loads(made["report-json"])
    assert len(report["collections"]) + len(report["disclosures"]) == sum(
        event["verdict"] is not None for event in person["events"]
    )
    assert html.fromstring(made["report-html"]).xpath("//h1")


def test_the_command_offers_every_format() -> None:
    assert set(OFFERED) == FORMATS.keys()
