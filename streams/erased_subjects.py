"""The ledger of erased subjects, for whoever must not bring them back: the loader, and verification.

An entry is written by the tagger together with the `completed` marker in `lineage`, and by the controller once more
when nothing of the subject is left in the own stores. Entries only come and never go, so what was read stays true.
Joins no group, commits nothing, writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition

from processors.coded import CodedRows
from streams.kafka import Kafka
from streams.lag import end_offsets
from streams.scan import MissingTopicError
from streams.serdes import DecodeError, Deserializer, Registry
from streams.topics import ERASED_SUBJECTS

SUBJECT_SIZE = 16
# Longer than Kafka lets a transaction of a dead tagger stay open.
READ_SECONDS = 120.0
_ERASED, _PURGED = 1, 2


class ErasedSubjects:
    """What has been read of the ledger, and added by hand. Subjects are 16 bytes."""

    def __init__(self, kafka: Kafka, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._admin = kafka.admin()
        self._deserializer = Deserializer(registry)
        self._positions: dict[int, int] = {}
        self._states: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, subject: bytes) -> bool:
        return subject in self._states

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._states)

    @property
    def purged(self) -> frozenset[bytes]:
        """Those of whom no row was left when the controller counted."""
        return frozenset(subject for subject, state in self._states.items() if state == _PURGED)

    def add(self, subjects: Iterable[bytes]) -> None:
        """Takes subjects whose completed marker was read in `lineage`; the ledger has them too, by now or soon."""
        for subject in subjects:
            self._states.setdefault(subject, _ERASED)

    def kept(self, rows: CodedRows, subjects: Sequence[bytes]) -> CodedRows:
        """The rows that may be in the table. `subjects`: whose the rows are, in any order.

        A subject that was purged has none. One that was erased and waits for the purge has what the tagger wrote: all
        of it stands before the completed marker, recipients are still looked for there, and the marker says how far to
        look. Only the revisions that others may have written behind the marker are left out, and with them those in
        front of it, which nobody needs any more.
        """
        if self._states.keys().isdisjoint(subjects):
            return rows
        each = np.ascontiguousarray(rows.rows["subject"]).view(f"V{SUBJECT_SIZE}").ravel().tolist()
        states = np.fromiter(map(self._states.get, each, repeat(0)), np.int8, len(each))
        revised = rows.rows["revision"] > 0
        return rows.take(~((states == _PURGED) | ((states == _ERASED) & revised)))

    def read(self, partitions: Iterable[int], timeout: float = READ_SECONDS) -> None:
        """Reads what the partitions have had since the last time, to their end as it is now.

        Transactions that are open now are waited for: of one that is just being committed, `lineage` may show the
        marker already. Raises `MissingTopicError`, `KafkaException`, `TimeoutError`, `DecodeError`.
        """
        ends = end_offsets(self._admin, [ERASED_SUBJECTS], isolation=IsolationLevel.READ_UNCOMMITTED)
        if not ends:
            raise MissingTopicError(
                f"Kafka at {self._kafka.bootstrap} has no topic {ERASED_SUBJECTS}: run `lineage topics apply`"
            )
        unread = {p: end for p in partitions if self._positions.get(p, 0) < (end := ends.get((ERASED_SUBJECTS, p), 0))}
        if unread:
            self._read(unread, timeout)

    def _read(self, unread: dict[int, int], timeout: float) -> None:
        # A group id is required, though no group is joined.
        consumer = self._kafka.consumer("erased-subjects", **{"fetch.wait.max.ms": 10})
        try:
            starts = {p: self._positions.get(p, OFFSET_BEGINNING) for p in unread}
            consumer.assign([TopicPartition(ERASED_SUBJECTS, p, start) for p, start in starts.items()])
            deadline = time.monotonic() + timeout
            while unread:
                for message in consumer.consume(10_000, 0.1):
                    error = message.error()
                    partition, offset = message.partition(), message.offset()
                    if error is None:
                        self._take(message)
                        offset += 1
                    elif error.code() != KafkaError._PARTITION_EOF:
                        if error.fatal() or not error.retriable():
                            raise KafkaException(error)
                        continue
                    self._positions[partition] = offset
                    if offset >= unread.get(partition, 0):
                        unread.pop(partition, None)
                if unread and time.monotonic() > deadline:
                    raise TimeoutError(f"{ERASED_SUBJECTS} could not be read to its end within {timeout:.0f} s")
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        subject, value = message.key(), message.value()
        if value is None or len(subject or b"") != SUBJECT_SIZE:
            # The partition's heartbeat.
            return
        name, record = self._deserializer.decode(value)
        if name != "SubjectErased":
            raise DecodeError(f"{ERASED_SUBJECTS}/{message.partition()}/{message.offset()}: not a SubjectErased")
        self._states[subject] = _ERASED if record["purged_at"] is None else _PURGED
