"""The tagger: inputs → lineage, violations, erased subjects, dead letters and its own state, one transaction a batch.

Offsets, outputs and changelog commit together, so every input is judged exactly once whatever dies. A transaction
whose end is not certain ends the process: the next one fences it, restores the state from `subject-state` and goes on
from the committed offsets.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from itertools import groupby
from threading import Event
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from streams.dead_letters import POISON_RATIO, DeadLetterWriter, check_poison
from streams.group import GroupReader, Position, Read
from streams.kafka import Kafka
from streams.knowledge_marks import knowledge_mark
from streams.reference_data import ReferenceData
from streams.serdes import DecodeError, Registry, SchemaBook, Serializer
from streams.subjects import ALIAS_SIZE
from streams.tagging import Tagged, Tagging
from streams.topics import (
    CONSENT,
    DEAD_LETTERS,
    ERASED_SUBJECTS,
    ERASURE_REQUESTS,
    IDENTITIES,
    LINEAGE,
    SHARING,
    SUBJECT_STATE,
    TELEMETRY,
    VIOLATIONS,
)

log = logging.getLogger(__name__)

GROUP = "tagger"
# Librdkafka's RD_KAFKA_PARTITION_UA: by the key.
PARTITION_UA = -1
# Judged only when the same partition's consents are read. Steps of erasures come last: the fence stands behind all
# that the same batch discloses.
DATA = (TELEMETRY, SHARING, ERASURE_REQUESTS)
# A partition whose consents are this far behind holds its data back, to keep late facts rare.
CONSENT_LAG = 10_000
LAG_CHECK_SECONDS = 1.0
HEARTBEAT_KEY = b"heartbeat"
HEARTBEAT_SECONDS = 600.0


class Tagger:
    """One worker. `instance` names it among its peers (static membership, transactional id) and must be unique."""

    def __init__(
        self,
        kafka: Kafka,
        instance: str = "0",
        registry: Registry | None = None,
        batch_size: int = 30_000,
        batch_seconds: float = 0.2,
        poison_ratio: float = POISON_RATIO,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kafka = kafka
        self._registry = registry
        self._instance = instance
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._poison_ratio = poison_ratio
        self._clock = clock
        self._book = SchemaBook(registry)
        self._dead_letters = DeadLetterWriter("tagger", Serializer("DeadLetter", registry))
        # Where the changelog stood when a partition was last known to be restored.
        self._changelog: dict[int, int] = {}
        self._owned: set[int] = set()
        self._held_back: set[int] = set()
        self._committed: dict[Position, int] = {}
        # How much was known (see `knowledge_mark`) by what was last committed of each partition.
        self._marks: dict[int, str] = {}
        self._heartbeat_at = 0.0
        self._lag_check_at = 0.0
        self._pool: list[dict[str, Any]] = []
        self.tagged = 0

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Tags until `stop` is set. Raises `KafkaException`, `MostlyPoisonError`; nothing of the batch is done then."""
        self._reference = ReferenceData(self._kafka, self._registry)
        partitions = len(self._kafka.admin().list_topics(CONSENT, timeout=30).topics[CONSENT].partitions)
        self._tagging = Tagging(self._book, self._reference.read_to_end(), partitions)
        self._producer = self._kafka.transactional_producer(f"{GROUP}-{self._instance}")
        self._producer.init_transactions(60)
        self._consumer = self._kafka.consumer(
            GROUP, **{"group.instance.id": self._instance, "auto.offset.reset": "error"}
        )
        reader = GroupReader(self._consumer, [CONSENT, *DATA], self._assigned, self._revoked)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            ready()
            while not stop.is_set():
                self._step(reader)
        finally:
            gc.enable()
            self._consumer.close()
            self._reference.close()

    def _step(self, reader: GroupReader) -> None:
        read = reader.read(self._batch_size, self._batch_seconds)
        if self._reference.poll():
            self._tagging.learn(self._reference.knowledge)
        # An end may have been reached before more came: whichever is further.
        positions = reader.positions()
        positions |= {tp: end for tp, end in read.ends.items() if positions.get(tp, -1) < end}
        if read.messages:
            self._commit(self._tag(read.messages), positions)
            self._tagging.trim()
        elif self._advanced(positions) or self._heartbeat_due():
            # Nothing but transaction markers or time has passed, or more is known now.
            self._commit(Tagged(), positions)
            gc.collect()
        self._let_data_flow(read)

    def _tag(self, messages: list[Message]) -> Tagged:
        by_topic: dict[str, list[Message]] = {}
        for topic, run in groupby(messages, Message.topic):
            by_topic.setdefault(topic, []).extend(run)
        tagged = Tagged()
        now = int(self._clock() * 1000)
        for topic in (CONSENT, *DATA):
            if topic in by_topic:
                self._tagging.tag(topic, by_topic[topic], now, tagged)
        check_poison(tagged.refused, len(messages), self._poison_ratio)
        self.tagged += len(tagged.keys)
        return tagged

    def _commit(self, tagged: Tagged, positions: dict[Position, int]) -> None:
        producer = self._producer
        producer.begin_transaction()
        records = self._messages(tagged.keys, tagged.values)
        self._produce(LINEAGE, records)
        self._produce(VIOLATIONS, [records[i] for i in tagged.unlawful])
        self._produce(ERASED_SUBJECTS, [{"key": subject, "value": value} for subject, value in tagged.erased])
        header = self._book.header("SubjectState")
        changes: dict[int, list[dict[str, Any]]] = {}
        for partition, alias, body in self._tagging.subjects.take_changes():
            changes.setdefault(partition, []).append({"key": alias, "value": header + body})
        for partition, records in changes.items():
            self._produce(SUBJECT_STATE, records, partition)
        now = int(self._clock() * 1000)
        for refused in tagged.refused:
            value = self._dead_letters.encode(refused, now)
            producer.produce(DEAD_LETTERS, key=refused.message.key(), value=value)
        if self._heartbeat_due():
            self._send_heartbeats()
        advanced = self._advanced(positions)
        mark = knowledge_mark(self._reference.position)
        offsets = [TopicPartition(topic, partition, offset, mark) for (topic, partition), offset in advanced.items()]
        if offsets:
            producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), 60)
        producer.commit_transaction(60)
        self._committed |= advanced
        self._marks |= {partition: mark for topic, partition in advanced if topic == CONSENT}

    def _messages(self, keys: list[bytes], values: list[bytes]) -> list[dict[str, Any]]:
        """Messages for `produce_batch`, in dicts that are used again and again: new ones would cost twice as much."""
        pool = self._pool
        pool += [{} for _ in range(len(keys) - len(pool))]
        for message, key, value in zip(pool, keys, values, strict=False):
            message["key"] = key
            message["value"] = value
        return pool[: len(keys)]

    def _produce(self, topic: str, records: list[dict[str, Any]], partition: int = PARTITION_UA) -> None:
        # A partition given with a single record is not heeded by `produce_batch` (confluent-kafka 2.16): one call each.
        if records and self._producer.produce_batch(topic, records, partition) != len(records):
            failed = next(record["_error"] for record in records if "_error" in record)
            raise KafkaException(failed)

    def _advanced(self, positions: dict[Position, int]) -> dict[Position, int]:
        committed = self._committed
        mark = knowledge_mark(self._reference.position)
        advanced = {
            tp: offset for tp, offset in positions.items() if committed.get(tp, -1) < offset and tp[1] in self._owned
        }
        for partition in self._owned:
            tp = (CONSENT, partition)
            # More is known than is marked: the same offset again, with the new mark.
            if (
                self._marks.get(partition) != mark
                and (offset := max(positions.get(tp, -1), committed.get(tp, -1))) >= 0
            ):
                advanced[tp] = offset
        return advanced

    # Assignment

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        self._owned = {tp.partition for tp in partitions}
        self._marks.clear()
        self._committed = {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}
        self._consumer.pause(partitions)
        # Any open transaction of the previous owner has ended by now: the committed offsets were asked for as stable.
        self._restore()
        self._held_back = set(self._owned)
        self._consumer.resume([tp for tp in partitions if tp.topic == CONSENT])

    def _revoked(self, partitions: list[TopicPartition], lost: bool) -> None:
        # Between batches always: nothing is open. Kept state is good as long as its changelog has not moved.
        gone = {tp.partition for tp in partitions}
        for partition in gone:
            if lost:
                self._changelog.pop(partition, None)
                self._tagging.subjects.drop(partition)
            else:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(SUBJECT_STATE, partition), timeout=30)
                self._changelog[partition] = end
        self._owned -= gone

    def _restore(self) -> None:
        started = time.monotonic()
        consumer = self._kafka.consumer(f"{GROUP}-restore")
        count = 0
        try:
            starts = [TopicPartition(SUBJECT_STATE, p, self._changelog.get(p, OFFSET_BEGINNING)) for p in self._owned]
            consumer.assign(starts)
            open_partitions = set(self._owned)
            while open_partitions:
                records: dict[int, list[tuple[bytes, bytes | None]]] = {}
                for message in consumer.consume(10_000, 0.1):
                    error = message.error()
                    if error is None:
                        if len(message.key() or b"") == ALIAS_SIZE:
                            records.setdefault(message.partition(), []).append((message.key(), self._body(message)))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        open_partitions.discard(message.partition())
                        self._changelog[message.partition()] = message.offset()
                    else:
                        raise KafkaException(error)
                for partition, batch in records.items():
                    count += self._tagging.subjects.restore(partition, batch)
        finally:
            consumer.close()
        seconds = time.monotonic() - started
        log.info("partitions %s: %d state records restored in %.1f s", sorted(self._owned), count, seconds)

    def _body(self, message: Message) -> bytes | None:
        value = message.value()
        if value is None:
            return None
        writer = self._book.writer(value)
        if writer.contract.name != "SubjectState" or not writer.is_current:
            raise DecodeError(f"{SUBJECT_STATE}/{message.partition()}/{message.offset()}: not a current SubjectState")
        return bytes(value[len(writer.header) :])

    def _let_data_flow(self, read: Read) -> None:
        ended = {p for topic, p in read.ends if topic == CONSENT}
        caught_up = {p for p in self._held_back if p in ended or self._consent_lag(p) <= 0}
        if caught_up:
            self._held_back -= caught_up
            self._consumer.resume([TopicPartition(topic, p) for topic in DATA for p in caught_up])
        if time.monotonic() < self._lag_check_at:
            return
        self._lag_check_at = time.monotonic() + LAG_CHECK_SECONDS
        behind = {p for p in self._owned - self._held_back - caught_up if self._consent_lag(p) > CONSENT_LAG}
        if behind:
            self._held_back |= behind
            self._consumer.pause([TopicPartition(topic, p) for topic in DATA for p in behind])

    def _consent_lag(self, partition: int) -> int:
        tp = TopicPartition(CONSENT, partition)
        _, end = self._consumer.get_watermark_offsets(tp, cached=True)
        # Negative before the first answer of the broker: then nothing is known yet.
        return int(end) - self._committed.get((CONSENT, partition), 0) if end >= 0 else 1

    # Heartbeats: segments of compacted topics roll on append only, so that idle partitions would never be compacted.

    def _heartbeat_due(self) -> bool:
        return bool(self._owned) and time.monotonic() >= self._heartbeat_at

    def _send_heartbeats(self) -> None:
        for topic in (SUBJECT_STATE, ERASED_SUBJECTS, IDENTITIES):
            for partition in self._owned:
                self._producer.produce(topic, key=HEARTBEAT_KEY, value=None, partition=partition)
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
