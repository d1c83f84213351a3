"""Who calls, how often, whether they may, and why they look: asked before any operation does anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from audit.api.errors import ApiError
from audit.api.permissions import OPERATIONS, Scope, allowed
from audit.api.rates import TokenBuckets
from audit.api.recording import LookRecord
from audit.api.services import Services
from processors.api_clients import ApiClient, Forbidden

REASON_HEADER = "X-Reason"
# As parameters.py and routes.py describe it.
_REASON = range(3, 501)


@dataclass(frozen=True)
class Caller:
    """A client that may do this operation, and by which role."""

    name: str
    role: str
    scope: Scope
    operation: str
    _told: str | None
    _record: LookRecord

    def reason(self, in_body: str | None = None) -> str:
        """Why it looks, as it says: in the body, else in the header; what is given must be one. Raises `ApiError`."""
        given = [" ".join(told.split()) for told in (in_body, self._told) if told is not None]
        if not given or any(len(told) not in _REASON or not told.isprintable() for told in given):
            raise ApiError(
                "reason_required",
                f"say why you look at people, in the header {REASON_HEADER} or in the `reason` of the body: "
                f"{_REASON.start} to {_REASON.stop - 1} characters, e.g. the number of the case; it is recorded",
            )
        return given[0]

    def looks_at(self, subject: UUID | None, reason: str) -> None:
        """Stores that it looks at one person; None: at nobody who is known. Raises ClickHouseError."""
        self._record.store(self.name, self.role, self.operation, int(subject is not None), subject, reason)

    def look(self, reason: str) -> Callable[[UUID | None], None]:
        """`looks_at` for this reason."""
        return partial(self.looks_at, reason=reason)

    def looks_at_many(self, people: int, subject_matter: str) -> None:
        """Stores that it looks at so many people. subject_matter: what it asked, and why. Raises ClickHouseError."""
        self._record.store(self.name, self.role, self.operation, people, subject_matter=subject_matter)


class Access:
    """The door of all operations."""

    def __init__(self, services: Services) -> None:
        self._authenticate = services.authenticate
        self._buckets = TokenBuckets(services.rate, services.burst, time.monotonic)
        self._record = LookRecord(services.clickhouse, services.clock)

    def caller(self, operation: str, request: Request) -> Caller:
        """Who asks for an operation. Raises `Unauthorized`, `Forbidden`, `AuthenticationUnavailable`, `ApiError`."""
        client = self._authenticate(request.headers.get("authorization"))
        return self.admit(operation, client, _text(request.headers.get(REASON_HEADER)))

    def admit(self, operation: str, client: ApiClient, told: str | None = None) -> Caller:
        """A client that was authenticated, for an operation. told: why it looks. Raises `Forbidden`, `ApiError`."""
        wait = self._buckets.take(client.id)
        if wait is not None:
            raise ApiError("rate_limited", f"too many requests: come again in {wait} s", wait)
        found = allowed(operation, client.roles)
        if found is None:
            roles = " or ".join(OPERATIONS[operation].roles)
            raise Forbidden(f"this needs the role {roles}: see docs/permissions.md")
        return Caller(client.id, *found, operation, told, self._record)


class AskedByCaller(APIRoute):
    """A route that asks who calls, and whether they may, before it reads anything of what they send."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def asked(request: Request) -> Response:
            access: Access = request.app.state.access
            # In a thread: an identity provider may have to be asked.
            request.state.caller = await run_in_threadpool(access.caller, self.operation_id or "", request)
            return await handle(request)

        return asked


async def calling(request: Request) -> Caller:
    """Who calls, as the route has found out."""
    caller: Caller = request.state.caller
    return caller


# What the handler of an operation takes that must know who calls.
Calling = Annotated[Caller, Depends(calling)]


def _text(header: str | None) -> str | None:
    """HTTP hands headers over as Latin-1; people send them in UTF-8."""
    if header is None:
        return None
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
