"""The log with its seals, for verification: records as bytes and as rows, seals, what is said to be erased, and the
certificates that say so. Joins no group, commits nothing, trusts nothing; see audit/seal_check.py, audit/row_check.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from uuid import UUID

import numpy as np
import numpy.typing as npt
from confluent_kafka import IsolationLevel

from processors.coded import CodedRows
from streams.columnar import BatchDecoder, headers_of
from streams.erased_subjects import ErasedSubjects
from streams.kafka import Kafka
from streams.lag import committed_offsets, end_offsets
from streams.lineage_records import SUBJECT_SIZE, decode_records
from streams.log_ranges import read_range
from streams.scan import MissingTopicError
from streams.seals import Seal, SealReader
from streams.serdes import DecodeError, Deserializer, Registry, SchemaBook, Writer, decode_body
from streams.topics import ERASURE_STATE, LINEAGE

LOADER = "loader"
_NO_REQUEST = bytes(16)
Records = tuple[npt.NDArray[np.int64], list[bytes], list[bytes]]


class SealedLog:
    """The log up to its `ends` (partition → offset), which are those of when this is made; `loaded`: up to where the
    loader had committed then. Every method raises `KafkaException`, `TimeoutError`, `MissingTopicError`."""

    def __init__(self, kafka: Kafka, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._book = SchemaBook(registry)
        self._seals = SealReader(kafka, registry)
        self._ledger = ErasedSubjects(kafka, registry)
        self._states = Deserializer(registry)
        self._admin = kafka.admin()
        committed = committed_offsets(self._admin, LOADER)
        self.loaded = {partition: offset for (topic, partition), offset in committed.items() if topic == LINEAGE}
        # First who is erased, then how far to read: so the markers of all of them are among what is read.
        partitions = self.ends_now()
        if not partitions:
            raise MissingTopicError(f"Kafka at {kafka.bootstrap} has no topic {LINEAGE}: run `lineage topics apply`")
        self._ledger.read(partitions)
        self.erased, self.purged = frozenset(self._ledger), self._ledger.purged
        self.ends = self.ends_now()

    def ends_now(self) -> dict[int, int]:
        """Partition → the offset behind what was written last, at this moment. What is not committed is waited for."""
        found = end_offsets(self._admin, [LINEAGE], isolation=IsolationLevel.READ_UNCOMMITTED)
        return {partition: end for (_, partition), end in found.items()}

    def erased_now(self) -> ErasedSubjects:
        """The ledger of erased subjects at this moment."""
        self._ledger.read(self.ends)
        return self._ledger

    def seals(self, partition: int) -> Iterator[Seal | DecodeError]:
        """The seals of a partition in their order; for what is none, the error."""
        return self._seals.all(partition)

    def records(self, partition: int) -> Iterator[Records]:
        """Offsets, keys and values as they stand, in batches. What has no key or value comes as if it were empty."""
        for messages in read_range(self._kafka, LINEAGE, partition, 0, self.ends[partition]):
            offsets = np.fromiter((m.offset() for m in messages), np.int64, len(messages))
            yield offsets, [m.key() or b"" for m in messages], [m.value() or b"" for m in messages]

    def completed(self, keys: Sequence[bytes], values: Sequence[bytes]) -> list[tuple[bytes, UUID]]:
        """Subject and request of every record among these that says that an erasure is complete."""
        headers = headers_of(values)
        erasures = {header: writer for header in set(headers) if (writer := self._erasure(header)) is not None}
        if not erasures:
            return []
        found = []
        for key, value, header in zip(keys, values, headers, strict=True):
            if header in erasures and len(key) == SUBJECT_SIZE:
                try:
                    record = decode_body(erasures[header].contract, value[len(header) :])
                except DecodeError:
                    continue
                if record["phase"] == "completed" and record["request_id"] != _NO_REQUEST:
                    found.append((key, UUID(bytes=record["request_id"])))
        return found

    def _erasure(self, header: bytes) -> Writer | None:
        try:
            writer = self._book.writer(header)
        except DecodeError:
            return None
        return writer if writer.contract.name == "ErasureRecorded" else None

    def decoded(
        self, partition: int, size: int
    ) -> Iterator[tuple[int, list[tuple[str, CodedRows]], dict[int, DecodeError]]]:
        """Records by ranges of `size` offsets: the range's number, pairs of record type and records (as the sink takes
        them), and by offset what cannot be read. Ranges without a record are left out."""
        decoder = BatchDecoder(self._book)
        for number, offsets, keys, values in self._ranges(partition, size):
            partitions = np.full(len(offsets), partition, np.int64)
            parts, refused = decode_records(decoder, keys, values, partitions, offsets)
            yield number, parts, {int(offsets[i]): error for i, error in refused.items()}
            decoder.forget()

    def certificates(self) -> Iterator[tuple[UUID, str]]:
        """Request and certificate of each request that is over, the latest last."""
        [end] = end_offsets(self._admin, [ERASURE_STATE], isolation=IsolationLevel.READ_UNCOMMITTED).values() or [0]
        for messages in read_range(self._kafka, ERASURE_STATE, 0, 0, end):
            for message in messages:
                if message.value() is not None and len(message.key() or b"") == len(_NO_REQUEST):
                    try:
                        _, state = self._states.decode(message.value())
                    except DecodeError:
                        continue
                    if state.get("certificate"):
                        yield UUID(bytes=message.key()), state["certificate"]

    def _ranges(
        self, partition: int, size: int
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], list[bytes], list[bytes]]]:
        number, held = -1, list[Records]()
        for offsets, keys, values in self.records(partition):
            numbers = offsets // size
            cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(offsets)]
            for start, stop in pairwise(cuts):
                if numbers[start] != number:
                    if held:
                        yield number, *_joined(held)
                    number, held = int(numbers[start]), []
                held.append((offsets[start:stop], keys[start:stop], values[start:stop]))
        if held:
            yield number, *_joined(held)


def _joined(pieces: list[Records]) -> Records:
    return (
        np.concatenate([offsets for offsets, _, _ in pieces]),
        [key for _, keys, _ in pieces for key in keys],
        [value for _, _, values in pieces for value in values],
    )
