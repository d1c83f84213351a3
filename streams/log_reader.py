"""The log `lineage` read back record by record, for verification. Joins no group, commits nothing, judges nothing.

Deliberately not the batch decoder of the jobs: what checks them reads every record on its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.erased_subjects import ErasedSubjects
from streams.kafka import Kafka
from streams.lag import end_offsets
from streams.scan import MissingTopicError
from streams.serdes import DecodeError, Registry, SchemaBook, decode_body
from streams.topics import LINEAGE

# offset, subject, record type, fields (times in ms, ids in bytes)
Record = tuple[int, bytes, str, dict[str, Any]]

FACTS = frozenset({"ConsentRecorded", "ErasureRecorded"})
EVENTS = frozenset({"CollectionRecorded", "DisclosureRecorded"})
SUBJECT_SIZE = 16


class UnreadableError(Exception):
    """A record of the log that cannot be read: it is damaged, as only the tagger writes there."""


class LogReader:
    """The log up to where it ends when this is made: `ends` by partition. One partition is read at a time.

    Raises `MissingTopicError`, `KafkaException`; every method also `TimeoutError` after `timeout` seconds without an
    answer.
    """

    def __init__(self, kafka: Kafka, registry: Registry | None = None, timeout: float = 30.0) -> None:
        self._kafka = kafka
        self._book = SchemaBook(registry)
        self._timeout = timeout
        self._admin = kafka.admin()
        self._erased = ErasedSubjects(kafka, registry)
        self.ends = self.ends_now()
        if not self.ends:
            raise MissingTopicError(f"Kafka at {kafka.bootstrap} has no topic {LINEAGE}: run `lineage topics apply`")
        # A group id is required, though no group is joined.
        self._consumer: Consumer = kafka.consumer("log-reader", **{"fetch.wait.max.ms": 10})

    def close(self) -> None:
        self._consumer.close()

    def ends_now(self) -> dict[int, int]:
        """Partition → the offset behind its last committed record, at this moment."""
        return {partition: end for (_, partition), end in end_offsets(self._admin, [LINEAGE]).items()}

    def facts(self, partition: int) -> Iterator[Record]:
        """Consents and erasures of a partition, in its order. Raises `UnreadableError`."""
        return self._records(partition, FACTS)

    def events(self, partition: int) -> Iterator[Record]:
        """Collections and disclosures of a partition, in its order, every revision. Raises `UnreadableError`."""
        return self._records(partition, EVENTS)

    def erased(self) -> ErasedSubjects:
        """The ledger of erased subjects, as it is at this moment. Raises what its `read` does."""
        self._erased.read(self.ends)
        return self._erased

    def _records(self, partition: int, only: frozenset[str]) -> Iterator[Record]:
        for message in self._messages(partition):
            value, subject = message.value(), message.key()
            try:
                writer = self._book.writer(value or b"")
                name = writer.contract.name
                if name not in only:
                    continue
                if subject is None or len(subject) != SUBJECT_SIZE:
                    raise DecodeError("its key is no subject")
                yield message.offset(), subject, name, decode_body(writer.contract, value[len(writer.header) :])
            except DecodeError as error:
                raise UnreadableError(f"{LINEAGE}/{partition}/{message.offset()} cannot be read: {error}") from error

    def _messages(self, partition: int) -> Iterator[Message]:
        end = self.ends[partition]
        if end == 0:
            return
        self._consumer.assign([TopicPartition(LINEAGE, partition, OFFSET_BEGINNING)])
        try:
            answered = time.monotonic()
            while True:
                # An end comes as one of the messages, and does not end the wait for more of them.
                for message in self._consumer.consume(2_000, 0.02):
                    answered = time.monotonic()
                    error = message.error()
                    if error is None:
                        if message.offset() >= end:
                            return
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return
                    elif error.fatal() or not error.retriable():
                        raise KafkaException(error)
                if time.monotonic() - answered > self._timeout:
                    raise TimeoutError(f"{LINEAGE}/{partition}: no answer for {self._timeout:.0f} s")
        finally:
            self._consumer.unassign()
