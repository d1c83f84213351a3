"""Limits and breaker of a connector, by a clock that stands still until it is told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from uuid import UUID

import pytest

from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.guarded import Guarded, Limits
from tests.unit.recipient_server import COMMAND


class Scripted:
    """A connector that says what it is told to, and when it was called."""

    protocol = "http"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.says = Answer("retry")
        self.called: list[float] = []
        self._clock = clock

    async def dispatch(self, command: Command) -> Answer:
        self.called.append(self._clock())
        return self.says

    async def check(self, command: Command, reference: str) -> Answer:
        return await self.dispatch(command)

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "none")

    async def close(self) -> None: ...


def test_the_breaker_opens_tries_once_and_closes() -> None:
    async def play() -> None:
        time = [0.0]
        inner = Scripted(lambda: time[0])
        guarded = Guarded(inner, Limits(failures=3, open_seconds=10), clock=lambda: time[0], draw=lambda: 0.5)
        for _ in range(3):
            await guarded.dispatch(COMMAND)
        barred = await guarded.dispatch(COMMAND)
        assert (len(inner.called), barred.outcome, barred.retry_after) == (3, "retry", 10)
        time[0] = 10.0
        await guarded.dispatch(COMMAND)
        assert len(inner.called) == 4, "one call tries whether it goes again"
        assert (await guarded.dispatch(COMMAND)).retry_after == 20, "longer each time"
        time[0] = 30.0
        inner.says = Answer("acknowledged", Grade.acknowledged)
        await guarded.dispatch(COMMAND)
        await guarded.check(COMMAND, "")
        assert len(inner.called) == 6

    asyncio.run(play())


def test_so_many_calls_a_second() -> None:
    async def play() -> None:
        time = [0.0]

        async def sleep(seconds: float) -> None:
            time[0] += seconds

        inner = Scripted(lambda: time[0])
        inner.says = Answer("acknowledged", Grade.acknowledged)
        guarded = Guarded(inner, Limits(per_second=4), clock=lambda: time[0], sleep=sleep)
        for _ in range(5):
            await guarded.dispatch(COMMAND)
        assert inner.called == [0.0, 0.25, 0.5, 0.75, 1.0]

    asyncio.run(play())


def test_a_burst_that_fails_opens_the_breaker_once() -> None:
    async def play() -> None:
        time = [0.0]
        inner = Slow(lambda: time[0])
        limits = Limits(failures=2, at_once=6, open_seconds=10)
        guarded = Guarded(inner, limits, clock=lambda: time[0], draw=lambda: 0.5)
        burst = [asyncio.create_task(guarded.dispatch(COMMAND)) for _ in range(6)]
        await asyncio.sleep(0)
        inner.go.set()
        await asyncio.gather(*burst)
        assert len(inner.called) == 6
        assert (await guarded.dispatch(COMMAND)).retry_after == 10

    asyncio.run(play())


def test_a_trial_that_is_cancelled_bars_nobody() -> None:
    async def play() -> None:
        time = [0.0]

        async def forever(_: float) -> None:
            await asyncio.Event().wait()

        inner = Scripted(lambda: time[0])
        limits = Limits(per_second=0.01, failures=1, open_seconds=10)
        guarded = Guarded(inner, limits, clock=lambda: time[0], sleep=forever, draw=lambda: 0.5)
        await guarded.dispatch(COMMAND)
        # The trial has to wait for its turn.
        time[0] = 10.0
        trial = asyncio.create_task(guarded.dispatch(COMMAND))
        await asyncio.sleep(0)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        time[0] = 200.0
        inner.says = Answer("acknowledged", Grade.acknowledged)
        assert (await guarded.dispatch(COMMAND)).outcome == "acknowledged"

    asyncio.run(play())


def test_so_many_calls_at_once() -> None:
    async def play() -> None:
        inner = Slow(lambda: 0.0)
        inner.says = Answer("acknowledged", Grade.acknowledged)
        guarded = Guarded(inner, Limits(at_once=2))
        calls = [asyncio.create_task(guarded.check(COMMAND, "")) for _ in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(inner.called) == 2
        inner.go.set()
        await asyncio.gather(*calls)
        assert len(inner.called) == 5

    asyncio.run(play())


class Slow(Scripted):
    """Answers when it may."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.go = asyncio.Event()

    async def dispatch(self, command: Command) -> Answer:
        self.called.append(self._clock())
        await self.go.wait()
        return self.says
