"""Reading a range of offsets of one partition, in batches. Joins no group, commits nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.kafka import Kafka

# Offsets that come in one fetch, most likely.
_SOON = 10_000


def read_range(
    kafka: Kafka, topic: str, partition: int, start: int, end: int, most: int = 50_000, timeout: float = 120.0
) -> Iterator[list[Message]]:
    """Committed messages at the offsets from `start` up to, not including, `end`; batches of up to `most`, none empty.

    Waits where a transaction is open before `end`. Raises `KafkaException`; `TimeoutError` after `timeout` seconds in
    which nothing came: longer than Kafka lets a transaction of a dead writer stay open.
    """
    if start >= end:
        return
    # A group id is required, though no group is joined. An end is told only by a fetch that brought nothing, so the
    # broker must not hold those back.
    consumer = kafka.consumer("ranges", **{"fetch.wait.max.ms": 10})
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        answered, position = time.monotonic(), start
        while position < end:
            batch = []
            # Asked for more than there is, it would wait for it; and markers of transactions are no messages, so near
            # the end that is always so.
            left = end - position
            for message in consumer.consume(min(most, left), 0.05 if left > _SOON else 0.002):
                error = message.error()
                if error is None:
                    if message.offset() < end:
                        batch.append(message)
                    position = max(position, message.offset() + 1)
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Markers of transactions at the end are no records, yet behind us.
                    position = max(position, message.offset())
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
            if batch:
                answered = time.monotonic()
                yield batch
            elif position < end and time.monotonic() - answered > timeout:
                raise TimeoutError(f"{topic}/{partition} could not be read from {position} to {end}")
    finally:
        consumer.close()
