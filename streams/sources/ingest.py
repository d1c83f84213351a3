"""The loop from a source to the input topics: read, map, send, account for every row.

A row is read once and is either mapped (all its events are sent) or rejected with a reason. A topic's offsets are
committed only behind Kafka's acknowledgement of everything made of them. Nothing of a rejected row is kept or sent
on: it may hold user ids, and the source still has it.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

import orjson

from streams.producer import LineageProducer
from streams.sources.mapping import Mapper, Mapping, Position, Rejection
from streams.sources.readers import FileReader, Read, Reader
from streams.sources.topic_reader import TopicReader, is_topic

KEPT_REJECTIONS = 1_000


@dataclass
class Tally:
    """What became of the rows so far. `rejections` holds the first thousand, `rejected_by_reason` counts all."""

    read: int = 0
    mapped: int = 0
    rejected: int = 0
    produced: dict[str, int] = field(default_factory=dict)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    rejected_by_reason: Counter[str] = field(default_factory=Counter)

    def answer(self) -> dict[str, Any]:
        """The answer of `lineage ingest` (design §13)."""
        return {
            "read": self.read,
            "mapped": self.mapped,
            "rejected": self.rejected,
            "produced": dict(self.produced),
            "rejections": list(self.rejections),
            "rejected_by_reason": dict(self.rejected_by_reason.most_common()),
        }


def ingest(
    source: str,
    mapping: Mapping,
    producer: LineageProducer,
    progress: Callable[[Tally], None] | None = None,
    *,
    limit: int | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    rejections: TextIO | None = None,
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> dict[str, Any]:
    """Brings a source to the input topics: a file path, `-`, or a topic's name where the mapping's format is a topic's.

    `limit`: rows to read at most. `follow`: a topic is read on and on, until `stop` says so (asked between batches).
    `rejections`: gets every rejection as a JSON line. `progress` is called after each batch.

    Returns `{read, mapped, rejected, produced: {topic: n}, rejections: [{line, reason}], rejected_by_reason}`; of a
    topic's rejections `line` is the offset, beside `partition`. `produced` counts what Kafka acknowledged.
    Raises `SourceError`, `DeliveryError`, `MissingTopicsError`. A run that raised can be repeated: the same rows give
    the same events.
    """
    mapper = mapping.compile(producer.pepper)
    producer.check_topics()
    before = Counter(producer.acknowledged)
    reader = _reader(source, mapping, producer, follow)
    tally = Tally()
    try:
        for batch in reader.batches():
            if limit is not None:
                batch = batch[: limit - tally.read]
            refused = _send(batch, mapper, producer, tally)
            for position, reason in refused:
                _account(tally, position, reason, rejections)
            if isinstance(reader, TopicReader) and batch:
                for position, reason in refused:
                    producer.dead_letter(_dead_letter(source, mapping.name, position, reason, clock()))
                producer.flush()
                reader.commit(batch)
            tally.produced = dict(producer.acknowledged - before)
            if progress is not None:
                progress(tally)
            if stop() or tally.read == limit:
                break
        tally.produced = dict(Counter(producer.flush()) - before)
    finally:
        reader.close()
    if progress is not None:
        progress(tally)
    return tally.answer()


def _reader(source: str, mapping: Mapping, producer: LineageProducer, follow: bool) -> Reader:
    if not is_topic(mapping):
        return FileReader(source, mapping)
    return TopicReader(source, mapping, producer.bootstrap, producer.registry, follow=follow, config=producer.config)


def _send(batch: list[Read], mapper: Mapper, producer: LineageProducer, tally: Tally) -> list[tuple[Position, str]]:
    events = []
    refused = []
    for position, row in batch:
        mapped = row if isinstance(row, Rejection) else mapper.map_row(row, position)
        if isinstance(mapped, Rejection):
            refused.append((position, mapped.reason))
        else:
            events.extend(mapped)
    producer.write(events)
    tally.read += len(batch)
    tally.mapped += len(batch) - len(refused)
    tally.rejected += len(refused)
    return refused


def _account(tally: Tally, position: Position, reason: str, rejections: TextIO | None) -> None:
    told: dict[str, Any] = {"line": position.number, "reason": reason}
    if position.partition >= 0:
        told["partition"] = position.partition
    tally.rejected_by_reason[reason] += 1
    if len(tally.rejections) < KEPT_REJECTIONS:
        tally.rejections.append(told)
    if rejections is not None:
        rejections.write(orjson.dumps(told).decode() + "\n")


def _dead_letter(topic: str, mapping: str, position: Position, reason: str, now: int) -> dict[str, Any]:
    return {
        "source_topic": topic,
        "source_partition": position.partition,
        "source_offset": position.number,
        "job": f"ingest-{mapping}",
        "error_class": "not_mapped",
        "reason": reason,
        "failed_at": now,
        # Neither bytes nor key nor headers: they may hold user ids in the clear. The source topic has them.
        "value": None,
        "headers": [],
    }
