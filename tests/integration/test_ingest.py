"""Ingest and the producer client on a real broker: what arrives, what is acknowledged, what is committed."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.partitioning import partition_of
from processors.pseudonyms import alias
from schemas import schema_dir
from streams.contracts import contract_of
from streams.identities import Identity, generate_controller_keys, key_id, load_private_key, open_sealed
from streams.producer import DeliveryError, LineageProducer, MissingTopicsError
from streams.serdes import Deserializer
from streams.sources.ingest import Tally, ingest
from streams.sources.mapping import Mapping, checked_mapping, load_mapping, read_mapping
from streams.sources.readers import SourceError
from streams.topics import apply, plan
from tests.kafka_fixture import KafkaForTests

EXAMPLES = schema_dir() / "mappings" / "examples"
PRIVATE, PUBLIC = generate_controller_keys()


@pytest.fixture(scope="module")
def bootstrap(kafka: KafkaForTests) -> str:
    """The broker with the topics of the catalogue, which other tests may have made already."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    return kafka.bootstrap


@pytest.fixture
def producer(bootstrap: str) -> Iterator[LineageProducer]:
    """A producer with a pepper of its own: its aliases tell its messages from those of other tests."""
    with LineageProducer(bootstrap, os.urandom(32), PUBLIC, source="test") as made:
        yield made


def messages(bootstrap: str, topic: str) -> list[Message]:
    """All of a topic, from the beginning to its end now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "auto.offset.reset": "earliest"})
    numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    partitions = [TopicPartition(topic, number, 0) for number in numbers]
    ends = {each.partition: consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions}
    left = {number for number, end in ends.items() if end > 0}
    consumer.assign([each for each in partitions if each.partition in left])
    found: list[Message] = []
    while left:
        taken = consumer.consume(1_000, timeout=0.5) or consumer.consume(1, timeout=20)
        assert taken, "the topic's end does not come"
        for message in taken:
            assert message.error() is None
            found.append(message)
            if message.offset() >= ends[message.partition()] - 1:
                left.discard(message.partition())
    consumer.close()
    return found


def of(producer: LineageProducer, topic: str, users: list[str]) -> list[tuple[str, dict[str, Any], Message]]:
    """The messages of some users, in order of event time: user, record, message."""
    names = {alias(producer.pepper, user): user for user in users}
    found = [
        (names[message.key()[:16]], Deserializer().decode(message.value())[1], message)
        for message in messages(producer.bootstrap, topic)
        if message.key()[:16] in names
    ]
    return sorted(found, key=lambda each: each[1].get("occurred_at", 0))


def test_a_file_arrives_keyed_by_alias_and_twice_is_the_same(producer: LineageProducer) -> None:
    seen: list[tuple[int, int]] = []

    def progress(tally: Tally) -> None:
        seen.append((tally.read, tally.mapped))

    refused = io.StringIO()
    file = str(EXAMPLES / "mobile-consent-dialogs.csv")
    answer = ingest(file, load_mapping("mobile-consent-dialogs"), producer, progress, rejections=refused)
    reasons = ["`data_type` has a value that the map does not list", "the user id is missing (app_id)"]
    assert answer == {
        "read": 5,
        "mapped": 3,
        "rejected": 2,
        "produced": {"sharing": 3, "identities": 2},
        "rejections": [{"line": 5, "reason": reasons[0]}, {"line": 6, "reason": reasons[1]}],
        "rejected_by_reason": dict.fromkeys(reasons, 1),
    }
    assert [json.loads(line) for line in refused.getvalue().splitlines()] == answer["rejections"]
    assert seen[-1] == (5, 3)

    users = ["org.example.notes", "org.example.torch"]
    first = of(producer, "sharing", users)
    assert [(user, record["recipient"]) for user, record, _ in first] == [
        ("org.example.notes", "facebook"),
        ("org.example.notes", None),
        ("org.example.torch", "firebase"),
    ]
    again = ingest(file, load_mapping("mobile-consent-dialogs"), producer)
    assert again["produced"] == {"sharing": 3}, "identities of known people are not sealed again"
    both = of(producer, "sharing", users)
    assert sorted({message.value() for _, _, message in both}) == sorted(message.value() for _, _, message in first)
    assert len(both) == 6
    # A person's messages of all topics are on the partition of Java's murmur2.
    for user in users:
        numbers = {m.partition() for t in ("sharing", "identities") for u, _, m in of(producer, t, users) if u == user}
        assert numbers == {partition_of(alias(producer.pepper, user), partitions_of(producer.bootstrap))}


def partitions_of(bootstrap: str) -> int:
    return len(
        AdminClient({"bootstrap.servers": bootstrap}).list_topics("sharing", timeout=10).topics["sharing"].partitions
    )


def test_no_user_id_and_no_identifier_is_in_any_byte(producer: LineageProducer) -> None:
    answer = ingest(str(EXAMPLES / "jsonl.jsonl"), load_mapping("jsonl"), producer)
    assert answer["produced"] == {"telemetry": 1, "consent": 2, "sharing": 1, "identities": 3}
    keys = {alias(producer.pepper, user) for user in ("ada", "ben")}
    written = [
        message.key() + message.value()
        for topic in ("telemetry", "consent", "sharing", "identities")
        for message in messages(producer.bootstrap, topic)
        if message.key()[:16] in keys
    ]
    assert len(written) == 7
    for personal in (b"ada@example.org", b"example.org", b'"ada"', b'"ben"'):
        assert not any(personal in each for each in written)
    # Opened by the controller, the last record of a person holds all identifiers.
    _, sealed, message = of(producer, "identities", ["ada"])[-1]
    opened = open_sealed(load_private_key(PRIVATE), message.key()[:16], sealed["sealed"])
    assert [each["identity_value"] for each in opened] == ["ada", "ada@example.org"]
    assert sealed["key_id"] == key_id(load_private_key(PRIVATE).public_key())


def test_the_producer_client(producer: LineageProducer) -> None:
    new_id = producer.collected("u-1", "app_open", ["ip", "model"], region="CN", occurred_at="2026-03-01T08:00:00Z")
    producer.shared("u-1", "acme", ["user.device"], purpose="service", occurred_at=1_772_323_201_000, collected_at=5)
    fixed = UUID(int=7)
    assert producer.consent("u-1", "accept", version=1, event_id=fixed) == fixed
    producer.consent("u-1", "withdraw", activity="share", purpose="*", recipient="*", categories="*")
    producer.collected("u-1", "x", identities=[Identity("email", "raw", "u@example.org")])
    assert producer.flush() == {"telemetry": 2, "sharing": 1, "consent": 2, "identities": 2}
    [(_, opened, _), _] = of(producer, "telemetry", ["u-1"])
    assert UUID(bytes=opened["event_id"]) == new_id
    assert (opened["fields"], opened["source"], opened["occurred_at"]) == (["ip", "model"], "test", 1_772_352_000_000)
    [(_, shared, _)] = of(producer, "sharing", ["u-1"])
    assert (shared["recipient"], shared["collected_at"], shared["discloser"]) == ("acme", 5, "self")
    for wrong, call in {
        "`user_id` must be": lambda: producer.collected(" ", "x"),
        "`event_type` is missing": lambda: producer.collected("u", ""),
        "`region` is not a country code": lambda: producer.collected("u", "x", region="China"),
        "`categories` has an entry that is no": lambda: producer.shared("u", "r", ["Device"]),
        "`activity` is none of share": lambda: producer.shared("u", "r", activity="sell"),
        "`version` is missing: the action accept": lambda: producer.consent("u", "accept"),
        "`recipient` is missing": lambda: producer.consent("u", "grant", activity="share", purpose="*"),
        "is not a time with its zone": lambda: producer.collected("u", "x", occurred_at="2026-03-01"),
        "unknown identity type": lambda: producer.collected("u", "x", identities=[Identity("phone", "raw", "1")]),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            call()
    assert producer.flush()["telemetry"] == 2, "nothing of a refused call is sent"


TOPIC_MAPPING = """
name: {name}
input: {{format: {format}}}
user_id: $key
time: {{path: at, format: epoch_ms}}
records:
  - to: telemetry
    when: {{kind: {{present: true}}}}
    event_type: kind
"""


def send(bootstrap: str, topic: str, values: list[tuple[bytes | None, bytes | None]]) -> None:
    source = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for key, value in values:
        source.produce(topic, value, key)
    assert source.flush(30) == 0


def test_a_json_topic_is_read_once_and_its_rejects_leave_no_bytes(
    kafka: KafkaForTests, producer: LineageProducer
) -> None:
    topic = kafka.new_topic("app-events", partitions=3)
    mapping = read_mapping(TOPIC_MAPPING.format(name=kafka.topic_name("m"), format="json-topic"))
    users = [f"person-{number}" for number in range(50)]
    good = [(user.encode(), json.dumps({"at": 1_700_000_000_000, "kind": "open"}).encode()) for user in users]
    bad = [(b"person-x", b"{"), (b"person-y", None), (None, b'{"at": 1, "kind": "open"}'), (b"person-z", b'{"at": 1}')]
    send(kafka.bootstrap, topic, good + bad)
    answer = ingest(topic, mapping, producer)
    assert (answer["read"], answer["mapped"], answer["rejected"]) == (54, 50, 4)
    assert answer["produced"] == {"telemetry": 50, "identities": 50, "dead-letters": 4}
    assert answer["rejected_by_reason"] == {
        "not JSON": 1,
        "an empty message": 1,
        "the user id is missing ($key)": 1,
        "no rule matches": 1,
    }
    assert len(of(producer, "telemetry", users)) == 50
    dead = [
        (message.key(), record)
        for message in messages(kafka.bootstrap, "dead-letters")
        for _, record in [Deserializer().decode(message.value())]
        if record["source_topic"] == topic
    ]
    assert [(key, record["value"], record["headers"]) for key, record in dead] == [(None, None, [])] * 4
    where = {(record["source_partition"], record["source_offset"]) for _, record in dead}
    assert where == {(each["partition"], each["line"]) for each in answer["rejections"]}

    assert ingest(topic, mapping, producer)["read"] == 0
    send(kafka.bootstrap, topic, good[:5])
    assert ingest(topic, mapping, producer, limit=2)["read"] == 2
    assert ingest(topic, mapping, producer)["read"] == 3


def test_a_followed_topic_goes_on_until_told_to_stop(kafka: KafkaForTests, producer: LineageProducer) -> None:
    topic = kafka.new_topic("app-events", partitions=2)
    mapping = read_mapping(TOPIC_MAPPING.format(name=kafka.topic_name("m"), format="json-topic"))
    row = json.dumps({"at": 1_700_000_000_000, "kind": "open"}).encode()
    read: list[int] = []

    def progress(tally: Tally) -> None:
        read.append(tally.read)
        if len(read) == 1:
            send(kafka.bootstrap, topic, [(b"later", row)] * 3)

    send(kafka.bootstrap, topic, [(b"first", row)])
    answer = ingest(topic, mapping, producer, progress, follow=True, stop=lambda: bool(read) and read[-1] >= 4)
    assert answer["mapped"] == 4


def test_an_avro_topic(kafka: KafkaForTests, producer: LineageProducer, tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "Opened",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "kind", "type": "string"},
        ],
    }
    (tmp_path / "opened.avsc").write_text(json.dumps(schema))
    body = io.BytesIO()
    written = contract_of(schema)
    fastavro.schemaless_writer(body, written.parsed, {"at": 1_700_000_000_123, "kind": "open"})
    value = b"\xc3\x01" + written.fingerprint + body.getvalue()
    topic = kafka.new_topic("app-avro")
    send(
        kafka.bootstrap,
        topic,
        [
            (b"u", value),
            (b"u", value[:-1]),
            (b"u", value + b"x"),
            (b"u", b"\xc3\x01" + b"x" * 20),
            (b"u", b"\0\0\0\0\1x"),
        ],
    )
    text = TOPIC_MAPPING.format(name=kafka.topic_name("m"), format="avro-topic, schemas: [opened.avsc]")
    mapping = checked_mapping(read_mapping(text).document, tmp_path)
    answer = ingest(topic, mapping, producer)
    assert (answer["mapped"], answer["rejected"]) == (1, 4)
    assert answer["rejected_by_reason"] == {
        "not a record of the Avro schema that its header names": 2,
        "an Avro schema that `input.schemas` of the mapping does not list": 1,
        "a schema id, and no schema registry is configured": 1,
    }
    [(_, record, _)] = of(producer, "telemetry", ["u"])
    assert (record["occurred_at"], record["event_type"]) == (1_700_000_000_123, "open")


def lines(tmp_path: Path, rows: int, fields: int = 1) -> str:
    file = tmp_path / "rows.jsonl"
    row = {"topic": "telemetry", "occurred_at": "2026-03-01T08:00:00Z", "event_type": "x"}
    names = [f"field_{number}" for number in range(fields)]
    file.write_text("".join(json.dumps(row | {"user_id": "u", "fields": names}) + "\n" for _ in range(rows)))
    return str(file)


def test_a_full_queue_is_waited_for(bootstrap: str, tmp_path: Path) -> None:
    config = {"queue.buffering.max.messages": 7}
    with LineageProducer(bootstrap, os.urandom(32), PUBLIC, config=config) as small:
        answer = ingest(lines(tmp_path, 500), load_mapping("jsonl"), small)
        assert answer["produced"] == {"telemetry": 500, "identities": 1}
        assert len(of(small, "telemetry", ["u"])) == 500


def test_what_kafka_does_not_take_is_never_reported_as_produced(bootstrap: str, tmp_path: Path) -> None:
    producer = LineageProducer(bootstrap, os.urandom(32), PUBLIC, config={"message.max.bytes": 1_000})
    with pytest.raises(DeliveryError, match="too large"):
        ingest(lines(tmp_path, 2, fields=500), load_mapping("jsonl"), producer)
    assert producer.acknowledged["telemetry"] == 0


def test_a_topic_whose_events_were_not_taken_is_not_committed(kafka: KafkaForTests, bootstrap: str) -> None:
    topic = kafka.new_topic("app-events")
    name = kafka.topic_name("m")
    text = TOPIC_MAPPING.format(name=name, format="json-topic") + "    fields: names\n"
    mapping = read_mapping(text)
    names = [f"field_{number}" for number in range(500)]
    send(kafka.bootstrap, topic, [(b"u", json.dumps({"at": 1, "kind": "open", "names": names}).encode())])
    pepper = os.urandom(32)
    with pytest.raises(DeliveryError):
        ingest(topic, mapping, LineageProducer(bootstrap, pepper, PUBLIC, config={"message.max.bytes": 1_000}))
    with LineageProducer(bootstrap, pepper, PUBLIC) as producer:
        assert ingest(topic, mapping, producer)["mapped"] == 1


def test_what_is_not_there_is_said_in_one_line(
    kafka: KafkaForTests, producer: LineageProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl: Mapping = load_mapping("jsonl")
    with pytest.raises(SourceError, match=r"no file nowhere\.csv"):
        ingest("nowhere.csv", jsonl, producer)
    topic_mapping = read_mapping(TOPIC_MAPPING.format(name="m", format="json-topic"))
    with pytest.raises(SourceError, match="no topic nowhere"):
        ingest("nowhere", topic_mapping, producer)
    gone = LineageProducer("127.0.0.1:1", producer.pepper, PUBLIC, config={"log_level": 0})
    with pytest.raises(DeliveryError, match="no answer from Kafka at 127"):
        gone.check_topics(timeout=1.0)
    monkeypatch.setattr("streams.producer.DEAD_LETTERS", "never-made")
    with pytest.raises(MissingTopicsError, match="has no never-made: run `lineage topics apply`"):
        ingest(str(EXAMPLES / "jsonl.jsonl"), jsonl, producer)
