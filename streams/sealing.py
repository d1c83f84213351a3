"""Sealing what the loader has loaded: hashed as it goes, and every few seconds signed and chained to what was before.

A seal is a function of the log and may lag behind the load; what it covers is committed before. It is written in one
transaction with the offsets of the loader's group, so that Kafka refuses a seal of a loader that has been replaced:
there is one chain, without gap and without fork, whenever loaders die. Whoever takes a partition over reads the last
seal and hashes again what was committed behind it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaException, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from processors.seals import NOTHING_BEFORE, RangeDigest
from streams.kafka import Kafka
from streams.log_ranges import read_range
from streams.seals import SealEncoder, SealReader
from streams.serdes import Registry
from streams.topics import LINEAGE, LINEAGE_SEALS

log = logging.getLogger(__name__)

SEAL_SECONDS = 10.0


@dataclass
class _Open:
    """Of one partition, the next seal: `digest` of its records so far, from `start` up to `end`."""

    number: int
    previous: bytes
    start: int
    end: int
    digest: RangeDigest = field(default_factory=RangeDigest)


class Sealing:
    """Of one loader. Every method raises `KafkaException`, `TimeoutError`: the process must end, and the next one goes
    on."""

    def __init__(
        self,
        kafka: Kafka,
        key: Ed25519PrivateKey,
        instance: str,
        registry: Registry | None = None,
        seconds: float = SEAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._encoder = SealEncoder(key, registry)
        self._key = key.public_key()
        self._reader = SealReader(kafka, registry)
        self._instance = instance
        self._seconds = seconds
        self._monotonic = monotonic
        self._open: dict[int, _Open] = {}
        self._sealed_at = monotonic()

    def start(self) -> None:
        """Fences the process that had this instance's name before."""
        self._producer = self._kafka.transactional_producer(f"loader-seals-{self._instance}", **{"linger.ms": 0})
        self._producer.init_transactions(60)

    def take_over(self, committed: Mapping[int, int]) -> None:
        """The partitions that are this loader's from now on, and up to where each is loaded."""
        self._open = {}
        for partition, end in committed.items():
            last = self._reader.last(partition, self._key)
            # Without a seal the chain begins with the log, also in a system that had no seals before: nobody can tell
            # one from a loader that died before its first.
            self._open[partition] = _Open(0, NOTHING_BEFORE, 0, 0)
            if last is not None:
                self._open[partition] = _Open(last.number + 1, last.hash, last.end, last.end)
            for messages in read_range(self._kafka, LINEAGE, partition, self._open[partition].end, end):
                offsets = np.fromiter((m.offset() for m in messages), np.int64, len(messages))
                self.add(partition, offsets, [m.key() or b"" for m in messages], [m.value() or b"" for m in messages])

    def forget(self) -> None:
        """The partitions are another loader's."""
        self._open = {}

    def add_batch(
        self,
        partitions: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        keys: Sequence[bytes],
        values: Sequence[bytes],
    ) -> None:
        """A batch that has been loaded and committed; records of a partition in order. See `add`."""
        # Messages come in runs of one partition.
        bounds = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), len(partitions)]
        held: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for start, stop in pairwise(bounds):
            its_keys, its_values = held.setdefault(int(partitions[start]), ([], []))
            its_keys += keys[start:stop]
            its_values += values[start:stop]
        for partition, (its_keys, its_values) in held.items():
            self.add(partition, offsets[partitions == partition], its_keys, its_values)

    def add(
        self, partition: int, offsets: npt.NDArray[np.int64], keys: Sequence[bytes], values: Sequence[bytes]
    ) -> None:
        """Records that have been loaded and committed, in order. What was sealed before, as in a rebuild of the table,
        is passed over."""
        now = self._open[partition]
        first = int(np.searchsorted(offsets, now.end))
        if first < len(offsets):
            now.digest.add(offsets[first:], keys[first:], values[first:])
            now.end = int(offsets[-1]) + 1

    def seal_if_due(self, consumer: Consumer, committed: Mapping[int, int]) -> None:
        """Seals what is unsealed, some seconds after the last time. See `seal`."""
        if self._monotonic() - self._sealed_at >= self._seconds:
            self.seal(consumer, committed)

    def seal(self, consumer: Consumer, committed: Mapping[int, int]) -> None:
        """Seals what is unsealed. `committed`: the offsets that the group has; they are committed again."""
        self._sealed_at = self._monotonic()
        unsealed = {partition: open_ for partition, open_ in self._open.items() if open_.digest.records}
        if not unsealed:
            return
        producer, followers = self._producer, {}
        producer.begin_transaction()
        for partition, open_ in unsealed.items():
            fields = {
                "partition": partition,
                "number": open_.number,
                "start": open_.start,
                "end": open_.end,
                "records": open_.digest.records,
                "digest": open_.digest.digest(),
                "previous": open_.previous,
                "sealed_at": int(time.time() * 1000),
            }
            value, hashed = self._encoder.encode(fields)
            producer.produce(LINEAGE_SEALS, value, str(partition).encode(), partition)
            followers[partition] = _Open(open_.number + 1, hashed, open_.end, open_.end)
        offsets = [TopicPartition(LINEAGE, partition, committed[partition]) for partition in unsealed]
        try:
            # Refused where the group has given the partitions to somebody else.
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
            producer.commit_transaction(60)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            producer.abort_transaction(60)
            log.info("not sealed now: %s", error.args[0].str())
            return
        self._open |= followers
