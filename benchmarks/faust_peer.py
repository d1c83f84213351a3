"""What the Faust peers of the benchmarks share: an app as its documentation would have it, and how it is run."""

from __future__ import annotations

import asyncio
import time
from threading import Event
from typing import Any

import faust


def faust_app(bootstrap: str) -> Any:
    """An app that reads from the beginning; every run is a consumer group of its own."""
    return faust.App(
        f"bench-faust-{time.time_ns()}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )


def raw_topic(app: Any, *names: str) -> Any:
    """Topics whose keys and values come as bytes."""
    return app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def run_faust(app: Any, stop: Event) -> None:
    """Runs the app until `stop` is set."""
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False)

    async def until_stopped() -> None:
        await worker.start()
        while not stop.is_set():
            await asyncio.sleep(0.05)
        await worker.stop()

    worker.loop.run_until_complete(until_stopped())
