"""Stops the queries of clients that cancelled or went away while the engine works for them.

One thread looks at the sockets of the clients whose queries run. It only peeks: the bytes stay for the
conversation, and what it does is repeated until the query is gone, so that none is missed. It never stops
a query that the same client starts afterwards.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.clickhouse_endpoint.engine import EngineError, Session
from infra.local.clickhouse_endpoint.packets import ClientPacket

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.05


class Running:
    """A query that runs, of the client whose statements carry `mark`."""

    def __init__(self, mark: str, client: socket.socket) -> None:
        self.mark = mark
        self.client = client
        self.cancelled = False
        """The client wants no more of it."""
        self.stopped = False
        """The endpoint stops, and the client must not take what it got for the whole."""
        self.lock = threading.Lock()
        """Held while the query is being stopped, and to end it."""
        self.ended = False


class Canceller(threading.Thread):
    def __init__(self, path: Path) -> None:
        super().__init__(name="canceller", daemon=True)
        self._session = Session(path, "canceller")
        self._session_lock = threading.Lock()
        self._running: set[Running] = set()
        self._changed = threading.Condition()
        self._stop_all = False

    @contextmanager
    def watching(self, mark: str, client: socket.socket) -> Iterator[Running]:
        running = Running(mark, client)
        with self._changed:
            self._running.add(running)
            self._changed.notify()
        try:
            yield running
        finally:
            with self._changed:
                self._running.discard(running)
            with running.lock:
                running.ended = True

    def stop_all(self) -> None:
        """From now on every query is stopped."""
        with self._changed:
            self._stop_all = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                while not self._running:
                    self._changed.wait()
                looked_at = [*self._running]
                stop_all = self._stop_all
            for running in looked_at:
                running.stopped = stop_all
                running.cancelled = running.cancelled or _is_cancelled(running.client)
                if running.cancelled or running.stopped:
                    self.stop(running)
            time.sleep(_LOOK_EVERY_S)

    def stop(self, running: Running) -> None:
        """Asks the engine to stop the query, now; does not wait for it."""
        with running.lock, self._session_lock:
            if not running.ended:
                try:
                    self._session.run(f"KILL QUERY WHERE startsWith(query, '/* {running.mark} */') ASYNC")
                except EngineError as error:
                    log.error("a query could not be stopped: code %d", error.code)


def _is_cancelled(client: socket.socket) -> bool:
    """True when the client has sent Cancel or has gone."""
    try:
        ahead = client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not ahead or ahead[0] == ClientPacket.CANCEL
