"""Policies and recipients from their compacted topics: read to the end before anything is judged, then followed."""

from __future__ import annotations

import logging
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.knowledge import ContradictionError, Knowledge, Policy, Recipient
from streams.kafka import Kafka
from streams.serdes import DecodeError, Deserializer, Registry
from streams.topics import POLICIES, RECIPIENTS

log = logging.getLogger(__name__)


class ReferenceData:
    """`knowledge`: all policies and recipients published so far."""

    def __init__(self, kafka: Kafka, registry: Registry | None = None) -> None:
        self.knowledge = Knowledge([], [])
        # Of each topic the offset up to which it has been read: how much is known.
        self.position = {POLICIES: 0, RECIPIENTS: 0}
        # What was read, with its offset, in order.
        self.read: list[tuple[str, int, Policy | Recipient]] = []
        self._deserializer = Deserializer(registry)
        # A group id is required, though no group is joined: partitions are assigned by hand and nothing is committed.
        self._consumer: Consumer = kafka.consumer("reference-data")
        self._open: set[tuple[str, int]] = set()

    def read_to_end(self, timeout: float = 60.0) -> Knowledge:
        """Reads both topics to their present end. Raises `TimeoutError`, `KafkaException`."""
        partitions = []
        for topic in (POLICIES, RECIPIENTS):
            metadata = self._consumer.list_topics(topic, timeout=timeout).topics[topic]
            if metadata.error is not None:
                raise KafkaException(metadata.error)
            partitions += [TopicPartition(topic, p, OFFSET_BEGINNING) for p in metadata.partitions]
        self._consumer.assign(partitions)
        self._open = {(tp.topic, tp.partition) for tp in partitions}
        deadline = time.monotonic() + timeout
        while self._open:
            if time.monotonic() > deadline:
                raise TimeoutError(f"policies and recipients could not be read within {timeout:.0f} s")
            self._take(self._consumer.consume(1000, 0.2))
        return self.knowledge

    def poll(self) -> bool:
        """Takes what was published since; true if `knowledge` is another now."""
        before = self.knowledge
        self._take(self._consumer.consume(1000, 0))
        return self.knowledge is not before

    def catch_up(self, timeout: float = 30.0) -> Knowledge:
        """Takes all that is published by now. After `read_to_end`. Raises `TimeoutError`, `KafkaException`."""
        ends = {
            topic: self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=timeout)[1]
            for topic in self.position
        }
        deadline = time.monotonic() + timeout
        while any(self.position[topic] < end for topic, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"policies and recipients could not be read within {timeout:.0f} s")
            self._take(self._consumer.consume(1000, 0.1))
        return self.knowledge

    def close(self) -> None:
        self._consumer.close()

    def _take(self, messages: list[Message]) -> None:
        policies: list[Policy] = []
        recipients: list[Recipient] = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                self._open.discard((message.topic(), message.partition()))
                self.position[message.topic()] = max(self.position[message.topic()], message.offset())
                continue
            self.position[message.topic()] = message.offset() + 1
            if message.value() is not None:
                try:
                    name, record = self._deserializer.decode(message.value())
                except DecodeError as wrong:
                    log.error("%s/%s: %s", message.topic(), message.offset(), wrong)
                    continue
                if name == "PolicyPublished":
                    policies.append(Policy.from_record(record))
                    self.read.append((message.topic(), message.offset(), policies[-1]))
                elif name == "RecipientRegistered":
                    recipients.append(Recipient.from_record(record))
                    self.read.append((message.topic(), message.offset(), recipients[-1]))
        for policy in policies:
            self._add(policies=[policy])
        if recipients:
            self._add(recipients=recipients)

    def _add(self, policies: list[Policy] | None = None, recipients: list[Recipient] | None = None) -> None:
        try:
            self.knowledge = self.knowledge.with_more(policies or [], recipients or [])
        except ContradictionError as error:
            # `publish` refuses these; one that came another way must not undo what was judged by the first.
            log.error("contradiction ignored, the first one counts: %s", error)
            for recipient in (recipients or []) if len(recipients or []) > 1 else []:
                self._add(recipients=[recipient])
