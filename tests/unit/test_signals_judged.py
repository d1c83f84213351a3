"""TC strings through to verdicts: what a person chose in one decides, and both judges agree."""

from typing import Any

from audit.independent_histories import judge_history as judged_apart
from processors.histories import judge_history
from schemas import schema_dir
from streams.documents import format_instant
from streams.policies import load_policy
from streams.sources.mapping import Position, load_mapping
from tests.unit.tc_strings import core

POLICY = load_policy(schema_dir() / "policies" / "aoxun.yaml")
PRECISE, DEVICE = "user.location.precise", "user.device"
YES: dict[str, Any] = {"purposes": [3, 4, 7], "vendors": [37], "special_features": [1]}


def answer(strings: dict[str, str], event: dict[str, Any]) -> dict[str, Any]:
    """Of an event on the tenth of June, after strings by the day of June on which they came."""
    mapper = load_mapping("tcf").compile(bytes(32))
    accepted = {"event_id": "a", "subject": "s", "occurred_at": "2025-05-01T00:00:00.000Z"}
    consents: list[dict[str, Any]] = [accepted | {"action": "accept", "version": 1}]
    for at, (day, text) in enumerate(strings.items()):
        row = {"user_id": "s", "at": f"2025-06-{day}T00:00:00Z", "tc_string": text}
        made = mapper.map_row(row, Position(at))
        assert isinstance(made, list), made
        for mapped in made:
            told = mapped.record()
            times = {"event_id": mapped.event_id.hex(), "occurred_at": format_instant(mapped.occurred_at)}
            consents.append(told | times | {"subject": "s", "categories": list(told["categories"])})
    events = [{"event_id": "e", "subject": "s", "occurred_at": "2025-06-10T00:00:00.000Z", "region": "CN"} | event]
    history = {
        "policies": [dict(POLICY)],
        "recipients": [PARTNER],
        "consents": consents,
        "erased": [],
        "events": events,
    }
    [ours], [other] = judge_history(history), judged_apart(history)
    assert (ours["verdict"], ours["clauses"]) == (other["verdict"], other["clauses"])
    return ours


def verdict(strings: dict[str, str], event: dict[str, Any]) -> str:
    return str(answer(strings, event)["verdict"])


# Without a contract of its own: only the person's consent lets it have anything.
PARTNER: dict[str, Any] = {
    "id": "gvl:37",
    "kind": "partner",
    "effective_at": "2020-01-01T00:00:00.000Z",
    "country": "CN",
    "purposes": [],
    "categories": [],
    "contract_from": None,
    "contract_until": None,
    "pledge": False,
    "onward": [],
}


def share(*categories: str) -> dict[str, Any]:
    terms = {"discloser": "self", "recipient": "gvl:37", "purpose": "ad_recommendation", "order": None}
    return {"activity": "share", "categories": list(categories), "collected_at": None} | terms


AD: dict[str, Any] = {
    "event_type": "ad_request",
    "purpose": None,
    "categories": [DEVICE],
    "fields": [],
    "storage_country": "CN",
}


def test_use_follows_the_last_string() -> None:
    assert verdict({"01": core(**YES)}, AD) == "lawful"
    assert verdict({"01": core(**YES), "02": core()}, AD) == "violation"
    assert verdict({"01": core(), "02": core(**YES)}, AD) == "lawful"


def test_sharing_follows_the_last_string() -> None:
    assert verdict({}, share(DEVICE)) == "violation"
    assert verdict({"01": core(**YES)}, share(DEVICE)) == "lawful"
    assert verdict({"01": core(**YES), "02": core(**YES | {"vendors": []})}, share(DEVICE)) == "violation"


def test_precise_location_ends_with_its_opt_in() -> None:
    without = core(**YES | {"special_features": []})

    def reasons(strings: dict[str, str]) -> set[str]:
        return {finding["reason"] for finding in answer(strings, share(PRECISE))["findings"]}

    # The shipped policy does not collect precise location at all: consent to share it is one question of two.
    granted, ended = reasons({"01": core(**YES)}), reasons({"01": core(**YES), "02": without})
    assert (granted, ended) == ({"category_beyond_policy"}, {"category_beyond_policy", "refused"})
    assert verdict({"01": core(**YES), "02": without}, share(DEVICE)) == "lawful"
