"""What the audit API keeps of Kafka, and who gets it: `Cache-Control: no-cache` is answered with nothing older than the
request."""

import asyncio
from itertools import count

import pytest
from confluent_kafka import KafkaException
from starlette.types import Message, Receive, Scope, Send

from audit.api.errors import Unavailable
from audit.api.freshness import Freshness, fresh_since
from infra.api.kept import Kept


def asked(kept: Kept[int], *cache_control: bytes, times: int = 1) -> list[int]:
    """What one request with these headers is told, each time that it looks."""
    told: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.extend(kept.current() for _ in range(times))

    async def nothing() -> Message:
        return {}

    async def nowhere(_: Message) -> None:
        pass

    scope = {"type": "http", "headers": [(b"cache-control", value) for value in cache_control]}
    asyncio.run(Freshness(app)(scope, nothing, nowhere))
    return told


def test_what_is_kept_is_told_to_whoever_does_not_mind() -> None:
    kept = Kept("numbers", count().__next__)
    assert asked(kept) + asked(kept) + asked(kept, b"max-age=0") == [0, 0, 0]


def test_nothing_older_than_the_request_is_told_to_whoever_minds() -> None:
    kept = Kept("numbers", count().__next__)
    assert asked(kept, b"no-cache") == [0]
    assert asked(kept, b"max-age=0, No-Cache") == [1]
    assert asked(kept, b"no-cache", times=3) == [2, 2, 2], "once for each request"
    assert asked(kept) == [2]


def test_nothing_old_stands_in_for_what_cannot_be_read() -> None:
    answers = iter([7])

    def read() -> int:
        for answer in answers:
            return answer
        raise KafkaException("gone")

    kept = Kept("numbers", read)
    assert asked(kept) == [7]
    with pytest.raises(Unavailable, match="numbers"):
        asked(kept, b"no-cache")
    assert asked(kept) == [7]


def test_outside_of_a_request_nobody_minds() -> None:
    assert fresh_since() is None
