"""Global Vendor Lists as recipients: lists of our own, and, where they are at hand, the real ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.main import lineage
from schemas import schema_dir
from streams.documents import parse_instant
from streams.gvl import VendorListError, read_vendor_list
from streams.policies import load_policy, load_recipients, recipient_records
from streams.serdes import Deserializer, Serializer

REAL = Path(__file__).parents[3] / "shared" / "data" / "iab-gvl"
VENDOR = {
    "id": 8,
    "name": " Emil  Ads ",
    "purposes": [1, 3, 4],
    "legIntPurposes": [7],
    "flexiblePurposes": [7],
    "specialPurposes": [1],
    "specialFeatures": [],
    "dataDeclaration": [1, 3, 9],
    "dataRetention": {"stdRetention": 90, "purposes": {"3": 397}, "specialPurposes": {}},
    "urls": [{"langId": "en", "privacy": "https://emil.example/privacy"}],
}


def listed(*vendors: Any, **head: Any) -> str:
    given = {
        "gvlSpecificationVersion": 3,
        "vendorListVersion": 7,
        "tcfPolicyVersion": 4,
        "lastUpdated": "2023-06-29T16:07:26Z",
        "vendors": {str(at): vendor for at, vendor in enumerate(vendors)},
    }
    return json.dumps(given | head)


def test_a_vendor_becomes_a_partner() -> None:
    found = read_vendor_list(listed(VENDOR))
    [record] = found.records
    assert record == {
        "id": "gvl:8",
        "kind": "partner",
        "effective_at": parse_instant("2023-06-29T16:07:26Z"),
        "name": "Emil Ads",
        "contact": "https://emil.example/privacy",
        "country": None,
        # 3, 4 → ad_recommendation, 7 → ad_measurement, special purpose 1 → security; nothing stands for 1.
        "purposes": ["ad_measurement", "ad_recommendation", "security"],
        # Precise location (9) needs special feature 1, which it does not declare.
        "categories": ["user.device.device_id", "user.device.ip_address"],
        "contract_from": None,
        "contract_until": None,
        "pledge": False,
        "onward": [],
    }
    assert (found.version, found.policy_version) == (7, 4)
    assert found.retention_days == {"gvl:8": 397}
    assert found.unmapped == {"purpose 1": 1}
    assert not found.skipped
    encoded = Serializer("RecipientRegistered").encode(record)
    assert Deserializer().decode(encoded)[1]["id"] == "gvl:8"


def test_precise_location_with_its_special_feature() -> None:
    [record] = read_vendor_list(listed(VENDOR | {"specialFeatures": [1]}), country="DE").records
    assert "user.location.precise" in record["categories"]
    assert record["country"] == "DE"


def test_a_deleted_vendor_has_a_contract_that_ends() -> None:
    [record] = read_vendor_list(listed(VENDOR | {"deletedDate": "2023-07-01T00:00:00Z"})).records
    assert record["contract_until"] == parse_instant("2023-07-01T00:00:00Z")


def test_a_list_of_specification_2() -> None:
    old = {key: value for key, value in VENDOR.items() if key not in ("dataDeclaration", "dataRetention", "urls")}
    found = read_vendor_list(listed(old | {"policyUrl": "https://emil.example/p"}, gvlSpecificationVersion=2))
    assert (found.records[0]["contact"], found.records[0]["categories"]) == ("https://emil.example/p", [])
    assert found.unmapped["no data categories declared (specification 2)"] == 1


def test_what_is_skipped_is_counted() -> None:
    broken: list[Any] = [{"id": 3}, {**VENDOR, "id": "x"}, 5, {**VENDOR, "deletedDate": "soon"}, {**VENDOR, "name": 1}]
    found = read_vendor_list(listed(VENDOR, {**VENDOR, "id": 9, "purposes": [1], "legIntPurposes": []}, *broken))
    assert [record["id"] for record in found.records] == ["gvl:8", "gvl:9"]
    assert found.skipped == {"not a vendor as the specification has it": 5}
    storage_only = VENDOR | {"purposes": [1], "legIntPurposes": [], "specialPurposes": []}
    assert read_vendor_list(listed(storage_only)).skipped == {"declares no purpose that ours stand for": 1}
    some = read_vendor_list(listed(VENDOR, VENDOR | {"id": 9}), only=[9, 77])
    assert [record["id"] for record in some.records] == ["gvl:9"]
    assert some.skipped == {"not asked for": 1, "asked for, and not in the list": 1}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "7", "[" * 5000, listed(lastUpdated="June"), listed(gvlSpecificationVersion=9), '{"vendors": []}'],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(VendorListError, match="Global Vendor List"):
        read_vendor_list(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*VENDOR, "deletedDate"]), _JSON))
def test_no_vendor_stops_a_list(change: dict[str, Any]) -> None:
    found = read_vendor_list(listed(VENDOR | {"id": 1}, VENDOR | change))
    assert found.records[0]["id"] == "gvl:1"
    assert len(found.records) + sum(found.skipped.values()) == 2
    for record in found.records:
        Serializer("RecipientRegistered").encode(record)


def test_the_command_writes_a_document_that_can_be_published(tmp_path: Path) -> None:
    file, out = tmp_path / "list.json", tmp_path / "vendors.yaml"
    file.write_text(listed(VENDOR, VENDOR | {"id": 9}))
    done = CliRunner().invoke(lineage, ["recipients", "import-gvl", str(file), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["vendors"] == 2
    assert recipient_records(load_recipients(out)) == read_vendor_list(file.read_bytes()).records
    assert "# Declares to keep data for up to 397 days." in out.read_text()


def test_the_vocabulary_agrees_with_the_shipped_policy_and_with_itself() -> None:
    folder = schema_dir() / "vocabulary"
    terms = yaml.safe_load((folder / "purposes.yaml").read_text("utf-8"))["purposes"]
    policy = load_policy(schema_dir() / "policies" / "aoxun.yaml")
    assert {purpose: (term["data_use"], term["dpv"]) for purpose, term in terms.items()} == {
        purpose: (rule["data_use"], rule["dpv"]) for purpose, rule in policy["purposes"].items()
    }
    tcf = json.loads((folder / "tcf.json").read_text("utf-8"))
    fideslang = json.loads((folder / "fideslang.json").read_text("utf-8"))
    uses = {use for table in ("purposes", "special_purposes") for listed in tcf[table].values() for use in listed}
    assert uses <= set(fideslang["data_uses"])
    assert {key for keys in tcf["data_categories"].values() for key in keys} <= set(fideslang["data_categories"])
    numbers = [number for term in terms.values() for number in term.get("tcf", ())]
    assert len(numbers) == len(set(numbers))
    assert {str(number) for number in numbers} == set(tcf["purposes"]) - {"1"}
    for term in terms.values():
        if "tcf" in term:
            assert term["data_use"] in {use for number in term["tcf"] for use in tcf["purposes"][str(number)]}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real lists are not at hand")
def test_real_lists(tmp_path: Path) -> None:
    kept = {}
    for file in sorted(REAL.rglob("*.json")):
        found = read_vendor_list(file.read_bytes())
        total = len(json.loads(file.read_bytes())["vendors"])
        assert len(found.records) + sum(found.skipped.values()) == total
        assert "not a vendor as the specification has it" not in found.skipped
        kept[str(file.relative_to(REAL))] = (len(found.records), len(found.retention_days))
    assert kept["v2.2/vendor-list.json"] == (371, 371)
    assert kept["v2/vendor-list-v51.json"] == (488, 0)
