"""The workflow `erasures`: requests → every recipient asked, own stores purged, a certificate (docs/erasure.md).

One worker, on Faust. Steps and receipts come as events and are acknowledged once what they changed is committed; all
else happens by time: each turn does what is due (see erasing.py). Calls to recipients run beside the turns, and what
came of them is one more thing that comes in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from threading import Event
from typing import Any, Protocol
from uuid import UUID

from processors.erasure import Callback, Request, Step, opendsr_status
from processors.erasure_commands import Answer
from sinks.recipients.connector import Connector
from streams.erasure_routes import Routes
from streams.kafka import Kafka
from streams.serdes import DecodeError, Deserializer, Registry
from streams.subjects import ALIAS_SIZE
from streams.topics import ERASURE_RECEIPTS, ERASURE_REQUESTS
from streams.workflows.app import raw_topic, run_app, workflow_app
from streams.workflows.erasing import GROUP, Erasing
from streams.workflows.erasure_turns import Call, CalledBack, Came, Receipt, Told
from streams.workflows.purging import Purging

log = logging.getLogger(__name__)

# How long nothing may be due before it is looked again for what others have written.
IDLE_SECONDS = 0.5
CALLS_AT_ONCE = 200
CALL_SECONDS = 60.0
MOST_EVENTS = 5_000
BIRTHS_SECONDS = 60.0


class Births(Protocol):
    """Requests that nobody has to ask for."""

    def run_due(self, now: int) -> int:
        """Tells the topic `erasure-requests` of whoever is due at `now` (ms); gives how many. Blocks."""
        ...

    def close(self) -> None: ...


# Sends a callback: request, callback, status → whether it was taken.
SendCallback = Callable[[Request, Callback, str], Awaitable[bool]]


class Erasures:
    """The one worker. `send_callback`: how a status is told to whoever asked; never raises."""

    def __init__(
        self,
        kafka: Kafka,
        erasing: Erasing,
        purging: Purging,
        routes: Routes,
        send_callback: SendCallback,
        births: Births | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._kafka = kafka
        self._erasing = erasing
        self._purging = purging
        self._routes = routes
        self._send_callback = send_callback
        self._births = births
        self._deserializer = Deserializer(registry)
        self._results = Came()
        self._tasks: set[asyncio.Task[None]] = set()
        self._purge: asyncio.Task[None] | None = None

    def run(self, stop: Event, ready: Callable[[], None] = lambda: None) -> None:
        """Works until `stop` is set. Raises `KafkaException` (a second worker was started, among others),
        `ClickHouseError`, `TimeoutError`: what was not committed is done again by the next."""
        self._erasing.start()
        waiting: asyncio.Queue[Any] = asyncio.Queue(2 * MOST_EVENTS)

        def make() -> Any:
            app = workflow_app(GROUP, self._kafka)
            for topic in (ERASURE_REQUESTS, ERASURE_RECEIPTS):
                app.agent(raw_topic(app, topic), name=topic, concurrency=1)(_into(waiting))
            return app

        run_app(make, lambda: self._work(waiting), stop, ready)

    async def _work(self, waiting: asyncio.Queue[Any]) -> None:
        self._woken = asyncio.Event()
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        if self._births is not None:
            self._start(self._look_for_births(self._births))
        try:
            while True:
                events = await self._next(waiting)
                came, self._results = self._results, Came()
                for event in events:
                    self._take(event, came)
                wanted = await asyncio.to_thread(self._erasing.turn, came)
                for event in events:
                    event.ack()
                for call in wanted.calls:
                    self._start(self._call(call))
                for request, callback in wanted.callbacks:
                    self._start(self._tell(request, callback))
                if wanted.purge:
                    self._purging.add(wanted.purge)
                self._check_tasks()
        finally:
            for task in [*self._tasks, *([self._purge] if self._purge else [])]:
                task.cancel()

    async def _next(self, waiting: asyncio.Queue[Any]) -> list[Any]:
        """What has come, as soon as something has come or is due."""
        due = self._erasing.store.next_due()
        wait = IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(0.0, due / 1000 - time.time()))
        if waiting.empty() and not self._woken.is_set() and wait > 0:
            getting = asyncio.ensure_future(_peek(waiting))
            woken = asyncio.ensure_future(self._woken.wait())
            _, pending = await asyncio.wait({getting, woken}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        self._woken.clear()
        events: list[Any] = []
        while len(events) < MOST_EVENTS and not waiting.empty():
            events.append(waiting.get_nowait())
        return events

    def _take(self, event: Any, came: Came) -> None:
        message = event.message
        try:
            _, record = self._deserializer.decode(message.value)
            if message.topic == ERASURE_REQUESTS:
                came.steps.append(_step(message.key, record))
            else:
                came.receipts.append(_receipt(record))
        except (DecodeError, ValueError, TypeError) as error:
            # The tagger writes what it cannot read of requests to the dead letters; it reads the same topic.
            log.error("%s/%s/%s is passed over: %s", message.topic, message.partition, message.offset, error)

    # Beside the turns

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

    def _check_tasks(self) -> None:
        """Raises what went wrong beside the turns, and begins the next purge when none is under way."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()
        if self._purge is not None and self._purge.done():
            self._purge.result()
            self._purge = None
        if self._purge is None and self._purging.is_due:
            self._purge = asyncio.ensure_future(self._purge_own_stores())

    async def _purge_own_stores(self) -> None:
        done = await asyncio.to_thread(self._purging.purge)
        self._results.purged += done
        self._woken.set()

    async def _look_for_births(self, births: Births) -> None:
        while True:
            await asyncio.to_thread(births.run_due, self._erasing.now())
            await asyncio.sleep(BIRTHS_SECONDS)

    async def _call(self, call: Call) -> None:
        command = call.command
        async with self._slots:
            answer = await self._answer(call, self._routes.connector(command.target))
        self._results.told.append(Told(command.request_id, command.target, answer, command.idempotency_key))
        self._woken.set()

    async def _answer(self, call: Call, connector: Connector | None) -> Answer:
        if connector is None:
            return Answer("retry", detail="there is no connector for this recipient any more")
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if call.reference is None:
                    return await connector.dispatch(call.command)
                return await connector.check(call.command, call.reference)
        except TimeoutError:
            return Answer("retry", detail=f"no answer within {CALL_SECONDS:.0f} s")
        except Exception as error:
            # One vendor's surprise must not stop everybody's erasure. What it says may hold an identifier.
            log.error("connector of %s: %s", call.command.target, type(error).__name__)
            return Answer("retry", detail=f"the connector failed: {type(error).__name__}")

    async def _tell(self, request: Request, callback: Callback) -> None:
        status = opendsr_status(request.state)
        async with self._slots:
            taken = await self._send_callback(request, callback, status)
        self._results.called_back.append(CalledBack(request.request_id, callback, status, taken))
        self._woken.set()


def _into(waiting: asyncio.Queue[Any]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            await waiting.put(event)

    return agent


async def _peek(waiting: asyncio.Queue[Any]) -> None:
    while waiting.empty():
        await asyncio.sleep(0.01)


def _step(alias: bytes | None, record: Mapping[str, Any]) -> Step:
    if alias is None or len(alias) != ALIAS_SIZE:
        raise ValueError("the key is no alias")
    return Step(
        request_id=UUID(bytes=record["request_id"]),
        alias=alias,
        occurred_at=record["occurred_at"],
        step=record["step"],
        origin=record["origin"],
        regulation=record["regulation"],
        verified_by=record["verified_by"],
        ground=record["ground"],
        requester=record["requester"],
        callback_urls=tuple(record["callback_urls"]),
    )


def _receipt(record: Mapping[str, Any]) -> Receipt:
    key = record["idempotency_key"]
    return Receipt(
        request_id=UUID(bytes=record["request_id"]),
        target=record["target"],
        answer=record["answer"],
        grade=record["grade"],
        detail=record["detail"],
        ground=record["ground"],
        evidence=record["evidence"],
        key=None if key is None else UUID(bytes=key),
    )
