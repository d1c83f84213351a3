"""A few connections to ClickHouse for many threads: one serves one thread at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from clickhouse_driver import Client

from sinks.clickhouse.client import connect
from sinks.clickhouse.errors import TransientError


class ClickHousePool:
    """At most `size` connections to the server of `url`, opened when they are first needed.

    `patience`: seconds that a thread waits for one to be free. Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, size: int = 4, patience: float = 10.0) -> None:
        self._patience = patience
        self._free: LifoQueue[Client] = LifoQueue()
        for _ in range(size):
            self._free.put(connect(url))

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client for the length of the block. Raises `TransientError` when none becomes free in time."""
        try:
            client = self._free.get(timeout=self._patience)
        except Empty:
            raise TransientError("all connections to ClickHouse are busy") from None
        try:
            yield client
        except BaseException:
            # It may be in the middle of an answer; the next query opens it anew.
            client.disconnect()
            raise
        finally:
            self._free.put(client)

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while True:
            try:
                self._free.get_nowait().disconnect()
            except Empty:
                return
