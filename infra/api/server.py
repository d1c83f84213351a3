"""The API's server: uvicorn on a socket that is bound before anything else, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

# Above this, new requests are told to come again (503): the ones begun are finished.
_MOST_REQUESTS = 200
_KEEP_ALIVE_SECONDS = 15
_END_SECONDS = 15
_MOST_HEADERS = 32 << 10


class PortTaken(Exception):
    """Another program listens there; the text says what to do."""


def bind(host: str, port: int) -> socket.socket:
    """A socket at host and port (0: any free one), not listening yet. Raises `PortTaken`, `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # The protocol by name: asyncio turns Nagle's algorithm off only where it stands, and else every answer waits 40 ms
    # for the client's acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise PortTaken(f"{host}:{port} cannot be had ({error.strerror}): choose another --port") from error
    return bound


def serve(app: FastAPI, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal says to stop; `ready` is called once it answers."""
    config = uvicorn.Config(
        app,
        log_config=None,
        # Paths hold request ids; what matters of a request is logged where it is done.
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_MOST_REQUESTS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
        h11_max_incomplete_event_size=_MOST_HEADERS,
    )
    _Server(config, ready).run(sockets=[bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
