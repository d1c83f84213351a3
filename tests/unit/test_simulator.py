"""The simulator: the same seed gives the same events, and they are as mixed, late and faulty as in life."""

import io
import itertools
import json
import statistics
import time
import uuid
from collections import Counter, defaultdict
from functools import cache
from typing import Any

import pytest

from infra.simulator import arrivals, simulate, write_jsonl
from infra.simulator.faults import BEYOND_POLICY, OUTSIDE, UNKNOWN_RECIPIENTS
from schemas import schema_dir
from streams.documents import parse_instant
from streams.identities import check_identity
from streams.policies import covers, load_policy, load_recipients, policy_record, recipient_records

DAY = 86_400_000
START = parse_instant("2026-03-01T00:00:00Z")
END = START + 122 * DAY
PEOPLE = 800


@cache
def policies() -> list[dict[str, Any]]:
    folder = schema_dir() / "policies"
    return [policy_record(load_policy(folder / name)) for name in ("aoxun.yaml", "examples/aoxun-v2.yaml")]


@cache
def recipients() -> list[dict[str, Any]]:
    return recipient_records(load_recipients(schema_dir() / "policies" / "recipients-example.yaml"))


@cache
def arrived() -> list[tuple[int, dict[str, Any]]]:
    return list(arrivals(PEOPLE, 4, 11, START, policies(), recipients()))


def events(topic: str) -> list[dict[str, Any]]:
    return [event for _, event in arrived() if event["topic"] == topic]


def test_one_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    def written(seed: int) -> bytes:
        file = io.BytesIO()
        count = write_jsonl(simulate(40, 1, seed, START, policies(), recipients()), file)
        assert count == file.getvalue().count(b"\n") > 500
        return file.getvalue()

    assert written(3) == written(3)
    assert written(3) != written(4)


def test_the_mix_is_that_of_an_app() -> None:
    count = Counter(event["topic"] for _, event in arrived())
    total = count.total()
    assert total == pytest.approx(PEOPLE * 130, rel=0.15)
    assert 0.08 < count["sharing"] / total < 0.16
    assert 0.005 < count["consent"] / total < 0.05
    assert {event["action"] for event in events("consent")} == {
        "accept",
        "leave",
        "age",
        "guardian",
        "grant",
        "withdraw",
    }
    assert {event["activity"] for event in events("sharing")} == {"share", "transfer", "publish"}


def test_events_keep_their_contracts() -> None:
    keys = {
        topic: {f["name"] for f in json.loads((schema_dir() / "avro" / f"{name}.avsc").read_text())["fields"]}
        for topic, name in [
            ("telemetry", "TelemetryCollected"),
            ("consent", "ConsentChanged"),
            ("sharing", "DataShared"),
        ]
    }
    known = set(policies()[-1]["fields"]) | set(BEYOND_POLICY)
    for _, event in arrived():
        assert set(event) <= keys[event["topic"]] | {"topic", "user_id", "identities"}
        assert set(event.get("fields", ())) <= known  # names, never contents
        assert START <= parse_instant(event["occurred_at"]) < END + 10 * DAY


def test_ids_are_uuids_and_only_duplicates_share_one() -> None:
    by_id = defaultdict(list)
    for _, event in arrived():
        assert uuid.UUID(event["event_id"]).version == 4
        by_id[event["event_id"]].append({key: value for key, value in event.items() if key != "identities"})
    twice = [copies for copies in by_id.values() if len(copies) > 1]
    assert 0.002 < len(twice) / len(by_id) < 0.008
    assert all(copy == copies[0] for copies in twice for copy in copies)


def test_a_person_is_introduced_once_by_their_first_event() -> None:
    seen = set()
    for _, event in arrived():
        assert ("identities" in event) == (event["user_id"] not in seen)
        seen.add(event["user_id"])
        for identity in event.get("identities", ()):
            assert check_identity(
                **{
                    "kind": identity["identity_type"],
                    "form": identity["identity_format"],
                    "value": identity["identity_value"],
                }
            )
    assert 0.9 * PEOPLE < len(seen) <= PEOPLE


def test_events_come_in_the_order_of_arrival_and_some_hours_or_days_late() -> None:
    moments = [at for at, _ in arrived()]
    assert moments == sorted(moments)
    delays = sorted(at - parse_instant(event["occurred_at"]) for at, event in arrived())
    assert delays[0] >= 0
    late = [sum(delay > limit for delay in delays) / len(delays) for limit in (60_000, 3_600_000, DAY)]
    assert 0.03 < late[0] < 0.15
    assert 0.01 < late[1] < 0.08
    assert 0.0005 < late[2] < 0.02


def test_activity_is_bursty_and_heavy_tailed() -> None:
    per_person = sorted(Counter(event["user_id"] for event in events("telemetry")).values(), reverse=True)
    assert sum(per_person[: PEOPLE // 10]) > 0.3 * sum(per_person)
    by_hour = Counter(event["occurred_at"][11:13] for event in events("telemetry"))
    assert by_hour["13"] > 5 * by_hour["19"]  # 21:00 and 03:00 in China
    times = defaultdict(list)
    for event in events("telemetry"):
        times[event["user_id"]].append(parse_instant(event["occurred_at"]))
    gaps = [b - a for one in times.values() for a, b in itertools.pairwise(sorted(one))]
    assert statistics.median(gaps) < 60_000 < 1_800_000 < statistics.mean(gaps)


def test_people_accept_late_or_never_opt_out_leave_and_return() -> None:
    by_person = defaultdict(list)
    for event in sorted(events("consent"), key=lambda event: event["occurred_at"]):
        by_person[event["user_id"]].append(event)
    amended = policies()[1]["effective_at"]
    when = [
        parse_instant(event["occurred_at"])
        for facts in by_person.values()
        for event in facts
        if event["action"] == "accept" and event["version"] == 2 and facts[0]["occurred_at"] < "2026-04-20"
    ]
    assert sum(at < amended for at in when) > 5
    assert sum(at > amended + 7 * DAY for at in when) > 20
    assert {event["purpose"] for event in events("consent") if event["action"] == "withdraw"} >= {
        "push",
        "ad_recommendation",
        "ad_measurement",
    }
    actions = [[event["action"] for event in facts] for facts in by_person.values()]
    assert any("leave" in one and "accept" in one[one.index("leave") :] for one in actions)
    minors = [f for f in by_person.values() if any(e.get("band") in ("14_17", "under_14") for e in f)]
    unguarded = [f for f in minors if not any(e["action"] == "guardian" for e in f)]
    assert 0 < len(unguarded) < len(minors)
    for facts in by_person.values():
        away = False
        for event in facts:
            assert not away or event["action"] == "accept", "who has left says nothing before the return"
            away = event["action"] == "leave"


def test_lawful_shares_keep_to_the_registry() -> None:
    """A share of our own without a fault lies within what its recipient may have: else the rate means nothing."""
    entries = {entry["id"]: entry for entry in recipients()}
    within = 0
    for event in (shares := events("sharing")):
        entry = entries.get(event["recipient"])
        purpose = policies()[-1]["purposes"].get(event["purpose"])
        within += bool(
            entry
            and purpose
            and event["activity"] == "share"
            and event["purpose"] in entry["purposes"]
            and covers(entry["categories"], event["categories"])
            and covers(purpose["needs"], event["categories"])
        )
    assert 0.88 < within / len(shares) < 0.97
    assert any(event["discloser"] != "self" for event in shares)


def test_faults_of_each_sort_occur() -> None:
    telemetry, sharing = events("telemetry"), events("sharing")
    kinds = {entry["id"]: entry["kind"] for entry in recipients()}
    countries = {entry["id"]: entry["country"] for entry in recipients()}

    def authority(event: dict[str, Any], ordered: bool) -> bool:
        return kinds.get(event["recipient"]) == "authority" and bool(event["order"]) == ordered

    found = {
        "field": sum(not set(BEYOND_POLICY).isdisjoint(event["fields"]) for event in telemetry),
        "purpose": sum(event["purpose"] in OUTSIDE for event in telemetry),
        "event": sum(event["event_type"].startswith("legacy_event_") for event in telemetry),
        "storage": sum(event["storage_country"] != "CN" for event in telemetry),
        "region": sum(event["region"] is None for event in telemetry),
        "nothing": sum(not event["fields"] and not event["categories"] for event in telemetry),
        "recipient": sum(event["recipient"] in UNKNOWN_RECIPIENTS for event in sharing),
        "abroad": sum(countries.get(event["recipient"]) == "US" for event in sharing),
        "age": sum((event["collected_at"] or "2026") < "2026" for event in sharing),
        "clock": sum((event["collected_at"] or "") > event["occurred_at"] for event in sharing),
        "no order": sum(authority(event, False) for event in sharing),
        "order": sum(authority(event, True) for event in sharing),
        "successor": sum(kinds.get(event["recipient"]) == "successor" for event in sharing),
        "contract": sum(
            event["recipient"] == "brightlane-ads" and event["occurred_at"] >= "2026-06-01" for event in sharing
        ),
    }
    assert {name: count for name, count in found.items() if not count} == {}


def test_without_faults_nothing_of_the_kind_occurs() -> None:
    clean = list(simulate(200, 2, 5, START, policies(), recipients(), fault_rate=0.0, duplicate_rate=0.0))
    assert len({event["event_id"] for event in clean}) == len(clean)
    for event in clean:
        assert set(BEYOND_POLICY).isdisjoint(event.get("fields", ()))
        assert event.get("recipient") not in UNKNOWN_RECIPIENTS
        assert event.get("storage_country", "CN") == "CN"


def test_poison_rows_come_in_addition() -> None:
    rows = list(simulate(100, 1, 5, START, policies(), recipients(), poison_rate=0.02))
    bad = [
        row
        for row in rows
        if row["user_id"] is None
        or row["topic"] == "unknown-topic"
        or row["event_id"] == "not-a-uuid"
        or row["occurred_at"] in (None, "yesterday")
        or isinstance(row.get("categories"), dict)
    ]
    assert 0.01 < len(bad) / len(rows) < 0.03


def test_another_policy_can_be_simulated() -> None:
    policy = policy_record(
        load_policy(
            """\
version: 7
effective_at: 2026-01-01T00:00:00Z
purposes: {play: {clause: "1", basis: explicit_consent, needs: [user.device]}}
categories: [user.device]
events: {move: play}
fields: {score: user.device}
"""
        )
    )
    found = list(simulate(300, 1, 1, START, [policy], [], fault_rate=0.0))
    assert {event["event_type"] for event in found if event["topic"] == "telemetry"} == {"move"}
    assert {event["version"] for event in found if event.get("action") == "accept"} == {7}


def test_nothing_to_simulate_is_said() -> None:
    with pytest.raises(ValueError, match="at least one person"):
        next(simulate(0, 1, 1, START, policies(), recipients()))
    with pytest.raises(ValueError, match="at least one policy"):
        next(simulate(1, 1, 1, START, [], recipients()))


def test_fifty_thousand_events_a_second_of_one_core() -> None:
    begin = time.process_time()
    count = sum(1 for _ in simulate(1000, 4, 1, START, policies(), recipients()))
    assert count / (time.process_time() - begin) > 50_000
