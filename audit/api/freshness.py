"""Whether whoever asks wants nothing that was kept from before: `Cache-Control: no-cache`, as HTTP has it (RFC 9111).

Answers may otherwise be some seconds behind in what is costly to read: what was published, what does not count.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

_asked_at: ContextVar[float | None] = ContextVar("asked_at", default=None)


def fresh_since() -> float | None:
    """When the request that is being answered came, if it wants nothing older (monotonic, seconds); else None."""
    return _asked_at.get()


class Freshness:
    """ASGI middleware that hears the header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope.get("headers", ())
        wanted = any(name == b"cache-control" and b"no-cache" in value.lower() for name, value in headers)
        _asked_at.set(time.monotonic() if wanted else None)
        await self._app(scope, receive, send)
