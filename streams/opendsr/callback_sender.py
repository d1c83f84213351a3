"""Tells those who asked for an erasure each change of its status: signed OpenDSR callbacks (section 8.6).

One attempt a call; the controller repeats. Never raises for what a client's server does, and logs no URL.
"""

from __future__ import annotations

import logging

from processors.erasure import Callback, Request, Terms
from sinks.recipients.transport import Transport, TransportError
from streams.opendsr.answers import callback_body
from streams.opendsr.signing import Signer

log = logging.getLogger(__name__)


class CallbackSender:
    """`allow_private`: whether callbacks may go into private networks and need not be https."""

    def __init__(self, signer: Signer, *, allow_private: bool = False) -> None:
        self._signer = signer
        self._transport = Transport(allow_private=allow_private)

    async def __call__(self, request: Request, callback: Callback, status: str) -> bool:
        """Whether the callback was taken: any answer of success is."""
        body = callback_body(
            request,
            callback,
            # Unverified, the term has not begun; it is what it would be.
            expected_at=request.due_at or request.received_at + Terms().response,
            domain=self._signer.domain,
        )
        headers = {"Content-Type": "application/json", **self._signer.headers(body)}
        try:
            reply = await self._transport.request("POST", callback.url, headers=headers, body=body)
        except TransportError as error:
            log.info("request %s: a callback was not taken: %s", request.request_id, error)
            return False
        return 200 <= reply.status < 300
