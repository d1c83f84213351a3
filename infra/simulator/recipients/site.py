"""What the HTTP recipients of one simulator share: who is where, who may ask, and answers that can go wrong.

Knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from infra.simulator.recipients.certificates import Certificates
from infra.simulator.recipients.recipient import Outcome, Recipient

_CHUNK = b" " * (1 << 16)
Sign = Callable[[bytes], Mapping[str, str]]


@dataclass
class Site:
    """The recipients by name, and where they are reached. `tokens`: what a client must show, where it must."""

    host: str
    recipients: Mapping[str, Recipient]
    certificates: Certificates
    tokens: Mapping[str, str]
    url: str = field(default="", init=False)

    def home(self, recipient: str) -> str:
        """Where the recipient's paths begin."""
        return f"{self.url}/r/{quote(recipient, safe='')}"

    def find(self, request: web.Request, protocol: str) -> Recipient:
        """Whom a request is for. Raises `HTTPNotFound`, `HTTPUnauthorized`."""
        recipient = self.recipients.get(request.match_info["recipient"])
        if recipient is None or recipient.protocol != protocol:
            raise web.HTTPNotFound(text="no such recipient here")
        token = self.tokens.get(recipient.name)
        if token and request.headers.get("Authorization") != f"Bearer {token}":
            recipient.note("unauthorized")
            raise web.HTTPUnauthorized(text="the bearer token is missing or wrong")
        return recipient

    def failed(self, recipient: Recipient, outcome: Outcome) -> web.Response:
        """The answer that is one of the errors of `Recipient.error`."""
        wait = {"Retry-After": str(recipient.profile.retry_after_s)}
        if outcome == "redirect":
            return web.Response(status=307, headers={"Location": f"{self.home(recipient.name)}/elsewhere"})
        if outcome == "error_500":
            return web.Response(status=500, text="simulated failure")
        return web.Response(status=503 if outcome == "error_503" else 429, headers=wait, text="simulated overload")

    async def elsewhere(self, request: web.Request) -> web.Response:
        """Where redirects lead: nobody who was given identifiers for the recipient should take them there."""
        recipient = self.recipients.get(request.match_info["recipient"])
        if recipient is not None:
            recipient.note("redirect_followed")
        return web.json_response({})


async def reply(
    request: web.Request,
    recipient: Recipient,
    about: tuple[object, ...],
    status: int,
    payload: Mapping[str, Any] | bytes,
    sign: Sign | None = None,
    content_type: str = "application/json",
) -> web.StreamResponse:
    """The answer, or what the recipient's profile makes of it. `about`: what it answers, for chance to go by."""
    if recipient.shows("slow", *about):
        await asyncio.sleep(recipient.fate.between(recipient.profile.slow_s, "slow", *about))
    if recipient.shows("huge", *about):
        return await _huge(request, status, recipient.profile.huge_mib)
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    if recipient.shows("malformed", *about):
        body = body[: len(body) // 2]
    headers = dict(sign(body)) if sign else {}
    return web.Response(status=status, body=body, headers=headers, content_type=content_type)


def hang_up(request: web.Request) -> web.Response:
    """Ends the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _huge(request: web.Request, status: int, mib: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    try:
        await response.prepare(request)
        for _ in range(mib * (1 << 20) // len(_CHUNK)):
            await response.write(_CHUNK)
        await response.write(b"{}")
        await response.write_eof()
    except ConnectionError:
        # The reader has had enough, as it should.
        if request.transport is not None:
            request.transport.abort()
    return response
