"""Reading topics as a member of a consumer group: what both jobs share about assignment and offsets.

Never hands on a message from before a rebalance, and never starts anywhere but at a committed offset or, for a group
that has none, at the beginning of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

log = logging.getLogger(__name__)

TIMEOUT = 90.0
Position = tuple[str, int]


@dataclass
class Read:
    """What one call of `GroupReader.read` brought: messages, and the ends of partitions that were reached."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[Position, int] = field(default_factory=dict)


class GroupReader:
    """`on_assign(partitions)` is called outside of librdkafka's callbacks, before the first message of an assignment;
    each TopicPartition carries the committed offset and metadata. `on_revoke(partitions, lost)` before they go."""

    def __init__(
        self,
        consumer: Consumer,
        topics: Sequence[str],
        on_assign: Callable[[list[TopicPartition]], None],
        on_revoke: Callable[[list[TopicPartition], bool], None],
    ) -> None:
        self._consumer = consumer
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._pending: list[TopicPartition] | None = None
        consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def read(self, most: int, timeout: float) -> Read:
        """Up to `most` messages within `timeout` seconds. Raises `KafkaException` for an error on any of them."""
        received = self._consumer.consume(most, timeout)
        if self._pending is not None:
            # Some of what came may be from before the rebalance: all of it is read again from the committed offsets.
            self._start()
            return Read()
        read = Read()
        failed = [message for message in received if message.error() is not None]
        if not failed:
            read.messages = received
            return read
        for message in failed:
            error = message.error()
            if error.code() == KafkaError._PARTITION_EOF:
                read.ends[message.topic(), message.partition()] = message.offset()
            elif error.fatal() or not error.retriable():
                raise KafkaException(error)
            else:
                log.warning("kafka: %s", error.str())
        read.messages = [message for message in received if message.error() is None]
        return read

    def positions(self) -> dict[Position, int]:
        """Of each partition, the offset behind the last message handed on."""
        consumer = self._consumer
        return {
            (tp.topic, tp.partition): tp.offset for tp in consumer.position(consumer.assignment()) if tp.offset >= 0
        }

    def _start(self) -> None:
        partitions, self._pending = self._pending or [], None
        if partitions:
            self._consumer.resume(partitions)
            self._on_assign(partitions)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = consumer.committed(partitions, timeout=TIMEOUT)
        for tp in committed:
            if tp.error is not None:
                raise KafkaException(tp.error)
            if tp.offset < 0:
                tp.offset = OFFSET_BEGINNING
        # Never without explicit offsets: librdkafka would look them up, find none the first time, and fail. Paused,
        # because nothing may flow until the caller has seen the assignment.
        consumer.assign(committed)
        consumer.pause(committed)
        self._pending = committed

    def _revoked(self, _consumer: Any, partitions: list[TopicPartition]) -> None:
        self._pending = []
        self._on_revoke(partitions, False)

    def _lost(self, _consumer: Any, partitions: list[TopicPartition]) -> None:
        self._pending = []
        self._on_revoke(partitions, True)
