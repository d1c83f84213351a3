"""PROV-JSON of a lineage: read back by the package `prov`, and held against the structure of the W3C submission."""

import io
import json
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvEntity, ProvInvalidation, ProvUsage

from audit.exports.background import Background
from audit.exports.export import export_lineage
from schemas import schema_dir
from tests.unit.exported_lives import NOW, REQUEST, SUBJECT, background, consent, life, lineage, row

VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((schema_dir() / "exports" / "prov-json.schema.json").read_text(encoding="utf-8"))
)


def exported(person: dict[str, Any], beside: Background | None = None) -> dict[str, Any]:
    document = b"".join(export_lineage(person, "prov-json", beside or background()).content)
    found: dict[str, Any] = json.loads(document)
    VALIDATOR.validate(found)
    return found


def read(document: dict[str, Any]) -> ProvDocument:
    return ProvDocument.deserialize(io.StringIO(json.dumps(document)))


@pytest.fixture(scope="module")
def person() -> dict[str, Any]:
    return lineage(life(80))


def test_every_event_is_an_activity_and_nothing_is_lost_in_reading(person: dict[str, Any]) -> None:
    document = exported(person)
    provenance = read(document)
    activities = {str(one.identifier) for one in provenance.get_records(ProvActivity)}
    assert activities == {f"uuid:{event['event_id']}" for event in person["events"]}
    assert len(provenance.get_records()) == sum(len(v) for k, v in document.items() if k != "prefix")
    # What was read is what it writes.
    again = json.loads(provenance.serialize())
    assert {k: len(again[k]) for k in document if k != "prefix"} == {
        k: len(v) for k, v in document.items() if k != "prefix"
    }


def test_every_name_that_a_relation_uses_is_declared(person: dict[str, Any]) -> None:
    document = exported(person)
    declared = {name for section in ("entity", "activity", "agent") for name in document[section]}
    sections = set(document) - {"prefix", "entity", "activity", "agent"}
    used = {
        value
        for section in sections
        for relation in document[section].values()
        for key, value in relation.items()
        if key != "prov:time"
    }
    assert used <= declared
    assert sections >= {"wasGeneratedBy", "used", "wasAttributedTo", "actedOnBehalfOf", "wasDerivedFrom", "hadMember"}


def test_who_passed_on_to_whom_can_be_walked(person: dict[str, Any]) -> None:
    provenance = read(exported(person))
    onward = next(e for e in person["events"] if e["discloser"] == "brightlane-ads")
    copy = f"copy:{onward['event_id']}"
    [derived] = [d for d in provenance.get_records(ProvDerivation) if str(d.args[0]) == copy]
    assert str(derived.args[1]) == f"held:{SUBJECT}/recipient.brightlane-ads/user.device.device_id"
    attributed = {str(one.identifier): one for one in provenance.get_records(ProvAgent)}
    assert {str(v) for v in attributed["recipient:brightlane-ads"].get_attribute("lin:contact")} == {
        "data@brightlane.example"
    }


def test_a_disclosure_uses_the_consents_it_rests_on() -> None:
    grant = consent("grant", 1, consent_activity="publish", purpose="*", data_categories=["user.content"])
    accepted = consent("accept", 0, consent_version=1)
    published = row("publish", 9, discloser="self", given_categories=["user.content"], region="CN")
    withdrawn = consent("withdraw", 20, consent_activity="publish", purpose="*", data_categories=["user.content"])
    person = lineage([accepted, grant, published, withdrawn])
    assert person["events"][2]["verdict"] == "lawful"
    provenance = read(exported(person))
    used = {(str(u.args[0]), str(u.args[1])) for u in provenance.get_records(ProvUsage)}
    assert (f"uuid:{published['event_id']}", f"consent:{grant['event_id']}") in used
    [invalidated] = provenance.get_records(ProvInvalidation)
    assert [str(one) for one in invalidated.args[:2]] == [
        f"consent:{grant['event_id']}",
        f"uuid:{withdrawn['event_id']}",
    ]


def test_an_erasure_invalidates_what_was_held() -> None:
    collected = row("collect", 1, event_type="app_open", fields=["ip"], region="CN", storage_country="CN")
    shared = row("share", 2, discloser="self", recipient="redpay", given_categories=["user.payment"])
    erased = row("erase", 3, erasure_phase="completed", request_id=UUID(REQUEST))
    target = {"id": "redpay", "state": "completed", "ended_at": NOW, "grade": "signed", "ground": ""}
    beside = background(requests=[{"request_id": REQUEST, "targets": [target]}])
    provenance = read(exported(lineage([collected, shared, erased]), beside))
    gone = {str(one.args[0]) for one in provenance.get_records(ProvInvalidation)}
    assert {f"data:{collected['event_id']}", f"copy:{shared['event_id']}"} <= gone
    entities = {str(one.identifier) for one in provenance.get_records(ProvEntity)}
    assert gone <= entities


def test_a_guardian_acts_for_the_person() -> None:
    document = exported(lineage([consent("guardian", 1, guardian_granted=True)]))
    [acting] = document["actedOnBehalfOf"].values()
    assert acting["prov:responsible"] == f"uuid:{SUBJECT}"
    assert acting["prov:delegate"] in document["agent"]


@pytest.mark.parametrize("name", ["a b:c/é,(x)", "%", "kind:partner", "..", "<&>"])
def test_any_recipient_has_a_name_that_can_be_read(name: str) -> None:
    person = lineage([row("share", 1, discloser="self", recipient=name, given_categories=["user.device"])])
    provenance = read(exported(person))
    labels = {str(v) for one in provenance.get_records(ProvAgent) for v in one.get_attribute("prov:label")}
    assert name in labels


def test_of_nobody_the_document_is_empty() -> None:
    assert list(exported({"subject": None, "events": []})) == ["prefix"]
