"""What consent strings are taken to say: facts, and the verdicts' consent state after them."""

from typing import Any

import pytest

from schemas import schema_dir
from streams.documents import DocumentError
from streams.sources.events import Mapped
from streams.sources.mapping import Mapper, Position, Rejection, load_mapping, read_mapping
from streams.sources.readers import FileReader
from tests.unit.tc_strings import base64url, core, gpp, number, publisher_segment, segment

PEPPER = bytes(range(32))
HEAD = "name: t\ninput: {format: jsonl}\nuser_id: user\ntime: {path: at}\nrecords:\n  - to: consent\n    signal:\n"
RULES = """
      tcf: tc
      purposes: {ads: [3, 4], measuring: [7]}
"""
VENDOR = """
      vendors:
        - {id: 8, consent: [3, 4], legitimate_interest: [7], flexible: [7], categories: [user.device]}
"""


def mapper(text: str) -> Mapper:
    return read_mapping(HEAD + text).compile(PEPPER)


def told(rules: str, text: Any, key: str = "tc") -> list[str]:
    """The facts of one row, as `+use ads`, `-share ads gvl:8 *`."""
    made = mapper(rules).map_row({"user": "ada", "at": "2026-01-01T00:00:00Z", key: text}, Position(1))
    assert isinstance(made, list), made
    return [_words(event) for event in made]


def _words(event: Mapped) -> str:
    record = event.record()
    parts = [record["activity"], record["purpose"], record["recipient"], ",".join(record["categories"])]
    return ("+" if record["action"] == "grant" else "-") + " ".join(part for part in parts if part)


def refusal(rules: str, text: Any, key: str = "tc") -> str:
    made = mapper(rules).map_row({"user": "ada", "at": "2026-01-01T00:00:00Z", key: text}, Position(1))
    assert isinstance(made, Rejection), made
    return made.reason


def test_a_purpose_is_granted_when_all_that_it_needs_is() -> None:
    assert told(RULES, core(purposes=[3, 4])) == ["+use ads", "-use measuring"]
    assert told(RULES, core(purposes=[3, 7])) == ["-use ads", "+use measuring"]
    assert told(RULES, core()) == ["-use ads", "-use measuring"]


def test_own_legitimate_interest_counts_where_the_mapping_says_so() -> None:
    objected, told_of = core(purposes_interest=[]), core(purposes_interest=[3, 4, 7])
    rules = RULES + "      legitimate_interest: [3, 4, 7]\n"
    assert told(RULES, told_of) == ["-use ads", "-use measuring"]
    assert told(rules, objected) == ["-use ads", "-use measuring"]
    # Since policy version 4, purposes 3 to 6 need consent.
    assert told(rules, told_of) == ["-use ads", "+use measuring"]
    assert told(rules, core(purposes_interest=[3, 4, 7], policy_version=2)) == ["+use ads", "+use measuring"]


def test_the_publisher_segment_is_asked_where_the_mapping_says_so() -> None:
    rules = RULES + "      own: publisher\n"
    text = core(purposes=[7]) + "." + publisher_segment([3, 4], [])
    assert told(rules, text) == ["+use ads", "-use measuring"]
    assert refusal(rules, core(purposes=[7])) == "the TCF string is not valid: has no publisher segment"


def shared(**given: Any) -> list[str]:
    text = core(**given)
    return [fact for fact in told(RULES + VENDOR, text) if fact[1:].startswith("share")]


YES_ADS, NO_ADS = "+share ads gvl:8 user.device", "-share ads gvl:8 *"
YES_MEASURING, NO_MEASURING = "+share measuring gvl:8 user.device", "-share measuring gvl:8 *"
ALL: dict[str, Any] = {"purposes": [3, 4, 7], "purposes_interest": [7], "vendors": [8], "vendors_interest": [8]}


@pytest.mark.parametrize(
    ("change", "ads", "measuring"),
    [
        ({}, YES_ADS, YES_MEASURING),
        ({"vendors": [9]}, NO_ADS, YES_MEASURING),
        ({"purposes": [3]}, NO_ADS, YES_MEASURING),
        ({"vendors_interest": []}, YES_ADS, NO_MEASURING),
        ({"purposes_interest": []}, YES_ADS, NO_MEASURING),
        ({"restrictions": [(7, 0, [(1, 20)])]}, YES_ADS, NO_MEASURING),
        ({"restrictions": [(7, 0, [(9, 20)])]}, YES_ADS, YES_MEASURING),
        ({"restrictions": [(7, 1, [(8, 8)])], "vendors_interest": []}, YES_ADS, YES_MEASURING),
        ({"restrictions": [(7, 1, [(8, 8)])], "purposes": [3, 4]}, YES_ADS, NO_MEASURING),
        # The vendor is not flexible on purpose 3: it may not go over to another basis.
        ({"restrictions": [(3, 2, [(8, 8)])], "purposes_interest": [3, 7], "policy_version": 2}, NO_ADS, YES_MEASURING),
    ],
)
def test_a_vendor_needs_purpose_and_vendor(change: dict[str, Any], ads: str, measuring: str) -> None:
    assert shared(**ALL | change) == [ads, measuring]


def test_a_vendor_that_was_not_disclosed_has_nothing() -> None:
    def facts(disclosed: list[int]) -> list[str]:
        return told(RULES + VENDOR, core(**ALL) + "." + segment(1, disclosed))[2:]

    assert facts([8]) == [YES_ADS, YES_MEASURING]
    assert facts([9]) == [NO_ADS, NO_MEASURING]


def test_from_march_2026_strings_must_say_who_was_disclosed() -> None:
    before, after = core(**ALL, updated="2026-02-28"), core(**ALL, updated="2026-03-01")
    assert told(RULES, before) == ["+use ads", "+use measuring"]
    wanted = "the TCF string is not valid: does not say which vendors were disclosed, as TCF v2.3 requires"
    assert refusal(RULES, after) == wanted
    assert told(RULES, after + "." + segment(1, [8])) == ["+use ads", "+use measuring"]


def test_an_older_policy_version_is_refused_where_the_mapping_says_so() -> None:
    rules = RULES + "      least_policy_version: 4\n"
    assert told(rules, core(policy_version=4))
    assert refusal(rules, core(policy_version=3)).endswith("of a policy version older than the mapping takes")


def test_special_features_withhold_their_categories() -> None:
    rules = """
      tcf: tc
      purposes: {ads: [3]}
      special_features: {1: [user.location.precise]}
      vendors: [{id: 8, recipient: brightlane, consent: [3], categories: [user.device, user.location.precise]}]
"""
    with_it = told(rules, core(purposes=[3], vendors=[8], special_features=[1]))
    assert with_it == ["+use ads", "+share ads brightlane user.device,user.location.precise"]
    without = told(rules, core(purposes=[3], vendors=[8]))
    assert without == ["+use ads", "+share ads brightlane user.device", "-share ads brightlane user.location.precise"]


US = "      gpp: tc\n      opt_outs: {sale: [ads], targeted_advertising: [measuring]}\n"


def test_gpp_opt_outs() -> None:
    def national(sale: int, sharing: int, targeted: int) -> str:
        bits = "".join(number(value, 2) for value in (sale, sharing, targeted))
        return gpp({7: base64url(number(1, 6) + "01" * 6 + bits + "00" * 16)})

    assert told(US, national(1, 0, 1)) == ["-share ads kind:partner *", "-use measuring"]
    # Not to opt out of a sale is no consent to share.
    assert told(US, national(2, 0, 2)) == ["+use measuring"]
    assert refusal(US, national(0, 0, 0)) == "the matching rule finds nothing to record"


def test_gpp_holds_a_tc_string() -> None:
    rules = RULES.replace("tcf:", "gpp:")
    assert told(rules, gpp({2: core(purposes=[3, 4])})) == ["+use ads", "-use measuring"]


def test_what_is_no_string_is_refused_with_its_reason() -> None:
    assert refusal(RULES, None) == "the TCF string is missing (tc)"
    assert refusal(RULES, 7) == "the TCF string is no text"
    assert refusal(RULES, core()[:40]) == "the TCF string is not valid: ends before its fields do: it is cut off"
    assert refusal(RULES, "B" + core()[1:]) == "the TCF string is not valid: version 1, which TCF ended in 2020"
    assert refusal(US, "x") == "the GPP string is not valid: no GPP string: its header is of another type"


def test_all_facts_of_a_row_have_ids_of_their_own_and_one_moment() -> None:
    row = {"user": "ada", "at": "2026-01-01T00:00:00Z", "tc": core(**ALL)}
    made = mapper(RULES + VENDOR).map_row(row, Position(1))
    again = mapper(RULES + VENDOR).map_row(row, Position(1))
    assert made == again
    assert isinstance(made, list)
    assert len({event.event_id for event in made}) == len(made) == 4
    assert len({event.occurred_at for event in made}) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("      purposes: {ads: [3]}\n", "give `tcf` or `gpp`"),
        ("      tcf: tc\n", "give `purposes`"),
        (RULES + "      opt_outs: {sale: [ads]}\n", "belongs to `gpp`"),
        (RULES + "    action: {const: grant}\n", "the signal gives it"),
        (RULES + "      vendors: [{id: 8, consent: [9], categories: [user.device]}]\n", "declares none of"),
        (RULES + "      vendors: [{id: 8, consent: [3]}]\n", "`categories` is missing"),
        (RULES + VENDOR + VENDOR.split("\n")[2] + "\n", "two vendors have the same `id`"),
        (
            RULES
            + "      special_features: {1: [user.location.precise]}\n"
            + "      vendors: [{id: 8, consent: [3], categories: [user.location]}]\n",
            "list the categories one by one",
        ),
        (
            RULES
            + "      vendors:\n"
            + "".join(f"        - {{id: {n}, consent: [3], categories: [user.device]}}\n" for n in range(1, 300)),
            "more than 500 records",
        ),
    ],
)
def test_what_is_wrong_in_a_document_is_told(rules: str, message: str) -> None:
    with pytest.raises(DocumentError) as told_of:
        mapper(rules)
    assert message in str(told_of.value)


def test_a_signal_belongs_to_consent() -> None:
    with pytest.raises(DocumentError, match="belongs to consent"):
        read_mapping((HEAD + RULES).replace("to: consent", "to: sharing\n    activity: {const: share}"))


def test_the_shipped_mapping() -> None:
    mapping = load_mapping("tcf")
    file = schema_dir() / "mappings" / "examples" / "tcf.jsonl"
    compiled = mapping.compile(PEPPER)
    made: list[list[str] | str] = []
    for batch in FileReader(str(file), mapping).batches():
        for position, row in batch:
            assert isinstance(row, dict)
            found = compiled.map_row(row, position)
            made.append(found.reason if isinstance(found, Rejection) else [_words(event) for event in found])
    first, second, third, fourth = made
    assert "+use personalisation" in first
    assert "+share ad_recommendation gvl:37 user.device,user.unique_id,user.location.precise" in first
    assert "+share development lumen-analytics user.device,user.telemetry" in first
    assert all(fact.startswith("-") for fact in second)
    assert "-use personalisation" in third
    assert "+share ad_recommendation gvl:37 user.device,user.unique_id" in third
    assert "-share ad_recommendation gvl:37 user.location.precise" in third
    assert "as TCF v2.3 requires" in fourth
