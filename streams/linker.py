"""The job `links`: topic `subject-state` → table `subjects`, so that an auditor can look a person up by user id.

At least once, and idempotent: the table keeps, for each alias, the row of the highest offset. Offsets are committed
behind the insert and never before it, so a link that was taken back stays taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from uuid import uuid4

import numpy as np
from clickhouse_driver import Client
from confluent_kafka import KafkaException, Message, TopicPartition

from sinks.clickhouse.insert import insert_subjects
from streams.group import GroupReader, Position
from streams.kafka import Kafka
from streams.serdes import DecodeError, Deserializer, Registry, SchemaBook
from streams.subjects import ALIAS_SIZE
from streams.topics import SUBJECT_STATE

log = logging.getLogger(__name__)

GROUP = "links"
SUBJECT_SIZE = 16
NO_SUBJECT = bytes(SUBJECT_SIZE)
# Of a union of null and fixed, the encoding of the second branch. `subject` is the record's first field.
_IS_SUBJECT = b"\x02"


class Linker:
    """One worker. `instance` names it among its peers and must be unique."""

    def __init__(
        self,
        kafka: Kafka,
        client: Client,
        instance: str = "0",
        registry: Registry | None = None,
        batch_size: int = 50_000,
        batch_seconds: float = 0.3,
    ) -> None:
        self._kafka = kafka
        self._client = client
        self._instance = instance
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._book = SchemaBook(registry)
        self._deserializer = Deserializer(registry)
        self._committed: dict[Position, int] = {}
        self.linked = 0

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Links until `stop` is set. Raises `KafkaException`, `DecodeError`, `ClickHouseError`; nothing is lost."""
        consumer = self._kafka.consumer(GROUP, **{"group.instance.id": self._instance, "auto.offset.reset": "error"})
        reader = GroupReader(consumer, [SUBJECT_STATE], self._assigned, lambda _partitions, _lost: None)
        try:
            ready()
            while not stop.is_set():
                read = reader.read(self._batch_size, self._batch_seconds)
                self._insert(read.messages)
                # Markers at the end of the log are no records, yet behind us.
                positions = reader.positions()
                for tp, end in read.ends.items():
                    # Messages may have come in behind an end that was told in the same read.
                    positions[tp] = max(end, positions.get(tp, end))
                behind = {tp: o for tp, o in positions.items() if self._committed.get(tp, -1) < o}
                if not behind:
                    continue
                offsets = [TopicPartition(topic, partition, o) for (topic, partition), o in behind.items()]
                for tp in consumer.commit(offsets=offsets, asynchronous=False):
                    if tp.error is not None:
                        raise KafkaException(tp.error)
                self._committed |= behind
        finally:
            consumer.close()

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        self._committed = {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}

    def _insert(self, messages: Sequence[Message]) -> None:
        # Heartbeats have other keys. Only the last state of an alias counts, and an alias has one partition.
        last: Mapping[bytes, Message] = {m.key(): m for m in messages if len(m.key() or b"") == ALIAS_SIZE}
        if not last:
            return
        aliases = np.frombuffer(b"".join(last), np.uint8).reshape(-1, ALIAS_SIZE)
        subjects = b"".join(self._subject(message) for message in last.values())
        versions = np.fromiter((message.offset() for message in last.values()), np.uint64, len(last))
        # Never the same token twice: one that was recorded without its rows would make the next try a silent loss.
        token = f"{SUBJECT_STATE}:{uuid4()}"
        insert_subjects(
            self._client, aliases, np.frombuffer(subjects, np.uint8).reshape(-1, SUBJECT_SIZE), versions, token
        )
        self.linked += len(last)

    def _subject(self, message: Message) -> bytes:
        """The subject's 16 bytes; zeros where there is none any more."""
        value = message.value()
        if value is None:
            return NO_SUBJECT
        writer = self._book.writer(value)
        if writer.contract.name != "SubjectState":
            raise DecodeError(f"{SUBJECT_STATE}/{message.partition()}/{message.offset()}: not a SubjectState")
        if writer.is_current:
            start = len(writer.header)
            if value[start : start + 1] != _IS_SUBJECT:
                return NO_SUBJECT
            return bytes(value[start + 1 : start + 1 + SUBJECT_SIZE])
        _, record = self._deserializer.decode(value)
        return record["subject"] or NO_SUBJECT
