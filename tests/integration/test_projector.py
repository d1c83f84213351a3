"""The jobs `links` and `requests` on a real broker and the real engine: newest values, restarts, what must go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_driver import Client

from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.erasures import erasure_request, insert_erasure_states, open_request_of, subjects_of_aliases
from streams.kafka import Kafka
from streams.projections import Links, Requests
from streams.projector import Projection, Projector
from streams.serdes import DecodeError, Serializer
from tests.integration.test_erasures import JANUARY, erasure_state, target


@pytest.fixture
def client(clickhouse: Any) -> Iterator[Client]:
    connected = connect(clickhouse.database().url)
    migrate.apply(connected)
    yield connected
    connected.disconnect()


@pytest.fixture
def cluster(kafka: Any) -> Kafka:
    return Kafka(kafka.bootstrap)


def on_a_topic_of_its_own(kafka: Any, projection: Links | Requests) -> Links | Requests:
    projection.topic = kafka.new_topic(projection.topic)
    projection.job = kafka.topic_name(projection.job)
    return projection


def produce(cluster: Kafka, topic: str, *messages: tuple[bytes, bytes | None]) -> None:
    producer = cluster.producer()
    for key, value in messages:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


def run(cluster: Kafka, projection: Projection, until: Callable[[], bool]) -> None:
    """Runs a worker until the condition holds. Raises what the worker raises."""
    stop, failed = Event(), list[BaseException]()

    def work() -> None:
        try:
            Projector(cluster, projection).run(stop)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 30
    while thread.is_alive() and not until() and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()
    if failed:
        raise failed[0]
    assert time.monotonic() < deadline, "not done in time"


def count(client: Client, table: str) -> int:
    return int(execute(client, f"SELECT count() FROM {table}")[0][0])


def test_requests_are_projected_and_nobody_is_left_when_they_end(kafka: Any, cluster: Kafka, client: Client) -> None:
    projection = on_a_topic_of_its_own(kafka, Requests(client))
    reader = connect(f"clickhouse://{client.connection.host}:{client.connection.port}/{client.connection.database}")
    encode = Serializer("ErasureState").encode
    first, second = uuid4(), uuid4()
    alias, other = uuid4().bytes, uuid4().bytes

    def told(request_id: UUID, **fields: Any) -> tuple[bytes, bytes]:
        return request_id.bytes, encode(erasure_state(request_id, **fields))

    def state(request_id: UUID) -> str:
        found = erasure_request(reader, request_id)
        return found["state"] if found else ""

    produce(
        cluster,
        projection.topic,
        told(first, state="received", alias=alias),
        told(second, state="awaiting", alias=other, targets=[target("r", grade="signed", evidence=["00"])]),
        told(first, state="verified", alias=alias, version=2),
        (b"heartbeat", None),
    )
    run(cluster, projection, lambda: bool(state(second)))
    assert (state(first), state(second)) == ("verified", "awaiting")
    found = open_request_of(reader, other)
    assert found is not None
    assert found["targets"][0]["grade"] == "signed"

    produce(cluster, projection.topic, told(first, state="completed", ended_at=JANUARY + 1, version=3))
    run(cluster, projection, lambda: state(first) == "completed" and count(reader, "erasing") == 1)
    assert open_request_of(reader, alias) is None
    assert open_request_of(reader, other) == found

    # A worker that ended between an end and its deletion: the next one sees to it, without a message.
    late = erasure_state(first, alias=alias, version=1)
    insert_erasure_states(client, [late], [0], str(uuid4()))
    assert count(reader, "erasing") == 2
    before = execute(reader, "SELECT max(updated_at) FROM erasure_requests")
    run(cluster, projection, lambda: count(reader, "erasing") == 1)
    assert state(first) == "completed"
    assert execute(reader, "SELECT max(updated_at) FROM erasure_requests") == before, "nothing was projected twice"
    reader.disconnect()


def test_a_link_that_is_told_late_goes_with_the_erasure_of_its_alias(
    kafka: Any, cluster: Kafka, client: Client
) -> None:
    projection = on_a_topic_of_its_own(kafka, Links(client))
    reader = connect(f"clickhouse://{client.connection.host}:{client.connection.port}/{client.connection.database}")
    encode = Serializer("SubjectState").encode
    erased, kept = uuid4().bytes, uuid4().bytes
    old, steady = uuid4(), uuid4()

    def linked(subject: UUID | None, *erased_at: int) -> bytes:
        given = subject.bytes if subject else None
        return encode({"subject": given, "erased": list(erased_at), "facts": []})

    produce(cluster, projection.topic, (erased, linked(old)), (kept, linked(steady)), (b"heartbeat", None))
    run(cluster, projection, lambda: count(reader, "subjects") == 2)
    assert subjects_of_aliases(reader, [erased, kept]) == {erased: old, kept: steady}

    produce(cluster, projection.topic, (erased, linked(None, JANUARY)))
    run(
        cluster,
        projection,
        lambda: execute(reader, "SELECT countIf(subject = %(s)s) FROM subjects", {"s": old}) == [(0,)],
    )
    assert subjects_of_aliases(reader, [erased, kept]) == {kept: steady}
    assert count(reader, "subjects") == 2, "the alias, without a subject, and the other one"
    reader.disconnect()


def test_what_is_of_another_type_stops_the_job_and_is_not_passed_over(
    kafka: Any, cluster: Kafka, client: Client
) -> None:
    projection = on_a_topic_of_its_own(kafka, Requests(client))
    value = Serializer("SubjectState").encode({"subject": None, "erased": [], "facts": []})
    produce(cluster, projection.topic, (uuid4().bytes, value))
    for _ in range(2):
        with pytest.raises(DecodeError, match="not of type ErasureState"):
            run(cluster, projection, lambda: False)
    assert count(client, "erasure_requests") == 0
