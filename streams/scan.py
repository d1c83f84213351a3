"""Reading a topic once, from its beginning to its end as it stands now. Joins no group and commits nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from streams.kafka import Kafka


class MissingTopicError(Exception):
    """The topic is not there."""


def scan(kafka: Kafka, topic: str, timeout: float = 30.0) -> Iterator[list[Message]]:
    """Committed messages in batches, in the order of each partition.

    `timeout`: seconds without an answer. Raises `MissingTopicError`, `TimeoutError`, `KafkaException`.
    """
    # A group id is required, though no group is joined. An end is told only by a fetch that brought nothing, so the
    # broker must not hold those back.
    consumer = kafka.consumer("scan", **{"fetch.wait.max.ms": 10})
    try:
        metadata = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if metadata.error is not None:
            raise MissingTopicError(f"Kafka at {kafka.bootstrap} has no topic {topic}: run `lineage topics apply`")
        unread = set(metadata.partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
        answered = time.monotonic()
        while unread:
            batch = []
            for message in consumer.consume(10_000, 0.1):
                answered = time.monotonic()
                error = message.error()
                if error is None:
                    # What comes in behind the first end of a partition is of later.
                    if message.partition() in unread:
                        batch.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
            if batch:
                yield batch
            if time.monotonic() - answered > timeout:
                raise TimeoutError(f"{topic} could not be read: no answer from {kafka.bootstrap} for {timeout:.0f} s")
    finally:
        consumer.close()
