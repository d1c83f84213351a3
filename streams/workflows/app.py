"""Faust as the workflows need it: nothing read that was aborted, nothing acknowledged that was not done.

Faust 0.15 reads uncommitted data, and loses its place at the gaps that transaction markers leave in a topic. The three
overrides below mend both, under two conditions that every agent here must keep: concurrency 1, and acknowledging in
order and only after the effect (`stream.noack().events()`, then `event.ack()`). An agent that raises ends the process
(`CrashingSupervisor`); what it had not acknowledged comes again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from mode import CrashingSupervisor

from streams.kafka import Kafka


class _CommittedOnlyThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # aiokafka builds its fetcher when it starts, which is later.
        consumer._isolation_level = "read_committed"
        return consumer


class _InOrderConsumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _CommittedOnlyThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: Any) -> int | None:
        """The offset behind the last acknowledged one. Right only for acknowledgements in order."""
        acked = self._acked[tp]
        if not acked:
            return None
        offset = int(max(acked)) + 1
        acked.clear()
        self._acked_index[tp].clear()
        self._gap[tp].clear()
        return offset


class Transport(driver.Transport):
    """Kafka, committed data only, for agents that acknowledge in order."""

    Consumer = _InOrderConsumer


def workflow_app(group: str, kafka: Kafka) -> Any:
    """A Faust app that is the consumer group `group`, for the running event loop.

    Declares no topics, serves no pages, keeps no tables on disk.

    Of `kafka.config` it understands `security.protocol`, `ssl.ca.location`, `sasl.mechanism`, `sasl.username` and
    `sasl.password`.
    """
    app = faust.App(
        group,
        loop=asyncio.get_running_loop(),
        broker=[f"kafka://{host}" for host in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        store="memory://",
        datadir=tempfile.mkdtemp(prefix=f"lineage-{group}-"),
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        # A worker that is started again takes its place at once, instead of waiting for its own session to expire.
        consumer_group_instance_id=group,
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=True,
        broker_session_timeout=45.0,
        broker_commit_interval=0.5,
        producer_acks=-1,
        producer_request_timeout=30.0,
        table_standby_replicas=0,
        web_enabled=False,
    )
    for chatty in ("faust", "mode", "aiokafka", "streams.workflows.app"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    app.transport = Transport(app.conf.broker_consumer, app, app.loop)
    return app


def raw_topic(app: Any, name: str) -> Any:
    """A topic whose keys and values come as bytes."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def run_app(
    make: Callable[[], Any], work: Callable[[], Coroutine[Any, Any, None]], stop: Event, ready: Callable[[], None]
) -> None:
    """Makes an app, runs it and `work` beside it until `stop` is set. Raises what an agent or `work` raises."""

    async def until_stopped() -> None:
        # In the loop that it is to run in, and without Faust's own worker: signals and logging are ours.
        app = make()
        app.in_worker = True
        app.finalize()
        await app.start()
        working = asyncio.ensure_future(work())
        ready()
        try:
            while not stop.is_set():
                if working.done():
                    working.result()
                    raise RuntimeError("the workflow ended without being told to")
                if app.crashed:
                    raise app.crash_reason or RuntimeError("Faust crashed")
                await asyncio.sleep(0.05)
        finally:
            working.cancel()
        await app.stop()

    asyncio.run(until_stopped())


def _credentials(kafka: Kafka) -> Any:
    config = kafka.config
    protocol = str(config.get("security.protocol", "plaintext")).lower()
    if protocol == "plaintext":
        return None
    context = ssl.create_default_context(cafile=config.get("ssl.ca.location")) if "ssl" in protocol else None
    if not protocol.startswith("sasl"):
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=config.get("sasl.username"),
        password=config.get("sasl.password"),
        mechanism=config.get("sasl.mechanism", "PLAIN"),
        ssl_context=context,
    )
