"""Explanations, lineages with their consents, and coverage on the real parts: a small stack by its command.

One data directory serves the whole module, and the tests tell one story in their order.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_driver import Client

from audit.explain import explain_event
from infra.settings import settings
from schemas import schema_dir
from sinks.clickhouse.client import connect, execute
from streams.publishing import published_policies, published_recipients
from tests.integration.test_cli_stack import SUBJECT_KEYS, Lineage

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

RECIPIENTS = schema_dir() / "policies" / "recipients-example.yaml"
LATE = "late-comer"


def event_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def line(topic: str, name: str, occurred_at: str, **values: Any) -> dict[str, Any]:
    """An event of one person in the form of the mapping `jsonl`."""
    return {"topic": topic, "user_id": LATE, "event_id": event_id(name), "occurred_at": occurred_at, **values}


SHARE = {"activity": "share", "purpose": "service", "categories": ["user.payment"], "region": "CN"}
STORY = [
    line("telemetry", "open", "2026-03-05T00:00:00Z", event_type="app_open", fields=["ip"], region="US"),
    line("sharing", "pay", "2026-03-05T01:00:00Z", recipient="redpay", collected_at="2026-03-04T01:00:00Z", **SHARE),
    line("sharing", "sell", "2026-03-05T02:00:00Z", recipient="nobody-knows", **SHARE),
]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("stack") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS))
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def client(lineage: Lineage) -> Iterator[Client]:
    connected = connect(settings({}, data=lineage.data).clickhouse())
    yield connected
    connected.disconnect()


def ingest(lineage: Lineage, lines: list[dict[str, Any]], name: str) -> None:
    file = lineage.data.parent / name
    file.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    assert lineage("ingest", str(file), "--mapping", "jsonl")["rejected"] == 0
    assert not any(lineage("wait", "--timeout", "120")["lag"].values())


def one_of_each(client: Client) -> list[uuid.UUID]:
    """An event of each outcome that there is."""
    rows = execute(client, "SELECT any(event_id) FROM lineage GROUP BY activity, consent_action, verdict, findings", {})
    return [row[0] for row in rows]


def test_every_kind_of_event_is_explained_and_agrees_with_what_is_stored(lineage: Lineage, client: Client) -> None:
    lineage("policy", "publish", str(schema_dir() / "policies" / "examples" / "aoxun-v2.yaml"))
    file = lineage.simulate("events.jsonl", seed=11, people=80)
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")
    kafka = settings({}, data=lineage.data).kafka()
    policies, recipients = published_policies(kafka), published_recipients(kafka)
    verdicts: Counter[str] = Counter()
    agreeing = 0
    for event in one_of_each(client):
        answer = explain_event(client, event, policies, recipients)
        assert answer is not None
        assert answer.keys() >= SUBJECT_KEYS | {"facts", "findings", "text", "revisions"}
        verdicts[answer["verdict"] or answer["activity"]] += 1
        if answer["verdict"] is None:
            assert (answer["facts"], answer["findings"]) == ({}, [])
            continue
        agreeing += answer["agrees"]
        # A difference has its reason: a consent that came after the event, and no revision yet.
        assert answer["agrees"] or came_late(client, answer) > 0
        if answer["agrees"]:
            assert [f"{f['outcome']} {f['clause']} {f['reason']}" for f in answer["findings"]] == stored_findings(
                client, event
            )
            assert (
                answer["facts"]["recipient"] is None or answer["recipient_kind"] == answer["facts"]["recipient"]["kind"]
            )
    assert {"lawful", "violation", "gap", "consent"} <= verdicts.keys()
    assert agreeing > len(verdicts)


def came_late(client: Client, answer: dict[str, Any]) -> int:
    """How many consents of the person count for the event, but were recorded behind it."""
    query = """
    SELECT count() FROM lineage WHERE subject = %(subject)s AND activity = 'consent'
      AND occurred_at <= parseDateTime64BestEffort(%(occurred_at)s, 3, 'UTC') AND kafka_offset > %(offset)s
    """
    row = {name: answer[name] for name in ("subject", "occurred_at")} | {"offset": answer["kafka_offset"]}
    return int(execute(client, query, row)[0][0])


def stored_findings(client: Client, event: uuid.UUID) -> list[str]:
    query = "SELECT findings FROM lineage WHERE event_id = %(event)s ORDER BY revision DESC, kafka_offset DESC LIMIT 1"
    return list(execute(client, query, {"event": event})[0][0])


def test_what_is_missing_is_told_and_a_late_consent_is_not_passed_over(lineage: Lineage) -> None:
    ingest(lineage, STORY, "story.jsonl")
    before = lineage("explain", event_id("pay"))
    assert (before["verdict"], before["clauses"], before["agrees"]) == ("violation", ["7"], True)
    [finding] = before["findings"]
    assert (finding["clause"], finding["heading"], finding["reason"]) == ("7", "Amendments", "not_accepted")
    assert "had not accepted" in finding["text"]
    assert (before["facts"]["accepted"], before["facts"]["consents"]) == (False, [])
    assert "the person had not accepted it" in before["text"]

    ingest(lineage, [line("consent", "tap", "2026-03-01T00:00:00Z", action="accept", version=1)], "tap.jsonl")
    after = lineage("explain", event_id("pay"))
    assert after["recomputed"] == {"verdict": "lawful", "clauses": ["3.1(4)"], "legal_basis": "policy_acceptance"}
    assert (after["facts"]["accepted_by"], after["facts"]["accepted_at"]) == (
        event_id("tap"),
        "2026-03-01T00:00:00.000Z",
    )
    assert after["facts"]["recipient"]["id"] == "redpay"
    assert after["facts"]["recipient"]["effective_at"] == "2022-01-01T00:00:00.000Z"
    assert after["facts"]["recipient"]["contract_holds"] is True
    retention = after["facts"]["retention"]
    assert (retention["checked"], retention["age_days"], retention["limit_days"]) == (True, 1.0, 1095)
    assert after["facts"]["countries_allowed"] == ["CN"]
    # Either the revision is there already, or the difference is told.
    assert after["agrees"] == (after["verdict"] == "lawful")
    if after["agrees"]:
        assert len(after["revisions"]) > 1
        assert after["revision"] == max(revision["revision"] for revision in after["revisions"]) > 0
    else:
        assert "the stored verdict is `violation 7`, all that is known now gives `lawful 3.1(4)`" in after["text"]


def test_a_gap_and_a_collection(lineage: Lineage) -> None:
    gap = lineage("explain", event_id("sell"))
    assert (gap["recomputed"]["verdict"], gap["recomputed"]["clauses"]) == ("gap", ["3.1", "4.1"])
    assert gap["facts"]["recipient"] is None
    assert gap["facts"]["retention"]["checked"] is False
    assert "nobody-knows was not registered then" in gap["text"]
    assert "not checked" in gap["text"]
    collected = lineage("explain", event_id("open"))
    assert collected["recomputed"]["clauses"] == ["2.1"]
    assert collected["facts"]["revealed_by"] == {"user.device.ip_address": ["ip"]}
    assert (collected["facts"]["purpose"], collected["facts"]["purpose_given"]) == ("service", False)
    shown = lineage.run("explain", event_id("open"))
    assert shown.returncode == 0
    assert f"(consent {event_id('tap')})" in shown.stdout


def test_a_consent_has_no_verdict(lineage: Lineage) -> None:
    tap = lineage("explain", event_id("tap"))
    assert (tap["verdict"], tap["facts"]) == (None, {})
    assert "the person accepted version 1 of the policy" in tap["text"]


def test_a_lineage_names_the_consents_that_its_verdicts_rest_on(lineage: Lineage) -> None:
    events = {event["event_id"]: event for event in lineage("subject", LATE)["events"]}
    assert events[event_id("pay")]["consents"] == [event_id("tap")]
    assert events[event_id("tap")]["consents"] == []
    shown = lineage.run("subject", LATE).stdout.splitlines()
    assert sum(event_id("tap")[:8] in row for row in shown) == 4


def test_what_is_no_event_is_said_to_be_none(lineage: Lineage) -> None:
    for given, says in ((event_id("never"), "there is no event"), ("u-17", "must be a UUID")):
        done = lineage.run("explain", given)
        assert done.returncode == 1
        assert says in done.stderr


def test_coverage_counts_what_decided(lineage: Lineage) -> None:
    answer = lineage("policy", "coverage", "--strict")
    assert (answer["policy_version"], answer["bare"], answer["note"]) == (2, [], None)
    by_clause = lineage("totals")["by_clause"]
    decided = {clause["clause"]: clause["decided"] for clause in answer["clauses"] if clause["decided"]}
    assert decided == by_clause
    shares = next(clause for clause in answer["clauses"] if clause["clause"] == "3.1(4)")
    assert sum(shares["decided_as"].values()) == shares["decided"]
    assert shares["decided_as"]["lawful"] > 0


def test_published_versions_are_compared(lineage: Lineage) -> None:
    answer = lineage("policy", "diff", "1", "2")
    assert "purposes.nearby" in {change["key"] for change in answer["changes"]}
    assert lineage("recipients", "diff", "published", str(RECIPIENTS))["changes"] == []
    assert "is not published" in lineage.run("policy", "diff", "1", "7").stderr
