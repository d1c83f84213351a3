"""The controller's memory: every erasure request, with the compacted topic `erasure-state` as its log.

One process at a time: a second one with the same transactional id fences the first. What changes is in memory at once
and in the log with the next commit, in one transaction with whatever else the change says; a commit that fails ends
the process, and the next one restores from the log. Decides nothing.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, Message

from processors.erasure import Request, from_record, is_untold, to_record
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer, Registry, Serializer
from streams.topics import ERASURE_STATE

HEARTBEAT_KEY = b"heartbeat"
HEARTBEAT_SECONDS = 600.0
REQUEST_ID_SIZE = 16
_BY_KEY = -1


class Record(NamedTuple):
    """One record to write beside the states. `value` None: a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int = _BY_KEY


class ErasureStore:
    """Requests by id; open ones also by the person's alias and by when something is due."""

    def __init__(self, kafka: Kafka, transactional_id: str, registry: Registry | None = None) -> None:
        self._kafka = kafka
        self._transactional_id = transactional_id
        self._serializer = Serializer("ErasureState", registry)
        self._deserializer = Deserializer(registry)
        self._requests: dict[UUID, Request] = {}
        self._open: dict[bytes, UUID] = {}
        self._queue: list[tuple[int, UUID]] = []
        self._changed: dict[UUID, None] = {}
        self._heartbeat_at = 0.0

    def start(self) -> int:
        """Takes over from whoever had it before and restores; gives the number of requests. Raises `KafkaException`,
        `TimeoutError`, `MissingTopicError`, `DecodeError`."""
        self._producer = self._kafka.transactional_producer(self._transactional_id, **{"linger.ms": 5})
        # Fences first: what a predecessor still had open is aborted now, and nothing of it can follow.
        self._producer.init_transactions(60)
        for batch in scan(self._kafka, ERASURE_STATE):
            for message in batch:
                if len(message.key() or b"") == REQUEST_ID_SIZE and message.value() is not None:
                    _, record = self._deserializer.decode(message.value())
                    self._remember(from_record(record))
        return len(self._requests)

    def get(self, request_id: UUID) -> Request | None:
        return self._requests.get(request_id)

    def open_of(self, alias: bytes) -> Request | None:
        """The open request of a person."""
        found = self._open.get(alias)
        return None if found is None else self._requests[found]

    def open_requests(self) -> list[Request]:
        return [self._requests[request_id] for request_id in self._open.values()]

    def put(self, request: Request) -> None:
        """Takes a change; it is written with the next commit."""
        known = self._requests.get(request.request_id)
        if known is request:
            return
        if known is not None:
            request = replace(request, version=known.version + (request.request_id not in self._changed))
        self._changed[request.request_id] = None
        self._remember(request)

    def defer(self, request: Request, next_at: int) -> None:
        """Looks at a request again later. Not written: a restart looks at once."""
        self._remember(replace(request, next_at=next_at))

    def due(self, now: int, most: int) -> list[Request]:
        """Up to `most` requests for which something is due (ms). Each must be put or deferred, else it is forgotten."""
        found: dict[UUID, Request] = {}
        while self._queue and self._queue[0][0] <= now and len(found) < most:
            _, request_id = heapq.heappop(self._queue)
            request = self._requests[request_id]
            # Entries of what has been changed since are passed over.
            if request.next_at is not None and request.next_at <= now:
                found[request_id] = request
        return list(found.values())

    def next_due(self) -> int | None:
        """When something is due next (ms), at the earliest."""
        return self._queue[0][0] if self._queue else None

    @property
    def is_changed(self) -> bool:
        return bool(self._changed)

    def commit(self, records: Sequence[Record] = ()) -> None:
        """Writes what has changed, and `records`, in one transaction. Raises `KafkaException`: the process must end."""
        heartbeat = time.monotonic() >= self._heartbeat_at
        if not self._changed and not records and not heartbeat:
            return
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = self._producer
        producer.begin_transaction()
        for request_id in self._changed:
            value = self._serializer.encode(to_record(self._requests[request_id]))
            producer.produce(ERASURE_STATE, value, request_id.bytes, on_delivery=delivered)
        for record in records:
            producer.produce(record.topic, record.value, record.key, record.partition, on_delivery=delivered)
            producer.poll(0)
        if heartbeat:
            # Segments of a compacted topic roll on append only.
            producer.produce(ERASURE_STATE, None, HEARTBEAT_KEY)
            self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        producer.commit_transaction(60)
        if failed:
            raise KafkaException(failed[0])
        ended = [self._requests[request_id] for request_id in self._changed]
        self._changed.clear()
        for request in ended:
            if request.is_ended and not any(is_untold(callback, request) for callback in request.callbacks):
                # Only that it has ended is asked for from now on.
                self._requests[request.request_id] = replace(request, targets=(), history=(), certificate="")

    def _remember(self, request: Request) -> None:
        known = self._requests.get(request.request_id)
        if known is not None and known.alias is not None and known.alias != request.alias:
            self._open.pop(known.alias, None)
        self._requests[request.request_id] = request
        if request.alias is not None and not request.is_ended:
            self._open[request.alias] = request.request_id
        if request.next_at is not None:
            heapq.heappush(self._queue, (request.next_at, request.request_id))
