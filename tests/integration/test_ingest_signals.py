"""Consent strings on a real broker: grants and withdrawals in the topic, bad strings as dead letters with a reason."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from infra.cli.main import lineage
from schemas import schema_dir
from streams.identities import generate_controller_keys
from streams.producer import LineageProducer
from streams.serdes import Deserializer
from streams.sources.ingest import ingest
from streams.sources.mapping import load_mapping, read_mapping
from streams.topics import apply, plan
from tests.integration.test_ingest import messages, of, send
from tests.kafka_fixture import KafkaForTests
from tests.unit.tc_strings import core

_, PUBLIC = generate_controller_keys()


@pytest.fixture
def producer(kafka: KafkaForTests) -> Iterator[LineageProducer]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    with LineageProducer(kafka.bootstrap, os.urandom(32), PUBLIC, source="test") as made:
        yield made


def test_a_file_of_tc_strings(producer: LineageProducer, tmp_path: Path) -> None:
    shipped = (schema_dir() / "mappings" / "examples" / "tcf.jsonl").read_text("utf-8")
    file = tmp_path / "strings.jsonl"
    file.write_text(shipped + json.dumps({"user_id": "dee", "at": "2025-06-01T08:00:00Z", "tc_string": "CQ!"}) + "\n")
    answer = ingest(str(file), load_mapping("tcf"), producer)
    assert (answer["read"], answer["mapped"], answer["rejected"]) == (5, 3, 2)
    assert answer["rejected_by_reason"] == {
        "the TCF string is not valid: does not say which vendors were disclosed, as TCF v2.3 requires": 1,
        "the TCF string is not valid: has a character that base64url does not have": 1,
    }
    found = of(producer, "consent", ["ada", "bob", "cyd", "dee"])
    assert len(found) == answer["produced"]["consent"]
    assert {user for user, _, _ in found} == {"ada", "bob"}
    facts = {
        (user, record["action"], record["activity"], record["purpose"], record["recipient"], *record["categories"])
        for user, record, _ in found
    }
    assert ("ada", "grant", "use", "personalisation", None) in facts
    assert ("ada", "withdraw", "use", "personalisation", None) in facts
    assert ("ada", "grant", "share", "development", "lumen-analytics", "user.device", "user.telemetry") in facts
    assert ("bob", "withdraw", "share", "ad_recommendation", "gvl:37", "*") in facts


def test_bad_strings_of_a_topic_are_dead_letters_with_their_reason(
    kafka: KafkaForTests, producer: LineageProducer
) -> None:
    topic = kafka.new_topic("consent-platform", partitions=2)
    text = f"""
name: {kafka.topic_name("signals")}
input: {{format: json-topic}}
user_id: $key
time: {{path: at, format: epoch_ms}}
records:
  - to: consent
    signal:
      tcf: tc
      purposes: {{ads: [3, 4]}}
"""
    good = core(purposes=[3, 4])
    strings = {"eve": good, "fay": good[:30], "gus": "B" + good[1:], "hal": None}
    values: list[tuple[bytes | None, bytes | None]] = [
        (user.encode(), json.dumps({"at": 1_750_000_000_000, "tc": value}).encode()) for user, value in strings.items()
    ]
    send(kafka.bootstrap, topic, values)
    answer = ingest(topic, read_mapping(text), producer)
    assert answer["produced"] == {"consent": 1, "identities": 1, "dead-letters": 3}
    [(user, record, _)] = of(producer, "consent", list(strings))
    assert (user, record["action"], record["activity"], record["purpose"]) == ("eve", "grant", "use", "ads")
    dead = [
        record
        for message in messages(kafka.bootstrap, "dead-letters")
        for _, record in [Deserializer().decode(message.value())]
        if record["source_topic"] == topic
    ]
    assert {record["reason"] for record in dead} == {
        "the TCF string is not valid: ends before its fields do: it is cut off",
        "the TCF string is not valid: version 1, which TCF ended in 2020",
        "the TCF string is missing (tc)",
    }
    assert all(record["value"] is None for record in dead)


def test_vendors_of_a_list_are_published_once(kafka: KafkaForTests, producer: LineageProducer, tmp_path: Path) -> None:
    vendor = {"id": 4_711, "name": "Emil Ads", "purposes": [3], "dataDeclaration": [1], "urls": []}
    head = {"gvlSpecificationVersion": 3, "vendorListVersion": 7, "tcfPolicyVersion": 4}
    file = tmp_path / "list.json"
    file.write_text(json.dumps(head | {"lastUpdated": "2023-06-29T16:07:26Z", "vendors": {"4711": vendor}}))
    command = ["recipients", "import-gvl", str(file), "--kafka", kafka.bootstrap, "--json"]
    first, second = (CliRunner().invoke(lineage, command) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    [key] = json.loads(first.stdout)["published"]
    assert key.startswith("gvl:4711@")
    assert json.loads(second.stdout)["unchanged"] == [key]
    listed = CliRunner().invoke(lineage, ["recipients", "list", "--kafka", kafka.bootstrap, "--json"])
    [entry] = [each for each in json.loads(listed.stdout)["recipients"] if each["id"] == "gvl:4711"]
    assert (entry["kind"], entry["purposes"]) == ("partner", ["ad_recommendation"])
    assert entry["categories"] == ["user.device.ip_address"]
