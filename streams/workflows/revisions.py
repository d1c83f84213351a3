"""The workflow `revisions`: late facts → new revisions of exactly the events that they judge otherwise.

Facts of a person come as requests of the loader; policies and registry entries are looked for by time. Both are level
triggered: a request is acknowledged when its revisions are written, a sweep is committed when it is done, and
whatever a crash leaves is done again (docs/late-facts.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from threading import Event
from typing import Any

from clickhouse_driver import Client

from streams.kafka import Kafka
from streams.serdes import Deserializer, Registry
from streams.topics import REVISION_REQUESTS
from streams.workflows.app import raw_topic, run_app, workflow_app
from streams.workflows.rejudging import GROUP, Rejudging, Request, Stopped

log = logging.getLogger(__name__)

# How long nothing may come before new policies and entries are looked for.
SWEEP_SECONDS = 0.5


class Revisions:
    """The one worker. `batch_size`: people judged again in one round."""

    def __init__(
        self,
        kafka: Kafka,
        client: Client,
        instance: str = "0",
        registry: Registry | None = None,
        batch_size: int = 1000,
    ) -> None:
        self._kafka = kafka
        self._client = client
        self._instance = instance
        self._registry = registry
        self._batch_size = batch_size
        self._deserializer = Deserializer(registry)

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Works until `stop` is set. Raises `KafkaException` (a second worker was started, among others),
        `ClickHouseError`, `TimeoutError`."""
        self._rejudging = Rejudging(self._kafka, self._client, self._registry, stop.is_set)
        self._rejudging.start()
        waiting: asyncio.Queue[Any] = asyncio.Queue(2 * self._batch_size)

        def make() -> Any:
            app = workflow_app(GROUP, self._kafka)

            @app.agent(raw_topic(app, REVISION_REQUESTS), name="requests", concurrency=1)  # type: ignore[untyped-decorator]
            async def requests(stream: Any) -> None:
                async for event in stream.noack().events():
                    await waiting.put(event)

            return app

        try:
            run_app(make, lambda: self._work(waiting), stop, ready)
        except Stopped:
            pass
        finally:
            self._rejudging.close()

    async def _work(self, waiting: asyncio.Queue[Any]) -> None:
        while True:
            events = await self._next(waiting)
            if events:
                await self._revise(events)
            else:
                await self._sweep(waiting)

    async def _next(self, waiting: asyncio.Queue[Any]) -> list[Any]:
        """All that waits, or nothing after a while."""
        try:
            events = [await asyncio.wait_for(waiting.get(), SWEEP_SECONDS)]
        except TimeoutError:
            return []
        while len(events) < self._batch_size and not waiting.empty():
            events.append(waiting.get_nowait())
        return events

    async def _revise(self, events: list[Any]) -> None:
        requests = [self._request(event) for event in events]
        count = await asyncio.to_thread(self._rejudging.revise, requests)
        if count:
            log.info("%d requests: %d events revised", len(requests), count)
        for event in events:
            event.ack()

    def _request(self, event: Any) -> Request:
        _, record = self._deserializer.decode(event.message.value)
        return Request(event.message.key, record["since"], record["fact_partition"], record["fact_offset"])

    async def _sweep(self, waiting: asyncio.Queue[Any]) -> None:
        chunks = await asyncio.to_thread(self._rejudging.due_sweep)
        if chunks is None:
            return
        count = 0
        for chunk in chunks:
            count += await asyncio.to_thread(self._rejudging.sweep, chunk)
            # A long sweep does not keep people waiting.
            if not waiting.empty():
                await self._revise(await self._next(waiting))
        await asyncio.to_thread(self._rejudging.swept)
        log.info("new policies or registry entries: %d events revised", count)
