"""How our clients speak to Kafka: one place for the settings that correctness rests on. librdkafka's names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from streams.topics import PARTITIONER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kafka:
    """A cluster: `bootstrap` as host:port[,host:port], and whatever else librdkafka needs to reach it
    (`security.protocol`, `sasl.*`, `ssl.*`)."""

    bootstrap: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def _base(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            # A wrong password or an unreachable broker is told here and nowhere else.
            "error_cb": _log_error,
            "log_level": 4,
            # Librdkafka 2.16 forgets its brokers when all of them are away and learns them anew, but a transaction
            # then waits for ever for the group coordinator it knew before (docs/adr/0007-no-rebootstrap.md).
            "metadata.recovery.strategy": "none",
            **self.config,
        }

    def consumer(self, group: str, **more: Any) -> Consumer:
        """A consumer that sees committed data only, commits nothing by itself, and keeps partition n of all its
        topics together (`range`)."""
        settings = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 45_000,
            "max.poll.interval.ms": 300_000,
            "fetch.wait.max.ms": 100,
            "fetch.max.bytes": 64 << 20,
            "max.partition.fetch.bytes": 4 << 20,
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 256 << 10,
            "enable.partition.eof": True,
        }
        return Consumer(self._base() | settings | more)

    def producer(self, **more: Any) -> Producer:
        """An idempotent producer that keys as every client of the system does."""
        settings = {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "linger.ms": 20,
            "batch.num.messages": 100_000,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            "message.max.bytes": 1_000_000,
        }
        return Producer(self._base() | settings | more)

    def transactional_producer(self, transactional_id: str, **more: Any) -> Producer:
        """A producer for one process at a time: a second one with the same id fences the first."""
        settings = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": 60_000,
            "message.timeout.ms": 45_000,
            # A commit fails if any message of its transaction did: reports of single successes would only cost.
            "delivery.report.only.error": True,
        }
        return self.producer(**(settings | more))

    def admin(self) -> AdminClient:
        return AdminClient(self._base())


def _log_error(error: KafkaError) -> None:
    log.warning("kafka: %s", error.str())
