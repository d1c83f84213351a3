"""Reading the topic `dead-letters` back: for people who want to know what was refused, and why. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import DecodeError, Deserializer, Registry
from streams.topics import DEAD_LETTERS


@dataclass(frozen=True)
class Letter:
    """One dead letter: where it lies, its key, and the DeadLetter record (times in ms since 1970 UTC)."""

    partition: int
    offset: int
    key: bytes | None
    record: dict[str, Any]

    @property
    def source(self) -> str:
        """`topic/partition/offset` of the message that was refused."""
        record = self.record
        return f"{record['source_topic']}/{record['source_partition']}/{record['source_offset']}"


def count_dead_letters(kafka: Kafka) -> int:
    """How many there are. Counted by reading: offsets count transaction markers, too. Raises as `scan` does."""
    return sum(len(batch) for batch in scan(kafka, DEAD_LETTERS))


def read_dead_letters(kafka: Kafka, registry: Registry | None = None) -> Iterator[Letter]:
    """All dead letters, in the order of each partition. Raises as `scan` does."""
    deserializer = Deserializer(registry)
    for batch in scan(kafka, DEAD_LETTERS):
        for message in batch:
            yield _letter(message, deserializer)


def group(letters: Iterator[Letter]) -> list[dict[str, Any]]:
    """Counts by `job`, `error_class` and `reason`, the biggest first."""
    counted = Counter((x.record["job"], x.record["error_class"], x.record["reason"]) for x in letters)
    return [
        {"job": job, "error_class": error_class, "reason": reason, "count": count}
        for (job, error_class, reason), count in counted.most_common()
    ]


def _letter(message: Message, deserializer: Deserializer) -> Letter:
    try:
        _, record = deserializer.decode(message.value() or b"")
    except DecodeError as error:
        # Somebody else wrote it. It is shown as it is, for it counts.
        record = {
            "source_topic": DEAD_LETTERS,
            "source_partition": message.partition(),
            "source_offset": message.offset(),
            "job": "",
            "error_class": error.error_class,
            "reason": f"this is no dead letter: {error}",
            "failed_at": message.timestamp()[1],
            "value": message.value(),
            "headers": [],
        }
    return Letter(message.partition(), message.offset(), message.key(), record)
