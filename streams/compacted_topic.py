"""A compacted topic as it is projected into a table, for verification: the newest record of each key, and its row.

Of each partition only the keys and their newest offsets are held; records are read a second time, a part at a time.
Joins no group, commits nothing; see audit/projection_check.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import IsolationLevel, Message

from streams.kafka import Kafka
from streams.lag import committed_offsets, end_offsets
from streams.log_ranges import read_range
from streams.projector import KEY_SIZE
from streams.scan import MissingTopicError
from streams.serdes import DecodeError

# Records whose keys are put together before those that are overtaken are dropped.
_MERGED = 1 << 20

Offsets = npt.NDArray[np.int64]


class RowMaker(Protocol):
    """A projection (streams/projections.py), as far as it is needed here."""

    job: str
    topic: str

    def row(self, message: Message) -> Mapping[str, Any]: ...


class CompactedTopic:
    """The topic up to its `ends` (partition → offset), which are those of when this is made; `projected`: up to where
    its job had committed then. Every method raises `KafkaException`, `TimeoutError`, `MissingTopicError`."""

    def __init__(self, kafka: Kafka, projection: RowMaker) -> None:
        self._kafka, self._projection = kafka, projection
        self._admin = kafka.admin()
        self.topic = projection.topic
        # First how far it is projected, then how far to read: what is in the table has its record among what is read.
        self.projected = self.projected_now()
        self.ends = self.ends_now()
        if not self.ends:
            raise MissingTopicError(f"Kafka at {kafka.bootstrap} has no topic {self.topic}: run `lineage topics apply`")

    def ends_now(self) -> dict[int, int]:
        """Partition → the offset behind what was written last, at this moment. What is not committed is waited for."""
        found = end_offsets(self._admin, [self.topic], isolation=IsolationLevel.READ_UNCOMMITTED)
        return {partition: end for (_, partition), end in found.items()}

    def projected_now(self) -> dict[int, int]:
        """Partition → the offset up to which the job has committed, at this moment."""
        committed = committed_offsets(self._admin, self._projection.job)
        return {partition: offset for (topic, partition), offset in committed.items() if topic == self.topic}

    def newest(self, partition: int) -> tuple[list[bytes], Offsets]:
        """Every key and the offset of its newest record, in the order of these."""
        found = _frame([], [])
        waiting: list[pl.DataFrame] = []
        for messages in read_range(self._kafka, self.topic, partition, 0, self.ends[partition]):
            ours = [message for message in messages if _is_keyed(message)]
            waiting.append(_frame([m.key() for m in ours], [m.offset() for m in ours]))
            if sum(frame.height for frame in waiting) > _MERGED:
                found, waiting = _newest(found, *waiting), []
        found = _newest(found, *waiting)
        return found["key"].to_list(), found["offset"].to_numpy()

    def rows(self, partition: int, newest: Offsets) -> Iterator[list[tuple[bytes, int, Mapping[str, Any] | None]]]:
        """Key, offset and row of the records at these offsets (ascending), in parts; None for what cannot be read.
        Those that have been overtaken and compacted away meanwhile are left out."""
        for messages in read_range(self._kafka, self.topic, partition, 0, self.ends[partition]):
            offsets = np.fromiter((message.offset() for message in messages), np.int64, len(messages))
            places = np.minimum(np.searchsorted(newest, offsets), max(len(newest) - 1, 0))
            wanted = np.flatnonzero(newest[places] == offsets).tolist() if len(newest) else []
            if wanted:
                yield [(messages[i].key() or b"", int(offsets[i]), self._row(messages[i])) for i in wanted]

    def written_since(self, partition: int) -> set[bytes]:
        """Keys of what has been written behind `ends` by now."""
        end = self.ends_now()[partition]
        batches = read_range(self._kafka, self.topic, partition, self.ends[partition], end)
        return {message.key() or b"" for messages in batches for message in messages}

    def _row(self, message: Message) -> Mapping[str, Any] | None:
        try:
            return self._projection.row(message)
        except DecodeError:
            return None


def _is_keyed(message: Message) -> bool:
    # Heartbeats have other keys.
    return len(message.key() or b"") == KEY_SIZE


def _frame(keys: list[bytes], offsets: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "offset": offsets}, schema={"key": pl.Binary, "offset": pl.Int64})


def _newest(*frames: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(frames).unique("key", keep="last", maintain_order=True).sort("offset")
