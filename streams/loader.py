"""The loader: topic `lineage` → ClickHouse, each record exactly once.

Per partition: commit the batch's *start* with the intent as metadata (`v1|end|n|crc`) → insert, one block into one
month, with a token made of its coordinates → commit *end + 1*. A loader that finds an intent on assignment counts the
rows by their Kafka coordinates and inserts what is missing. The token alone would not do: a kill between ClickHouse's
record of a token and the rename of its part makes the retry a silent loss (docs/adr/0003-loading-exactly-once.md).

Records of an erased subject are left out (streams/erased_subjects.py), so that neither a restart nor a rebuild of the
table from the log brings anybody back.

A fact that comes behind events it governs is late: the loader asks for their revision once all of it is in the table,
and before it commits, so that no request is lost (docs/late-facts.md).

What is committed is sealed: hashed, chained and signed (streams/sealing.py).
"""

from __future__ import annotations

import gc
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from processors.coded import CodedRows
from sinks.clickhouse.late_facts import Fact
from streams.columnar import BatchDecoder
from streams.erased_subjects import ErasedSubjects
from streams.group import GroupReader, Position
from streams.kafka import Kafka
from streams.lineage_records import decode_records
from streams.log_ranges import read_range
from streams.sealing import SEAL_SECONDS, Sealing
from streams.serdes import Registry, SchemaBook, Serializer
from streams.topics import LINEAGE, REVISION_REQUESTS

log = logging.getLogger(__name__)

GROUP = "loader"
# Past this age of its intent a loader may have been replaced: it must not insert any more (session.timeout.ms is 45 s).
INTENT_SECONDS = 35.0
REQUEST_SECONDS = 30.0


class LineageTable(Protocol):
    """What the loader needs of its sink."""

    def rows(self, parts: Sequence[tuple[str, CodedRows]]) -> CodedRows:
        """Table rows of decoded records: pairs of record type and records, each with `subject`, `kafka_partition`
        and `kafka_offset`. Their order need not be kept."""
        ...

    def by_month(self, rows: CodedRows) -> list[tuple[int, CodedRows]]:
        """The same rows split by month (yyyymm), ordered by offset: what one insert may hold."""
        ...

    def insert(self, rows: CodedRows, token: str) -> None: ...

    def present(self, partition: int, start: int, end: int) -> npt.NDArray[np.int64]:
        """Offsets of the partition in [start, end] that the table holds, each as often as it does."""
        ...

    def facts(self, rows: CodedRows) -> Sequence[Fact]:
        """The facts among rows that verdicts depend on."""
        ...

    def erased(self, rows: CodedRows) -> Sequence[bytes]:
        """The subjects (16 bytes) whose erasure is complete by a marker among rows."""
        ...

    def recorded_facts(self, ranges: Sequence[tuple[int, int, int]]) -> Sequence[Fact]:
        """Those that the table holds in ranges of offsets (partition, start, end; both included)."""
        ...

    def late_facts(self, facts: Sequence[Fact]) -> Sequence[Fact]:
        """Of each person with facts that came behind events they govern: the earliest one's time, the last one's
        place."""
        ...


class LostRowsError(Exception):
    """The log does not give back what an intent announced, or the table does not take it."""


class LostRequestsError(Exception):
    """Kafka does not take requests for revision; the next loader asks for them again."""


@dataclass(frozen=True)
class Intent:
    """What a loader was about to insert: offsets `start` to `end` of a partition, `n` records, `crc` over their
    offsets."""

    partition: int
    start: int
    end: int
    n: int
    crc: int

    def metadata(self) -> str:
        return f"v1|{self.end}|{self.n}|{self.crc}"

    @classmethod
    def of(cls, partition: int, offsets: npt.NDArray[np.int64]) -> Intent:
        return cls(partition, int(offsets[0]), int(offsets[-1]), len(offsets), zlib.crc32(offsets.tobytes()))

    @classmethod
    def parse(cls, tp: TopicPartition) -> Intent | None:
        """The intent in a committed offset, if it holds one."""
        if not tp.metadata:
            return None
        version, end, n, crc = tp.metadata.split("|")
        if version != "v1":
            raise LostRowsError(f"{tp.topic}/{tp.partition}: an intent of a newer loader: {tp.metadata}")
        return cls(tp.partition, tp.offset, int(end), int(n), int(crc))


class Loader:
    """One worker. `seal_key`: what it signs its seals with. `instance` names it among its peers and must be unique."""

    def __init__(
        self,
        kafka: Kafka,
        table: LineageTable,
        seal_key: Ed25519PrivateKey,
        instance: str = "0",
        registry: Registry | None = None,
        batch_size: int = 200_000,
        batch_seconds: float = 0.5,
        seal_seconds: float = SEAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._table = table
        self._instance = instance
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._monotonic = monotonic
        self._decoder = BatchDecoder(SchemaBook(registry))
        self._requests = Serializer("RevisionRequested", registry)
        self._erased = ErasedSubjects(kafka, registry)
        self._sealing = Sealing(kafka, seal_key, instance, registry, seal_seconds)
        self._committed: dict[Position, int] = {}
        self.loaded = 0

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Loads until `stop` is set. Raises `KafkaException`, `LostRowsError` or what the sink raises."""
        self._consumer = self._kafka.consumer(
            GROUP, **{"group.instance.id": self._instance, "auto.offset.reset": "error"}
        )
        self._producer = self._kafka.producer(**{"linger.ms": 0})
        self._sealing.start()
        reader = GroupReader(
            self._consumer, [LINEAGE], self._assigned, lambda _partitions, _lost: self._sealing.forget()
        )
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            ready()
            while not stop.is_set():
                read = reader.read(self._batch_size, self._batch_seconds)
                if read.messages:
                    self._load(read.messages)
                # Transaction markers at the end of the log are no records, yet behind us.
                ends = {tp: o for tp, o in read.ends.items() if self._committed.get(tp, 0) < o}
                self._commit([TopicPartition(t, p, o) for (t, p), o in ends.items()])
                self._sealing.seal_if_due(self._consumer, self._ends())
                if not read.messages:
                    gc.collect()
            self._sealing.seal(self._consumer, self._ends())
        finally:
            gc.enable()
            self._consumer.close()

    def _load(self, messages: Sequence[Message]) -> None:
        partitions = np.array([m.partition() for m in messages], np.int64)
        offsets = np.array([m.offset() for m in messages], np.int64)
        keys, values = [m.key() for m in messages], [m.value() for m in messages]
        rows = self._kept(self._decode(keys, values, partitions, offsets), keys)
        intents = [Intent.of(int(p), offsets[partitions == p]) for p in np.unique(partitions)]
        self._commit([TopicPartition(LINEAGE, i.partition, i.start, i.metadata()) for i in intents])
        announced = self._monotonic()
        for intent in intents:
            of_partition = rows.take(rows.rows["kafka_partition"] == intent.partition)
            for month, block in self._table.by_month(of_partition):
                if self._monotonic() - announced > INTENT_SECONDS:
                    raise LostRowsError("loading outlasts a session; the next loader goes on from the intent")
                self._table.insert(block, _token(intent, month))
        self._request_revisions(self._table.facts(rows))
        self._commit([TopicPartition(LINEAGE, i.partition, i.end + 1) for i in intents])
        self._sealing.add_batch(partitions, offsets, keys, values)
        self.loaded += len(messages)

    def _decode(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        partitions: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
    ) -> CodedRows:
        parts, refused = decode_records(self._decoder, keys, values, partitions, offsets)
        if refused:
            # Only the tagger writes to this topic. What cannot be read there is no poison but damage.
            i, error = next(iter(refused.items()))
            where = f"{LINEAGE}/{partitions[i]}/{offsets[i]}"
            raise LostRowsError(f"{where} and {len(refused) - 1} more records cannot be read: {error}")
        rows = self._table.rows(parts)
        # Tails hold the time of judging: they come again within a batch, hardly in the next.
        self._decoder.forget()
        return rows

    def _kept(self, rows: CodedRows, subjects: Sequence[bytes]) -> CodedRows:
        """The rows without those that an erasure forbids; whose it is may stand among them."""
        self._erased.add(self._table.erased(rows))
        return self._erased.kept(rows, subjects) if len(self._erased) else rows

    def _request_revisions(self, facts: Sequence[Fact]) -> None:
        """Returns when Kafka has the requests. Asked for again after a crash, which does no harm."""
        # Whoever is about to be purged is not judged again: the erasure itself is a late fact for what came meanwhile.
        facts = [fact for fact in facts if fact.subject not in self._erased]
        failed: list[str] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error.str())

        for late in self._table.late_facts(facts):
            request = {"since": late.since, "fact_partition": late.partition, "fact_offset": late.offset}
            value = self._requests.encode(request)
            self._producer.produce(REVISION_REQUESTS, key=late.subject, value=value, on_delivery=delivered)
            self._producer.poll(0)
        if self._producer.flush(REQUEST_SECONDS) or failed:
            raise LostRequestsError(f"Kafka did not take requests for revision: {(failed or ['no answer'])[0]}")

    # Recovery

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        self._committed = {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}
        intents = [intent for intent in map(Intent.parse, partitions) if intent is not None]
        self._consumer.pause(partitions)
        for intent in intents:
            self._settle(intent)
        self._erased.read([tp.partition for tp in partitions])
        if intents:
            self._request_revisions(self._table.recorded_facts([(i.partition, i.start, i.end) for i in intents]))
            self._commit([TopicPartition(LINEAGE, i.partition, i.end + 1) for i in intents])
        self._sealing.take_over({tp.partition: self._committed.get((tp.topic, tp.partition), 0) for tp in partitions})
        for intent in intents:
            self._consumer.seek(TopicPartition(LINEAGE, intent.partition, intent.end + 1))
        self._consumer.resume(partitions)

    def _settle(self, intent: Intent) -> None:
        """Brings the rows of an intent that nobody has confirmed to be in the table once each, but for those of erased
        subjects."""
        present = self._table.present(intent.partition, intent.start, intent.end)
        log.info("intent on partition %d: %d of %d rows are there", intent.partition, len(present), intent.n)
        if len(present) == intent.n:
            return
        batches = read_range(self._kafka, LINEAGE, intent.partition, intent.start, intent.end + 1)
        messages = [message for batch in batches for message in batch]
        keys, values = [m.key() for m in messages], [m.value() for m in messages]
        offsets = np.fromiter((m.offset() for m in messages), np.int64, len(messages))
        if Intent.of(intent.partition, offsets) != intent:
            raise LostRowsError(f"{LINEAGE}/{intent.partition}: the log no longer holds what {intent} announced")
        everything = self._decode(keys, values, np.full(len(messages), intent.partition, np.int64), offsets)
        # The first round has the tokens of the first try, so that a predecessor who wakes up late adds nothing. A
        # token that was recorded without its part would drop the rows again: hence the others.
        for attempt in ("", ":r1", ":r2", None):
            # Behind the counting of rows: who was purged before that is in the ledger now, and their rows are no loss.
            self._erased.read([intent.partition])
            rows = self._kept(everything, keys)
            wanted = rows.rows["kafka_offset"]
            if np.isin(wanted, present).all() and len(np.unique(present)) == len(present):
                return
            if attempt is None:
                break
            for month, block in self._table.by_month(rows):
                missing = ~np.isin(block.rows["kafka_offset"], present)
                if missing.all():
                    self._table.insert(block, _token(intent, month) + attempt)
                elif missing.any():
                    self._table.insert(block.take(missing), f"{_token(intent, month)}:{int(missing.sum())}{attempt}")
            present = self._table.present(intent.partition, intent.start, intent.end)
        raise LostRowsError(f"{len(present)} of {len(rows)} rows of {intent} are in the table after three tries")

    def _ends(self) -> dict[int, int]:
        return {partition: offset for (_, partition), offset in self._committed.items()}

    def _commit(self, offsets: list[TopicPartition]) -> None:
        if not offsets:
            return
        for tp in self._consumer.commit(offsets=offsets, asynchronous=False):
            if tp.error is not None:
                raise KafkaException(tp.error)
            self._committed[tp.topic, tp.partition] = tp.offset


def _token(intent: Intent, month: int) -> str:
    return f"{LINEAGE}:{intent.partition}:{intent.start}-{intent.end}:{month}"
