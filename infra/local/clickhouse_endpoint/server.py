"""Accepts the endpoint's clients, one thread and one engine connection for each, and stops them.

Holds one engine connection of its own while it lives: the engine shuts down with its last connection.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from infra.local.clickhouse_endpoint.cancel import Canceller
from infra.local.clickhouse_endpoint.conversation import Conversation, Identity
from infra.local.clickhouse_endpoint.engine import Session

log = logging.getLogger(__name__)


class Server:
    """The endpoint over one data directory. Raises EngineError when the engine does not open it."""

    def __init__(self, path: Path, listener: socket.socket, user: str, password: str) -> None:
        self._path = path
        self._listener = listener
        self._engine = Session(path, "server")
        version, timezone, host = self._engine.facts()
        self._identity = Identity(version, timezone, host, user, password)
        self._canceller = Canceller(path)
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopping = False

    def serve(self) -> None:
        """Accepts clients until `stop`."""
        self._canceller.start()
        number = 0
        while not self._stopping:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._stopping:
                    return
                log.exception("a client could not be accepted")
                time.sleep(0.1)
                continue
            number += 1
            thread = threading.Thread(target=self._hold, args=(client, number), daemon=True)
            with self._lock:
                self._clients[thread] = client
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stops queries and clients; True when all of them ended in time."""
        self._stopping = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._canceller.stop_all()
        with self._lock:
            clients = [*self._clients.items()]
        for _, client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + timeout_s
        for thread, _ in clients:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread, _ in clients):
            return False
        self._engine.close()
        return True

    def _hold(self, client: socket.socket, number: int) -> None:
        try:
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Conversation(client, number, self._path, self._identity, self._canceller).hold()
        except Exception:
            log.exception("client %d: closed", number)
        finally:
            with self._lock:
                self._clients.pop(threading.current_thread(), None)
