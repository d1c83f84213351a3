"""The jobs `links` and `requests`: a compacted topic → a table of the newest value of each key.

At least once, and idempotent: the table keeps, for each key, the row of the highest offset. Offsets are committed
behind the insert and never before it, so what was taken back stays taken back. Which topic and table: projections.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Protocol

from confluent_kafka import KafkaException, Message, TopicPartition

from streams.group import GroupReader, Position
from streams.kafka import Kafka

log = logging.getLogger(__name__)

KEY_SIZE = 16
# Physical deletion takes a rewrite: not more often than this.
SETTLE_SECONDS = 5.0


class Projection(Protocol):
    """A topic and its table."""

    job: str
    topic: str

    def insert(self, last: Mapping[bytes, Message]) -> bool:
        """Inserts the newest message of each key; true when `settle` has something to do after it. Raises
        `DecodeError`, `ClickHouseError`."""
        ...

    def settle(self) -> int:
        """Deletes, physically, rows that newer ones say must be gone; returns how many. Asks the table itself, so
        nothing depends on when it is called. Raises `ClickHouseError`."""
        ...


class Projector:
    """One worker of a projection's job. `instance` names it among its peers and must be unique."""

    def __init__(
        self,
        kafka: Kafka,
        projection: Projection,
        instance: str = "0",
        batch_size: int = 50_000,
        batch_seconds: float = 0.3,
    ) -> None:
        self._kafka = kafka
        self._projection = projection
        self._instance = instance
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._committed: dict[Position, int] = {}
        # A worker before this one may have ended in between.
        self._unsettled = True
        self._settled_at = 0.0
        self.projected = 0

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Projects until `stop` is set. Raises `KafkaException`, `DecodeError`, `ClickHouseError`; nothing is lost."""
        projection = self._projection
        given = {"group.instance.id": self._instance, "auto.offset.reset": "error"}
        consumer = self._kafka.consumer(projection.job, **given)
        reader = GroupReader(consumer, [projection.topic], self._assigned, lambda _partitions, _lost: None)
        try:
            ready()
            while not stop.is_set():
                read = reader.read(self._batch_size, self._batch_seconds)
                # Heartbeats have other keys. Only the last value of a key counts, and a key has one partition.
                last = {m.key(): m for m in read.messages if len(m.key() or b"") == KEY_SIZE}
                if last:
                    self._unsettled |= projection.insert(last)
                    self.projected += len(last)
                # Markers at the end of the log are no records, yet behind us.
                positions = reader.positions()
                for tp, end in read.ends.items():
                    # Messages may have come in behind an end that was told in the same read.
                    positions[tp] = max(end, positions.get(tp, end))
                behind = {tp: o for tp, o in positions.items() if self._committed.get(tp, -1) < o}
                if behind:
                    offsets = [TopicPartition(topic, partition, o) for (topic, partition), o in behind.items()]
                    for tp in consumer.commit(offsets=offsets, asynchronous=False):
                        if tp.error is not None:
                            raise KafkaException(tp.error)
                    self._committed |= behind
                self._settle()
        finally:
            consumer.close()

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        self._committed = {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}

    def _settle(self) -> None:
        if not self._unsettled or time.monotonic() - self._settled_at < SETTLE_SECONDS:
            return
        self._unsettled = False
        if count := self._projection.settle():
            log.info("%s: %d rows of erased people deleted", self._projection.job, count)
        self._settled_at = time.monotonic()
