"""How many erasures have something to do by themselves just now: what `lineage wait` waits for. Changes nothing."""

from __future__ import annotations

from uuid import UUID

from processors.erasure import Request, from_record
from streams.kafka import Kafka
from streams.scan import MissingTopicError, scan
from streams.serdes import Deserializer, Registry
from streams.topics import ERASURE_STATE

_ID_SIZE = 16


def busy_erasures(kafka: Kafka, now: int, registry: Registry | None = None) -> int:
    """Requests that go on without anybody's answer: to be located, sent for the first time, or purged at `now` (ms).

    Whoever only waits, for a recipient, a person, its next attempt or a hold, is not among them.
    Raises `KafkaException`, `TimeoutError`, `DecodeError`.
    """
    deserializer = Deserializer(registry)
    newest: dict[UUID, Request] = {}
    try:
        for batch in scan(kafka, ERASURE_STATE):
            for message in batch:
                if len(message.key() or b"") == _ID_SIZE and message.value() is not None:
                    _, record = deserializer.decode(message.value())
                    newest[UUID(bytes=message.key())] = from_record(record)
    except MissingTopicError:
        # Of a stack from before there were erasures.
        return 0
    return sum(_is_busy(request, now) for request in newest.values())


def _is_busy(request: Request, now: int) -> bool:
    if request.is_ended or request.hold or request.verified_at is None:
        return False
    if request.state in ("verified", "enumerating", "purging"):
        return True
    return any(
        not target.is_final
        # Never answered yet, or due again.
        and ((target.state == "waiting" and not target.detail) or (target.next_at is not None and target.next_at < now))
        for target in request.recipients
    )
