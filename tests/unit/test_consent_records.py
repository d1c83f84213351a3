"""Consent records with the fields of ISO/IEC TS 27560: their states over time, and what is not on record."""

import json
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from audit.exports.background import Background, Operator
from audit.exports.export import export_lineage
from schemas import schema_dir
from tests.unit.exported_lives import OPERATOR, SUBJECT, background, consent, lineage, row

SCHEMA = json.loads((schema_dir() / "exports" / "consent-records.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
GIVEN, RENEWED = "dpv:ConsentGiven", "dpv:RenewedConsentGiven"
WITHDRAWN, REFUSED, REVOKED = "dpv:ConsentWithdrawn", "dpv:ConsentRefused", "dpv:ConsentRevoked"


def records(rows: list[dict[str, Any]], beside: Background | None = None) -> list[dict[str, Any]]:
    document = b"".join(export_lineage(lineage(rows), "iso27560", beside or background()).content)
    found = json.loads(document)
    VALIDATOR.validate(found)
    result: list[dict[str, Any]] = found["records"]
    return result


def states(record: dict[str, Any]) -> list[str]:
    return [event["event_state"] for event in record["events"]]


def share(action: str, minutes: int, **values: Any) -> dict[str, Any]:
    defaults = {"consent_activity": "share", "purpose": "push", "recipient": "pushwave", "data_categories": ["*"]}
    return consent(action, minutes, **{**defaults, **values})


def test_an_acceptance_is_a_consent_to_what_the_policy_rests_on_it() -> None:
    accepted = consent("accept", 0, consent_version=1)
    [record] = records([accepted])
    assert record["header"]["record_id"] == str(accepted["event_id"])
    assert record["pii_processing"]["privacy_notice"]["version"] == 1
    purposes = {purpose["purpose"]: purpose for purpose in record["pii_processing"]["purposes"]}
    assert purposes.keys() >= {"service", "push", "ad_measurement"}
    push = purposes["push"]
    assert (push["clause"], push["purpose_type"], push["retention_period"]) == (
        "2.5",
        "dpv:CommunicationManagement",
        "P365D",
    )
    assert push["recipient_third_parties"] == ["pushwave"]
    assert {"pii_type": "user.contact", "retention_limit": None} in push["pii_information"]
    parties = {party["party_id"]: party for party in record["party_identification"]}
    assert parties["pushwave"]["party_contact"] == "privacy@pushwave.example"
    assert parties["operator"]["party_name"] == OPERATOR.name


def test_given_renewed_withdrawn_and_given_anew() -> None:
    rows = [share("grant", 1), share("grant", 2), share("withdraw", 3), share("grant", 4)]
    [record] = records(rows)
    assert states(record) == [GIVEN, RENEWED, WITHDRAWN, GIVEN]
    assert [event["event_id"] for event in record["events"]] == [str(r["event_id"]) for r in rows]
    assert {event["entity_id"] for event in record["events"]} == {SUBJECT}


@pytest.mark.parametrize(
    ("wider", "ends"),
    [
        ({"purpose": "*"}, True),
        ({"recipient": "*"}, True),
        ({"recipient": "kind:partner"}, True),
        ({"recipient": "kind:affiliate"}, False),
        ({"purpose": "service"}, False),
        ({"data_categories": ["user.device"]}, False),
        ({"consent_activity": "transfer"}, False),
    ],
)
def test_a_wider_withdrawal_ends_a_consent_and_another_one_does_not(wider: dict[str, Any], ends: bool) -> None:
    first, second = records([share("grant", 1), share("withdraw", 2, **wider)])
    assert states(first) == ([GIVEN, WITHDRAWN] if ends else [GIVEN])
    assert states(second) == [WITHDRAWN]
    assert first["events"][-1]["because"] == ("a wider withdrawal" if ends else None)


def test_leaving_and_an_erasure_end_everything_that_stands() -> None:
    accepted = consent("accept", 0, consent_version=1)
    left = records([accepted, share("grant", 1), consent("leave", 2)])
    assert [states(record) for record in left] == [[GIVEN, WITHDRAWN], [GIVEN, WITHDRAWN]]
    erased = row("erase", 2, erasure_phase="completed", request_id=UUID(int=0))
    gone = records([accepted, share("grant", 1), share("withdraw", 1), erased])
    assert [states(record) for record in gone] == [[GIVEN, REVOKED], [GIVEN, WITHDRAWN]]
    requested = row("erase", 2, erasure_phase="requested", request_id=UUID(int=7))
    assert [states(record) for record in records([accepted, requested])] == [[GIVEN]]


@pytest.mark.parametrize("actions", [("grant", "withdraw"), ("withdraw", "grant")])
def test_of_one_moment_the_withdrawal_has_the_last_word(actions: tuple[str, str]) -> None:
    """As in the decision (verdicts.md, "Consent"); which event has the lower id is chance."""
    [record] = records([share(action, 1) for action in actions])
    assert states(record) == [GIVEN, WITHDRAWN]


def test_a_guardian_consents_or_refuses_and_an_age_is_no_consent() -> None:
    rows = [
        consent("age", 1, age_band="14_17"),
        consent("guardian", 2, guardian_granted=False),
        consent("guardian", 3, guardian_granted=True),
        consent("guardian", 4, guardian_granted=False),
    ]
    [record] = records(rows)
    assert states(record) == [REFUSED, GIVEN, WITHDRAWN]
    assert {event["entity_id"] for event in record["events"]} == {f"guardian of {SUBJECT}"}


def test_what_nobody_said_is_null_and_is_said_to_be() -> None:
    [record] = records([share("grant", 1, recipient="nobody-knows", purpose="own_purpose")], background(Operator()))
    missing = record["not_on_record"]
    assert set(missing) >= {
        "/party_identification/0/party_name",
        "/party_identification/0/party_address",
        "/pii_processing/purposes/0/jurisdiction",
        "/pii_processing/purposes/0/withdrawal_method",
        "/pii_processing/purposes/0/purpose_type",
        "/pii_processing/purposes/0/storage_locations",
    }
    for pointer in missing:
        value: Any = record
        for part in pointer[1:].split("/"):
            value = value[int(part)] if isinstance(value, list) else value[part]
        assert value is None, pointer


def test_storage_is_where_collections_are_on_record() -> None:
    collected = row("collect", 0, event_type="app_open", fields=["ip"], region="US", storage_country="DE")
    [record] = records([collected, share("grant", 1)])
    assert record["pii_processing"]["purposes"][0]["storage_locations"] == ["DE"]
    [declared] = records([share("grant", 1)])
    assert declared["pii_processing"]["purposes"][0]["storage_locations"] == ["CN"]


def test_of_nobody_there_is_no_record() -> None:
    nobody: dict[str, Any] = {"subject": None, "events": []}
    found = json.loads(b"".join(export_lineage(nobody, "iso27560", background()).content))
    VALIDATOR.validate(found)
    assert found["records"] == []


def test_the_schema_refuses_what_lacks_a_mandatory_field() -> None:
    [record] = records([share("grant", 1)])
    for section in ("header", "pii_processing", "events"):
        broken = {"schema_version": SCHEMA["$defs"]["schema_version"]["const"], "pii_principal_id": SUBJECT}
        broken |= {"exported_at": "2026-07-01T00:00:00.000Z", "as_of": None}
        without = {name: value for name, value in record.items() if name != section}
        assert list(VALIDATOR.iter_errors(broken | {"records": [without]}))
    for name in ("jurisdiction", "withdrawal_method", "retention_period", "recipient_third_parties"):
        purpose = {k: v for k, v in record["pii_processing"]["purposes"][0].items() if k != name}
        processing = record["pii_processing"] | {"purposes": [purpose]}
        assert list(VALIDATOR.iter_errors({**broken, "records": [record | {"pii_processing": processing}]}))
