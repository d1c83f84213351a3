"""The intake on a real broker: what is told is there when the call returns, or the call fails."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka.admin import AdminClient

from processors.erasure_commands import Grade
from processors.partitioning import partition_of
from processors.pseudonyms import alias
from streams.erasure_intake import ErasureIntake, IntakeError
from streams.identities import Identity, generate_controller_keys, load_private_key, open_sealed
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer
from streams.topics import ERASURE_RECEIPTS, ERASURE_REQUESTS, IDENTITIES, apply, plan
from tests.kafka_fixture import KafkaForTests

PRIVATE, PUBLIC = generate_controller_keys()
PEPPER = os.urandom(32)


@pytest.fixture(scope="module")
def cluster(kafka: KafkaForTests) -> Kafka:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    return Kafka(kafka.bootstrap)


@pytest.fixture
def intake(cluster: Kafka) -> Iterator[ErasureIntake]:
    made = ErasureIntake(cluster, clock=lambda: 1_760_000_000.5)
    yield made
    made.close()


def told(cluster: Kafka, topic: str, key: bytes) -> list[tuple[Any, dict[str, Any]]]:
    """Messages whose key begins so, with their records."""
    return [
        (message, Deserializer().decode(message.value())[1])
        for batch in scan(cluster, topic)
        for message in batch
        if message.key() is not None and message.key().startswith(key)
    ]


def test_steps_lie_under_the_alias_in_their_order(cluster: Kafka, intake: ErasureIntake) -> None:
    person, request_id = os.urandom(16), uuid4()
    intake.step(
        person, request_id, "received", origin="opendsr", callback_urls=["https://a.example/"], requester="shop"
    )
    intake.step(person, request_id, "verified", verified_by="passport", occurred_at=5)
    intake.step(person, request_id, "held", ground="court order")
    found = told(cluster, ERASURE_REQUESTS, person)
    assert {message.partition() for message, _ in found} == {partition_of(person, 4)}
    records = [record for _, record in found]
    assert [record["step"] for record in records] == ["received", "verified", "held"]
    assert [record["occurred_at"] for record in records] == [1_760_000_000_500, 5, 1_760_000_000_500]
    assert records[0]["callback_urls"] == ["https://a.example/"]
    assert {record["request_id"] for record in records} == {request_id.bytes}
    assert (records[1]["verified_by"], records[2]["ground"]) == ("passport", "court order")


def test_receipts_lie_under_the_request(cluster: Kafka, intake: ErasureIntake) -> None:
    request_id, key = uuid4(), uuid4()
    intake.receipt(request_id, "lumen", "completed", grade=Grade.signed, evidence="ab", idempotency_key=key)
    intake.receipt(request_id, "glow", "retry", grade=Grade.none, source="operator")
    first, second = [record for _, record in told(cluster, ERASURE_RECEIPTS, request_id.bytes)]
    assert (first["answer"], first["grade"], first["idempotency_key"]) == ("completed", "signed", key.bytes)
    assert (second["answer"], second["idempotency_key"], second["source"]) == ("retry", None, "operator")


def test_identities_are_sealed_beside_the_person_and_told_once(cluster: Kafka, intake: ErasureIntake) -> None:
    person = alias(PEPPER, "u-1")
    email, device = Identity("email", "raw", "someone@example.org"), Identity("android_id", "raw", "f00")
    intake.add_identities(PUBLIC, person, [email, device, email], pepper=PEPPER)
    intake.add_identities(PUBLIC, person, [device, email], pepper=PEPPER)
    intake.add_identities(PUBLIC, person, [], pepper=PEPPER)
    found = told(cluster, IDENTITIES, person)
    # The same identities are the same key: compaction keeps one of them.
    assert (len(found), len({message.key() for message, _ in found})) == (2, 1)
    for message, record in found:
        assert (len(message.key()), message.partition()) == (24, partition_of(person, 4))
        assert b"someone" not in message.value()
        opened = open_sealed(load_private_key(PRIVATE), person, record["sealed"])
        assert [each["identity_value"] for each in opened] == ["f00", "someone@example.org"]


def test_many_threads_tell_at_once(cluster: Kafka, intake: ErasureIntake) -> None:
    person, ids = os.urandom(16), [uuid4() for _ in range(200)]

    def tell(request_id: UUID) -> None:
        intake.step(person, request_id, "received")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(tell, ids))
    found = [record["request_id"] for _, record in told(cluster, ERASURE_REQUESTS, person)]
    assert sorted(found) == sorted(each.bytes for each in ids)


def test_what_kafka_does_not_take_is_an_error(cluster: Kafka, intake: ErasureIntake) -> None:
    person = os.urandom(16)
    with pytest.raises(IntakeError, match="erasure-requests"):
        intake.step(person, uuid4(), "received", ground="x" * 2_000_000)
    with pytest.raises(ValueError, match="forgotten"):
        intake.step(person, uuid4(), "forgotten")
    assert told(cluster, ERASURE_REQUESTS, person) == []


def test_a_cluster_that_is_away_is_told(intake: ErasureIntake) -> None:
    intake.check()
    away = ErasureIntake(Kafka("127.0.0.1:1", {"log_level": 0}))
    with pytest.raises(IntakeError, match="no answer"):
        away.check(timeout=0.5)
