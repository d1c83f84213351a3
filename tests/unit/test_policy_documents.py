"""Policies and recipients as documents: the shipped ones are whole, mistakes are found, records come back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest
import yaml

from processors.knowledge import STANDARD_RULES
from schemas import schema_dir
from streams.documents import DocumentError, parse_instant
from streams.policies import (
    covers,
    lint_policy,
    lint_recipients,
    load_policy,
    load_recipients,
    policy_document,
    policy_record,
    recipient_records,
    recipients_document,
)

POLICIES = schema_dir() / "policies"
AOXUN = POLICIES / "aoxun.yaml"
AMENDED = POLICIES / "examples" / "aoxun-v2.yaml"
RECIPIENTS = POLICIES / "recipients-example.yaml"


def avro(name: str) -> Any:
    return fastavro.parse_schema(json.loads((schema_dir() / "avro" / f"{name}.avsc").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [AOXUN, AMENDED])
def test_shipped_policies_load_without_a_warning_and_come_back_from_their_records(path: Path) -> None:
    document = load_policy(path)
    assert lint_policy(document) == []
    record = policy_record(document)
    assert fastavro.validate(record, avro("PolicyPublished"), strict=True)
    assert policy_record(load_policy(json.dumps(policy_document(record)))) == record


def test_the_schema_and_the_contract_name_the_same_keys() -> None:
    schema = json.loads((POLICIES / "policy.schema.json").read_text(encoding="utf-8"))
    contract = {field["name"] for field in avro("PolicyPublished")["fields"]}
    assert set(schema["properties"]) - {"extensions"} == contract == set(policy_record(load_policy(AOXUN)))
    assert set(schema["properties"]["rules"]["properties"]) == set(STANDARD_RULES)


def test_clauses_2_1_to_2_7_of_the_aoxun_policy_are_its_purposes() -> None:
    purposes = policy_record(load_policy(AOXUN))["purposes"]
    assert {name: (rule["clause"], rule["basis"]) for name, rule in purposes.items()} == {
        "service": ("2.1", "policy_acceptance"),
        "personalisation": ("2.2", "policy_acceptance"),
        "development": ("2.3", "policy_acceptance"),
        "security": ("2.4", "policy_acceptance"),
        "push": ("2.5", "opt_out"),
        "ad_recommendation": ("2.6", "opt_out"),
        "ad_measurement": ("2.7", "opt_out"),
    }


@pytest.mark.parametrize(
    ("field", "category"),
    [
        # 1.1
        ("photo", "user.content"),
        ("appid", "user.unique_id"),
        ("subscription", "user.account"),
        ("payment_method", "user.payment"),
        ("feedback", "user.content"),
        # 1.2
        ("sdk_version", "user.telemetry"),
        ("browser", "user.device"),
        ("isp", "user.device"),
        ("ip", "user.device.ip_address"),
        ("ip_address", "user.device.ip_address"),
        ("platform", "user.device"),
        ("timestamp", "user.telemetry"),
        ("app_version", "user.telemetry"),
        ("channel", "user.telemetry"),
        ("device_id", "user.device.device_id"),
        ("idfa", "user.device.device_id"),
        ("gaid", "user.device.device_id"),
        ("mac", "user.device.device_id"),
        ("imei", "user.device.device_id"),
        ("model", "user.device"),
        ("manufacturer", "user.device"),
        ("os_version", "user.device"),
        ("session_start", "user.telemetry"),
        ("session_stop", "user.telemetry"),
        ("language", "user.demographic.language"),
        ("timezone", "user.location"),
        ("network_state", "user.device"),
        ("disk", "user.telemetry"),
        ("cpu", "user.telemetry"),
        ("battery", "user.telemetry"),
    ],
)
def test_what_clauses_1_1_and_1_2_name_is_a_field(field: str, category: str) -> None:
    assert covers([category], [load_policy(AOXUN)["fields"][field]])


def test_clauses_4_1_6_and_8_of_the_aoxun_policy() -> None:
    record = policy_record(load_policy(AOXUN))
    assert record["residency"] == {"CN": ["CN"]}
    assert record["age_of_majority"] == 18
    assert record["response_days"] == 30
    assert record["effective_at"] == parse_instant("2019-01-01T00:00:00Z")
    assert record["rules"] == STANDARD_RULES


def test_shipped_recipients_load_without_a_warning_and_come_back_from_their_records() -> None:
    document = load_recipients(RECIPIENTS)
    assert lint_recipients(document, policy_record(load_policy(AOXUN))) == []
    records = recipient_records(document)
    assert {record["kind"] for record in records} == {"affiliate", "partner", "authority", "successor", "public"}
    for record in records:
        assert fastavro.validate(record, avro("RecipientRegistered"), strict=True)
    assert recipient_records(load_recipients(json.dumps(recipients_document(records)))) == records


def test_a_policy_with_little_gets_the_rest() -> None:
    text = "{version: 1, effective_at: '2026-01-01T00:00:00Z', categories: ['*'], purposes: {}}"
    record = policy_record(yaml.safe_load(text))
    assert record["events"] == {}
    assert record["rules"]["share_partner"] == "3.1(4)"
    assert record["effective_at"] == 1_767_225_600_000


BASE = """\
version: 1
effective_at: 2026-01-01T00:00:00Z
purposes:
  service: {clause: "2.1", basis: policy_acceptance, needs: [user.device], data_use: essential.service}
categories: [user.device]
events: {app_open: service}
fields: {ip: user.device.ip_address}
residency: {CN: [CN]}
retention: {user.device: 30}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("needs: [user.device]", "needs: [user.devise]", "4: purposes.service.needs[0]: `user.devise` is no fideslang"),
        ("needs: [user.device]", "needs: [user.name]", "4: purposes.service.needs[0]: `user.name` is not covered"),
        ("data_use: essential.service", "data_use: essential.servis", "did you mean `essential.service`?"),
        ("basis: policy_acceptance", "basis: optout", "did you mean `opt_out`?"),
        ("categories: [user.device]", "categories: [user.toys]", "5: categories[0]: `user.toys` is no fideslang"),
        ("user.device.ip_address", "user.contact.email", "7: fields.ip: `user.contact.email` is not covered"),
        ("CN: [CN]", "CN: [China]", '8: residency.CN[0]: "China" does not fit: expected a country of two capital'),
        ("user.device: 30", "user.device: soon", "9: retention[user.device]: expected a whole number"),
        ("user.device: 30", "user.gadget: 30", "9: retention[user.gadget]: `user.gadget` is no fideslang"),
        ("residency", 'clauses: {"2.2": x}\nresidency', "4: purposes.service.clause: the clause 2.1 is not listed"),
        ("residency", "extensions: {user.device: x}\nresidency", "8: extensions[user.device]: is a fideslang"),
        (
            "residency",
            "rules: {share_partnr: x}\nresidency",
            "8: rules.share_partnr: unknown key: did you mean `share_partner`?",
        ),
    ],
)
def test_a_mistake_in_a_policy_is_found_where_it_is(old: str, new: str, expected: str) -> None:
    assert load_policy(BASE)
    with pytest.raises(DocumentError) as caught:
        load_policy(BASE.replace(old, new), "p.yaml")
    assert expected in str(caught.value)


def test_every_rule_of_a_policy_with_clauses_cites_one_of_them() -> None:
    listed = {**dict.fromkeys([*STANDARD_RULES.values(), "2.1"], "x")}
    assert load_policy(BASE + f"clauses: {json.dumps(listed)}\n")
    del listed["3.1(4)"]
    with pytest.raises(DocumentError, match=r"rules: the rule `share_partner` cites clause 3\.1\(4\)"):
        load_policy(BASE + f"clauses: {json.dumps(listed)}\n")
    assert load_policy(BASE + f'clauses: {json.dumps(listed)}\nrules: {{share_partner: "3.1"}}\n')


def test_categories_of_ones_own_are_declared() -> None:
    text = BASE.replace("[user.device]", "[user.device, user.toys]")
    with pytest.raises(DocumentError, match="declare a category of your own under `extensions`"):
        load_policy(text)
    record = policy_record(load_policy(text + "extensions: {user.toys: What one plays with}\n"))
    assert "extensions" not in record
    assert policy_record(load_policy(json.dumps(policy_document(record)))) == record


def test_what_a_policy_hardly_means_is_a_warning_and_no_error() -> None:
    text = BASE.replace("app_open: service", "app_open: servce").replace("CN: [CN]", "CN: [HK]")
    warnings = lint_policy(load_policy(text.replace("[user.device]\nevents", "[user.device, user.social]\nevents")))
    assert [(warning.line, warning.path) for warning in warnings] == [
        (5, "categories[1]"),
        (6, "events.app_open"),
        (8, "residency.CN"),
    ]
    assert warnings[1].message.endswith("did you mean `service`?")


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(entry: dict[str, Any]) -> None:
        entry[key] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (change("kind", "friend"), 'recipients[0].kind: "friend" is not one of affiliate, partner'),
        (change("id", "self"), 'recipients[0].id: "self" does not fit: expected a recipient id'),
        (change("id", "kind:partner"), 'recipients[0].id: "kind:partner" does not fit'),
        (change("onward", ["*"]), 'recipients[0].onward[0]: "*" does not fit'),
        (change("onward", ["kind:friend"]), 'recipients[0].onward[0]: "kind:friend" does not fit'),
        (change("purposes", ["*"]), 'recipients[0].purposes[0]: "*" does not fit'),
        (change("country", "china"), 'recipients[0].country: "china" does not fit'),
        (change("categories", ["user.dvice"]), "did you mean `user.device`?"),
        (change("contract_until", "2025-01-01T00:00:00Z"), "recipients[0].contract_until: the contract ends before"),
        (change("contract_from", "soon"), "recipients[0].contract_from: 'soon' is not a time with its zone"),
    ],
)
def test_a_mistake_in_a_recipient_is_found(edit: Callable[[dict[str, Any]], None], expected: str) -> None:
    entry = {
        "id": "par",
        "kind": "partner",
        "effective_at": "2026-01-01T00:00:00Z",
        "contract_from": "2026-01-01T00:00:00Z",
    }
    assert load_recipients(json.dumps({"recipients": [entry]}))
    edit(entry)
    with pytest.raises(DocumentError) as caught:
        load_recipients(json.dumps({"recipients": [entry]}), "r.yaml")
    assert expected in str(caught.value)


def test_two_entries_of_one_recipient_and_time_are_refused() -> None:
    entry = "- {id: a, kind: public, effective_at: 2026-01-01T00:00:00Z}\n"
    same = "- {id: a, kind: public, effective_at: 2026-01-01T08:00:00+08:00}\n"
    with pytest.raises(DocumentError, match=r"r:3: recipients\[1\]\.effective_at: .* on line 2: keep one"):
        load_recipients(f"recipients:\n{entry}{same}", "r")


def test_what_a_registry_hardly_means_is_a_warning() -> None:
    document = load_recipients(
        """\
recipients:
- {id: a, kind: partner, effective_at: 2026-01-01T00:00:00Z, onward: [b, pushwav]}
- {id: pushwave, kind: public, effective_at: 2026-01-01T00:00:00Z, pledge: true, onward: [a], purposes: [ads]}
"""
    )
    paths = [warning.path for warning in lint_recipients(document, policy_record(load_policy(AOXUN)))]
    assert paths == [
        "recipients[0]",
        "recipients[0]",
        "recipients[0].onward[0]",
        "recipients[0].onward[1]",
        "recipients[1].onward",
        "recipients[1].pledge",
        "recipients[1].purposes[0]",
    ]


@pytest.mark.parametrize(
    ("listed", "category", "expected"),
    [
        (["user.device"], "user.device", True),
        (["user.device"], "user.device.ip_address", True),
        (["user.device"], "user.devices", False),
        (["user.device.ip_address"], "user.device", False),
        (["*"], "anything", True),
        ([], "user", False),
    ],
)
def test_a_key_covers_itself_and_what_lies_below(listed: list[str], category: str, expected: bool) -> None:
    assert covers(listed, [category]) is expected
