"""What holds for every answer of the pages: which headers it has, and that nothing is changed from another site."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = "/static/"
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS = {
    # No script, style or form of anybody else, and none written into a page.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # To other sites nothing is told. With `no-referrer` browsers would hide the origin of our own forms from us, too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware. `refuse`: the answer to a request that comes from another site."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Request], Response]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                is_static = scope["path"].startswith(STATIC) and message["status"] in (200, 206, 304)
                # Their path has a version.
                kept = "public, max-age=31536000, immutable" if is_static else "no-store"
                headers["Cache-Control"] = kept
            await send(message)

        if scope["method"] not in _SAFE and not is_from_here(Headers(scope=scope)):
            await self._refuse(Request(scope, receive))(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def is_from_here(headers: Headers) -> bool:
    """Whether a page of this very host sends the request, or what is no browser: browsers tell the origin of a POST,
    and only they have somebody's cookie."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return "cookie" not in headers
    # The scheme is not compared: what speaks TLS may stand before this server.
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
