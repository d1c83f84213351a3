"""The chain of seals on a real broker: loaders that die, are replaced, or wake up too late leave one chain, without
gap and without fork."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.seal_check import LogCheck, check_log
from infra.local.kafka import LocalKafka
from streams import topics
from streams.kafka import Kafka
from streams.sealed_log import SealedLog
from streams.sealing import Sealing
from streams.seals import SealEncoder
from streams.topics import LINEAGE, LINEAGE_SEALS

pytestmark = pytest.mark.kafka

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
# Longer than this without a poll, and the group gives a member's partitions to another.
PATIENCE = {"session.timeout.ms": 6_000, "max.poll.interval.ms": 6_000}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path, java: Sequence[str]) -> Iterator[Kafka]:
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), jars=kafka_jars, java=java)
    broker.start()
    kafka = Kafka(broker.bootstrap, {"log_level": 2})
    topics.apply(kafka.admin(), topics.plan(kafka.admin(), 1))
    yield kafka
    broker.stop()


class Member:
    """What the loader does of sealing, step by step: records that are committed and sealed."""

    def __init__(self, kafka: Kafka, instance: str) -> None:
        self.consumer: Consumer = kafka.consumer("loader", **PATIENCE)
        self.assigned: list[TopicPartition] = []
        self.sealing = Sealing(kafka, KEY, instance)
        self.sealing.start()
        self.committed = 0

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            committed = consumer.committed(partitions, timeout=90)
            self.committed = max(committed[0].offset, 0)
            self.assigned = [TopicPartition(LINEAGE, 0, self.committed or OFFSET_BEGINNING)]
            consumer.assign(self.assigned)
            self.sealing.take_over({0: self.committed})

        self.consumer.subscribe([LINEAGE], on_assign=assigned)

    def load(self, most: int) -> int:
        """Loads and commits up to so many records; how many it were."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            messages = [m for m in self.consumer.consume(most, 0.5) if m.error() is None]
            if messages:
                self.committed = messages[-1].offset() + 1
                self.consumer.commit(offsets=[TopicPartition(LINEAGE, 0, self.committed)], asynchronous=False)
                offsets = np.array([m.offset() for m in messages])
                self.sealing.add(0, offsets, [m.key() for m in messages], [m.value() for m in messages])
                return len(messages)
        raise TimeoutError("nothing came")

    def seal(self) -> None:
        self.sealing.seal(self.consumer, {0: self.committed})


def write(kafka: Kafka, n: int) -> None:
    producer = kafka.producer()
    for number in range(n):
        producer.produce(LINEAGE, b"value %d" % number, bytes(16), 0)
    producer.flush()


def checked(kafka: Kafka) -> LogCheck:
    return check_log(SealedLog(kafka), [KEY.public_key()])


def test_a_loader_that_dies_before_the_first_seal_leaves_nothing_unsealed(kafka: Kafka) -> None:
    write(kafka, 20)
    dies = Member(kafka, "0")
    assert dies.load(20) == 20
    dies.consumer.close()
    heir = Sealing(kafka, KEY, "0")
    heir.start()
    heir.take_over({0: 20})
    found = heir._open[0]
    assert (found.number, found.start, found.end, found.digest.records) == (0, 0, 20, 20)


def test_whoever_takes_over_seals_on_and_whoever_wakes_up_too_late_does_not(kafka: Kafka) -> None:
    write(kafka, 100)
    first = Member(kafka, "1")
    assert first.load(40) == 40
    first.seal()
    assert first.load(30) == 30
    # Loaded and committed, not sealed; and now it sleeps, until the group has given its partition away.
    second = Member(kafka, "2")
    time.sleep(PATIENCE["max.poll.interval.ms"] / 1000 + 1)
    loaded = second.load(30)
    second.seal()
    first.seal()
    found = checked(kafka)
    assert found.differences == []
    assert (found.seals, found.sealed, found.heads[0].end) == (2, 90 + loaded, 90 + loaded)
    write(kafka, 10)
    second.load(100)
    second.seal()
    assert [seal.start for seal in SealedLog(kafka).seals(0)] == [0, 60, 90 + loaded]  # type: ignore[union-attr]
    assert checked(kafka).differences == []
    second.consumer.close()
    first.consumer.close()


def test_what_others_put_into_the_topic_is_named_and_does_not_lead_the_chain_astray(kafka: Kafka) -> None:
    before = checked(kafka)
    end = before.heads[0].end
    fields = {"partition": 0, "number": 9, "start": end, "end": 10**15, "records": 1, "digest": bytes(32)}
    forged, _ = SealEncoder(OTHER).encode(fields | {"previous": bytes(32), "sealed_at": 0})
    [told_before, *_] = [seal for seal in SealedLog(kafka).seals(0) if not isinstance(seal, Exception)]
    again = SealEncoder(KEY)._header + told_before.body
    producer = kafka.producer()
    for value in (forged, b"no seal", again):
        producer.produce(LINEAGE_SEALS, value, b"0", 0)
    producer.flush()
    write(kafka, 5)
    member = Member(kafka, "3")
    member.load(100)
    member.seal()
    member.consumer.close()
    found = checked(kafka)
    assert sorted(one.reason for one in found.differences) == ["chain", "key", "unreadable"]
    assert found.sealed == found.records
    assert found.heads[0].number == before.heads[0].number + 1


def test_a_log_that_was_cut_off_at_its_beginning_is_named(kafka: Kafka) -> None:
    admin = kafka.admin()
    [future] = admin.delete_records([TopicPartition(LINEAGE, 0, 10)]).values()
    future.result(30)
    found = [one for one in checked(kafka).differences if one.reason == "records"]
    assert [(one.start, one.end) for one in found] == [(0, 60)]
