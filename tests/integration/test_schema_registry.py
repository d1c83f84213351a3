"""Confluent's wire format against a real schema registry, by itself and through producer, broker and tagger."""

import copy
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from infra.local.kafka import LocalKafka
from infra.local.preparation import shipped_policy
from schemas import schema_dir
from streams import topics
from streams.columnar import BatchDecoder
from streams.compatibility import check_released
from streams.contracts import Schema, contract, contract_of
from streams.dead_letter_reader import read_dead_letters
from streams.kafka import Kafka
from streams.policies import load_policy, load_recipients, policy_record, recipient_records
from streams.producer import LineageProducer
from streams.publishing import publish_policies, publish_recipients
from streams.registry import ConfluentRegistry, RegistryError
from streams.serdes import DecodeError, Deserializer, SchemaBook, Serializer, UnknownSchemaError, encode_body
from streams.tagger import Tagger
from tests.registry_fixture import LocalRegistry, free_port

SHARING = frozenset({"DataShared"})
PEOPLE = 20


def disclosure(number: int, order: str | None = None) -> dict[str, Any]:
    return {
        "event_id": number.to_bytes(16, "big"),
        "occurred_at": 1_772_323_200_000 + number,
        "collected_at": None,
        "activity": "share",
        "discloser": "self",
        "recipient": f"analytics-{number % 3}",
        "purpose": "personalisation",
        "categories": ["user.device"],
        "region": "CN",
        "order": order,
        "source": "mobile-app",
    }


def confluent(schema_id: int, schema: Schema, record: dict[str, Any]) -> bytes:
    return b"\x00" + struct.pack(">I", schema_id) + encode_body(contract_of(schema).parsed, record)


def without(name: str) -> Schema:
    """DataShared as it would have been before an optional field came."""
    schema = copy.deepcopy(contract("DataShared").schema)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != name]
    return schema


def test_what_is_written_is_read_and_the_registry_gives_the_contract_back(registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url)
    serializer = Serializer("DataShared", client)
    value = serializer.encode(disclosure(1))
    (schema_id,) = struct.unpack(">I", value[1:5])
    assert value[:1] == b"\x00"
    assert contract_of(client.schema(schema_id)).fingerprint == contract("DataShared").fingerprint
    # Another process, which has seen nothing, is given the same id and reads it.
    assert Serializer("DataShared", ConfluentRegistry(registry.url)).header == serializer.header
    assert Deserializer(ConfluentRegistry(registry.url)).decode(value) == ("DataShared", disclosure(1))
    with pytest.raises(UnknownSchemaError, match="no schema registry is configured"):
        Deserializer().decode(value)


def test_both_wire_formats_and_an_older_writer_in_one_batch(registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url)
    older = without("order")
    older_id = client.register("lineage.v1.DataShared", older)
    ours, single = Serializer("DataShared", client), Serializer("DataShared")
    assert ours.header != b"\x00" + struct.pack(">I", older_id)
    events = [disclosure(n, order=None if n % 3 == 2 else "court-7") for n in range(300)]
    values: list[bytes | None] = [
        (ours.encode(e), single.encode(e), confluent(older_id, older, e))[n % 3] for n, e in enumerate(events)
    ]
    batches, refused = BatchDecoder(SchemaBook(client)).decode(values, SHARING)
    assert not refused
    assert len(batches) == 3
    read: dict[int, bytes] = {}
    for decoder, batch in batches:
        assert decoder.writer.is_current == (decoder.writer.header[1:5] != struct.pack(">I", older_id))
        heads = batch.heads()
        for i, position in enumerate(batch.index.tolist()):
            # What a job writes on is under the current contract, whoever wrote it.
            read[position] = single.header + heads[i] + decoder.encoded[int(batch.tail[i])]
    assert [read[n] for n in range(300)] == [single.encode(e) for e in events]
    one_by_one = Deserializer(client)
    assert [one_by_one.decode(value or b"")[1] for value in values] == events


def register(registry: LocalRegistry, subject: str, kind: str, text: str) -> int:
    client = SchemaRegistryClient({"url": registry.url})
    return int(client.register_schema(subject, RegistrySchema(text, kind)))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("AVRO", '{"type": "record", "name": "Invoice", "namespace": "shop", "fields": []}'),
        # Our short name, another's record.
        ("AVRO", '{"type": "record", "name": "DataShared", "namespace": "shop", "fields": []}'),
        ("AVRO", '{"type": "enum", "name": "DataShared", "namespace": "lineage.v1", "symbols": ["A"]}'),
        ("AVRO", '"string"'),
        ("JSON", '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'),
        ("PROTOBUF", 'syntax = "proto3"; message DataShared { string name = 1; }'),
    ],
)
def test_a_schema_that_is_none_of_ours_refuses_its_messages_only(registry: LocalRegistry, kind: str, text: str) -> None:
    schema_id = register(registry, f"foreign-{abs(hash((kind, text)))}", kind, text)
    client = ConfluentRegistry(registry.url)
    foreign = b"\x00" + struct.pack(">I", schema_id) + b"abc"
    with pytest.raises(UnknownSchemaError, match=f"schema id {schema_id} "):
        Deserializer(client).decode(foreign)
    good = Serializer("DataShared", client).encode(disclosure(1))
    batches, refused = BatchDecoder(SchemaBook(client)).decode([foreign, good, foreign], SHARING)
    assert refused.keys() == {0, 2}
    assert {error.error_class for error in refused.values()} == {"unknown_schema"}
    assert [batch.index.tolist() for _, batch in batches] == [[1]]


def test_a_writer_that_the_contract_cannot_read_refuses_its_messages_only(registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url)
    no_default = without("activity")
    other_head = copy.deepcopy(contract("DataShared").schema)
    other_head["fields"][:2] = other_head["fields"][1::-1]
    values: list[bytes | None] = [Serializer("DataShared", client).encode(disclosure(0))]
    for number, schema in enumerate((no_default, other_head)):
        # Another subject: no compatibility rule looks at what is under ours.
        values.append(confluent(client.register(f"careless-{number}", schema), schema, disclosure(number)))
    batches, refused = BatchDecoder(SchemaBook(client)).decode(values, SHARING)
    assert {n: error.error_class for n, error in refused.items()} == {1: "undecodable", 2: "undecodable"}
    assert sum(len(batch) for _, batch in batches) == 1


def test_an_id_that_was_never_given_is_refused_and_cut_headers_too(registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url)
    values: list[bytes | None] = [b"\x00\x7f\xff\xff\xff" + b"abc", b"\x00\x00\x01", b"\x00"]
    _, refused = BatchDecoder(SchemaBook(client)).decode(values, SHARING)
    assert [refused[n].error_class for n in range(3)] == ["unknown_schema", "undecodable", "undecodable"]
    assert "schema id 2147483647 is not in the registry" in str(refused[0])


def test_an_incompatible_contract_is_refused_by_the_registry(registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url)
    client.register("lineage.v1.DataShared", contract("DataShared").schema)
    changed = copy.deepcopy(contract("DataShared").schema)
    changed["fields"].append({"name": "weight", "type": "long"})
    with pytest.raises(RegistryError, match=r"refused lineage\.v1\.DataShared"):
        client.register("lineage.v1.DataShared", changed)


def test_a_registry_that_cannot_be_asked_is_no_messages_fault(registry: LocalRegistry) -> None:
    value = b"\x00\x00\x00\x00\x01" + b"abc"
    down = f"http://127.0.0.1:{free_port()}"
    # The registry's process, but not its Confluent API: it answers 404 to everything.
    wrong = registry.url.replace("ccompat", "elsewhere")
    for url in (down, wrong):
        client = ConfluentRegistry(url, **{"max.retries": 0})
        for ask in (
            lambda client=client: SchemaBook(client).writer(value),
            lambda client=client: BatchDecoder(SchemaBook(client)).decode([value], SHARING),
            lambda client=client: Serializer("DataShared", client),
        ):
            with pytest.raises(RegistryError) as raised:
                ask()
            assert not isinstance(raised.value, DecodeError)
            assert url in str(raised.value)
    with pytest.raises(RegistryError, match="check that it runs"):
        ConfluentRegistry(down, **{"max.retries": 0}).schema(1)
    with pytest.raises(RegistryError, match="no address"):
        ConfluentRegistry("no address")


def test_released_contracts_need_no_registry() -> None:
    found = check_released()
    assert found.compared > 0
    assert not found.incompatible


# Producer, broker, tagger


@pytest.fixture
def broker(tmp_path: Path, kafka_jars: Path, java: Sequence[str]) -> Iterator[Kafka]:
    """A broker of its own: the catalogue's names are fixed."""
    local = LocalKafka(tmp_path / "kafka", jars=kafka_jars, java=java)
    local.start()
    kafka = Kafka(local.bootstrap)
    admin = kafka.admin()
    topics.apply(admin, topics.plan(admin, partitions=2))
    yield kafka
    local.stop()


class Running:
    """A tagger in a thread; what it raised in `error`."""

    def __init__(self, tagger: Tagger) -> None:
        self.error: BaseException | None = None
        self._stop = threading.Event()
        ready = threading.Event()

        def run() -> None:
            try:
                tagger.run(self._stop, ready.set)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert ready.wait(30), self.error

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(30)


def values_of(kafka: Kafka, topic: str) -> list[bytes]:
    """All committed values of a topic."""
    consumer: Consumer = kafka.consumer("test")
    try:
        partitions = [TopicPartition(topic, p, 0) for p in consumer.list_topics(topic).topics[topic].partitions]
        consumer.assign(partitions)
        values, ended = [], 0
        while ended < len(partitions):
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    values.append(message.value())
                else:
                    ended += 1
        return values
    finally:
        consumer.close()


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.1)


def produce(kafka: Kafka, value: bytes) -> None:
    producer: Producer = kafka.producer()
    producer.produce(topics.SHARING, key=bytes(16), value=value)
    assert producer.flush(30) == 0


@pytest.mark.kafka
def test_from_producer_to_lineage_in_confluents_format(broker: Kafka, registry: LocalRegistry) -> None:
    client = ConfluentRegistry(registry.url, **{"max.retries": 0, "timeout": 2})
    publish_policies(broker, [policy_record(load_policy(shipped_policy()))], client)
    registered = load_recipients(schema_dir() / "policies" / "recipients-example.yaml")
    publish_recipients(broker, recipient_records(registered), client)
    public = X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    sent = set()
    with LineageProducer(broker.bootstrap, bytes(range(32)), public, client) as producer:
        for number in range(PEOPLE):
            person = f"person-{number}"
            sent.add(producer.consent(person, "accept", version=1).bytes)
            sent.add(producer.collected(person, "login", purpose="security", region="CN").bytes)
            sent.add(producer.shared(person, "aoxun-cloud", ["user.device"], purpose="service").bytes)
    # Not everybody uses the registry, and somebody uses another.
    produce(broker, Serializer("DataShared").encode(disclosure(7)))
    produce(broker, b"\x00\x7f\xff\xff\xff" + b"abc")

    running = Running(Tagger(broker, registry=client))
    try:
        eventually(lambda: len(values_of(broker, topics.LINEAGE)) == 3 * PEOPLE + 1 or running.error is not None)
        eventually(lambda: bool(values_of(broker, topics.DEAD_LETTERS)) or running.error is not None)
        assert running.error is None
        lineage = values_of(broker, topics.LINEAGE)
        assert {value[:1] for value in lineage} == {b"\x00"}
        reader = Deserializer(ConfluentRegistry(registry.url))
        records = [reader.decode(value) for value in lineage]
        assert {name for name, _ in records} == {"ConsentRecorded", "CollectionRecorded", "DisclosureRecorded"}
        assert {record["event_id"] for _, record in records} == sent | {disclosure(7)["event_id"]}
        assert all(record["policy_version"] is not None for name, record in records if name == "CollectionRecorded")
        (letter,) = read_dead_letters(broker, client)
        assert letter.record["error_class"] == "unknown_schema"

        # The registry falls silent: what is known goes on, what must be asked for stops the job and is not refused.
        with registry.silent():
            produce(broker, Serializer("DataShared").encode(disclosure(8)))
            eventually(lambda: len(values_of(broker, topics.LINEAGE)) == len(lineage) + 1)
            produce(broker, b"\x00\x7f\xff\xff\xfe" + b"abc")
            eventually(lambda: running.error is not None)
        assert isinstance(running.error, RegistryError)
        assert len(values_of(broker, topics.DEAD_LETTERS)) == 1
    finally:
        running.stop()
    # It answers again: started again, the job asks once more, and now the message is known to be wrong.
    running = Running(Tagger(broker, registry=client))
    try:
        eventually(lambda: len(values_of(broker, topics.DEAD_LETTERS)) == 2 or running.error is not None)
        assert running.error is None
        assert len(values_of(broker, topics.LINEAGE)) == len(lineage) + 1
    finally:
        running.stop()
