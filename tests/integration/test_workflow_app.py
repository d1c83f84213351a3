"""Faust on a transactional topic, on a real broker: nothing aborted is seen, nothing done comes again, and what was not
done does."""

import asyncio
from threading import Event, Timer
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from streams.kafka import Kafka
from streams.workflows.app import raw_topic, run_app, workflow_app
from tests.kafka_fixture import KafkaForTests

# The last one is committed.
TRANSACTIONS = 21


class BrokenError(Exception):
    """What the agent of the test raises."""


def write(kafka: Kafka, topic: str) -> list[int]:
    """Committed and aborted transactions of three records each; the numbers that were committed."""
    producer = kafka.transactional_producer(f"writer-{topic}")
    producer.init_transactions(30)
    committed = []
    for transaction in range(TRANSACTIONS):
        producer.begin_transaction()
        numbers = [3 * transaction + i for i in range(3)]
        for number in numbers:
            producer.produce(topic, key=b"k", value=b"%d" % number)
        producer.flush(30)
        if transaction % 3 == 1:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            committed += numbers
    return committed


def consume(kafka: Kafka, group: str, topic: str, most: int, fail_at: int | None = None) -> list[int]:
    """What an agent saw until it had `most`, or nothing more came."""
    seen: list[int] = []
    stop = Event()
    limit = Timer(8.0, stop.set)
    limit.start()

    def make() -> Any:
        app = workflow_app(group, kafka)

        @app.agent(raw_topic(app, topic), name="numbers", concurrency=1)  # type: ignore[untyped-decorator]
        async def numbers(stream: Any) -> None:
            async for event in stream.noack().events():
                number = int(event.message.value)
                if number == fail_at:
                    # So that what was acknowledged is committed.
                    await asyncio.sleep(1.5)
                    raise BrokenError
                seen.append(number)
                event.ack()
                if len(seen) == most:
                    Timer(1.5, stop.set).start()

        return app

    async def idle() -> None:
        await asyncio.Event().wait()

    try:
        run_app(make, idle, stop, lambda: None)
    finally:
        limit.cancel()
    return seen


def committed(kafka: KafkaForTests, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    [future] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    return max((tp.offset for tp in future.result(10).topic_partitions), default=-1)


def test_only_what_was_committed_and_each_once(kafka: KafkaForTests) -> None:
    client, topic = Kafka(kafka.bootstrap), kafka.new_topic("numbers")
    group = kafka.topic_name("workflow")
    expected = write(client, topic)
    assert consume(client, group, topic, len(expected)) == expected
    # The last record is committed; behind it stands its transaction's marker only.
    assert committed(kafka, group) == TRANSACTIONS * 4 - 1
    assert consume(client, group, topic, 1) == []


# A worker ends with its process; here Faust's threads outlive the loop that they were made in.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_failed_comes_again_and_nothing_before_it(kafka: KafkaForTests) -> None:
    client, topic = Kafka(kafka.bootstrap), kafka.new_topic("numbers")
    group = kafka.topic_name("workflow")
    expected = write(client, topic)
    with pytest.raises(BrokenError):
        consume(client, group, topic, len(expected), fail_at=expected[10])
    assert consume(client, group, topic, len(expected) - 10) == expected[10:]
