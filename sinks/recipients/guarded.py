"""A connector within its limits: so many calls at once and a second, and none for a while where nothing comes of them.

The breaker opens after a row of answers that came to nothing. While it is open nobody is called; then one call tries
whether it goes again. It opens for longer each time, with jitter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from processors.erasure_commands import Answer, Command
from sinks.recipients.connector import Connector, Discoverable


@dataclass(frozen=True)
class Limits:
    """`per_second`: calls, 0 for no bound; `at_once`: calls under way. The breaker opens after `failures` in a row, for
    `open_seconds`, doubled each time up to `longest_seconds`."""

    per_second: float = 0.0
    at_once: int = 8
    failures: int = 5
    open_seconds: float = 5.0
    longest_seconds: float = 900.0


class Guarded:
    """A connector for one event loop. `clock`: monotonic seconds; `draw`: a number in [0, 1)."""

    def __init__(
        self,
        connector: Connector,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._connector = connector
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._slots = asyncio.Semaphore(limits.at_once)
        self._free_at = 0.0
        self._failed = 0
        self._openings = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def protocol(self) -> str:
        return self._connector.protocol

    async def dispatch(self, command: Command) -> Answer:
        return await self._within(lambda: self._connector.dispatch(command))

    async def check(self, command: Command, reference: str) -> Answer:
        return await self._within(lambda: self._connector.check(command, reference))

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        """A recipient tells by itself: no limit holds. Raises `CallbackRefused`, also where the protocol has none."""
        return await self._connector.callback(headers, body, callback_url)

    async def discover(self) -> str | None:
        """What the recipient announces; None: its protocol has no announcements. Raises `DiscoveryError`."""
        return await self._connector.discover() if isinstance(self._connector, Discoverable) else None

    async def close(self) -> None:
        await self._connector.close()

    async def _within(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        async with self._slots:
            if (wait := self._barred()) > 0:
                return Answer("retry", detail="not called: its last calls came to nothing", retry_after=wait)
            since, trial = self._openings, self._failed >= self._limits.failures
            self._trying = self._trying or trial
            try:
                await self._pace()
                answer = await call()
            finally:
                if trial:
                    self._trying = False
            self._judge(answer, since)
            return answer

    def _barred(self) -> float:
        """Seconds for which nobody may call; 0: go ahead."""
        if self._failed < self._limits.failures:
            return 0.0
        left = self._open_until - self._clock()
        if left > 0 or self._trying:
            return max(left, 1.0)
        return 0.0

    async def _pace(self) -> None:
        if not self._limits.per_second:
            return
        now = self._clock()
        at = max(now, self._free_at)
        self._free_at = at + 1 / self._limits.per_second
        if at > now:
            await self._sleep(at - now)

    def _judge(self, answer: Answer, since: int) -> None:
        """`since`: how often the breaker had opened when the call began."""
        if answer.outcome != "retry":
            self._failed = self._openings = 0
        elif since == self._openings:
            # Calls that were under way when it opened say nothing new.
            self._failed += 1
            if self._failed >= self._limits.failures:
                seconds = min(self._limits.open_seconds * 2 ** min(self._openings, 30), self._limits.longest_seconds)
                self._openings += 1
                self._open_until = self._clock() + seconds * (0.75 + self._draw() / 2)
