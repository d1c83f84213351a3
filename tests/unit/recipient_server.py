"""A recipient on loopback for tests of connectors: whatever a handler answers; and the command that it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from aiohttp import web

from processors.erasure_commands import Command

HOST = "localhost"
KEY = UUID("a7551968-d5d6-44b2-9831-815ac9017798")
EMAIL = {"identity_type": "email", "identity_format": "raw", "identity_value": " John@Example.org "}
COMMAND = Command(UUID(int=1), "lumen", KEY, 1, 1_538_492_400_000, 1_541_084_400_000, identities=(EMAIL,))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
