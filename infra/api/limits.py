"""How much the API takes of one request: bodies end where the limit is, whatever their headers say."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 256 << 10
# So much of a body that is too large is read, and thrown away, before it is refused.
_DRAINED_BYTES = 4 << 20
_PATIENCE_SECONDS = 5.0


class BodyLimit:
    """ASGI middleware: a request with a body over `most` bytes is answered with 413, and nobody sees it.

    named: below this path errors have names for codes (audit/api/errors.py); elsewhere numbers, as in OpenDSR.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES, named: str = "/api/") -> None:
        self._app = app
        self._most = most
        self._named = named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not told.isdigit() or int(told) > self._most:
            await self._refuse(scope, receive, send)
            return
        read, is_ended = 0, False

        async def counted() -> Message:
            nonlocal read, is_ended
            if read > self._most:
                return {"type": "http.disconnect"}
            message = await receive()
            read += len(message.get("body", b""))
            is_ended = not message.get("more_body", False)
            # For the app, the client has gone; what the app says then, nobody hears.
            return {"type": "http.disconnect"} if read > self._most else message

        async def replaced(message: Message) -> None:
            if read <= self._most:
                await send(message)

        await self._app(scope, counted, replaced)
        if read > self._most:
            await self._refuse(scope, receive, send, is_ended)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, is_ended: bool = False) -> None:
        # A connection that is closed while the client still writes is reset, and the answer lost with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                left = _DRAINED_BYTES
                while left > 0 and not is_ended:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    is_ended = not message.get("more_body", False)
        code = "too_large" if scope["path"].startswith(self._named) else 413
        body = orjson.dumps({"error": {"code": code, "message": f"the body must not exceed {self._most} bytes"}})
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
