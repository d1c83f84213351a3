"""A vendor's server on loopback for tests of vendor documents: what was asked of it, and what became of its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from aiohttp import web

from processors.erasure_commands import Answer, Command
from sinks.recipients.document_file import load_document
from sinks.recipients.documents import document_connector
from sinks.recipients.transport import Reply, Transport

KEY = UUID("f31a16f4-2357-47b5-aba0-d83742f2fd66")
SUBMITTED = 1_672_059_087_570
SETTINGS: dict[str, dict[str, str]] = {
    "appsflyer": {"android_app_id": "AnAID", "apple_app_id": "123456789"},
    "appsflyer-opengdpr": {"android_app_id": "AnAID", "apple_app_id": "123456789"},
    "braze": {"data_center": "iad-03"},
    "clevertap": {"region": "eu1"},
    "mixpanel": {"project_token": "p"},
}


def identity(kind: str, value: str, form: str = "raw") -> dict[str, str]:
    return {"identity_type": kind, "identity_format": form, "identity_value": value}


ALL = (
    identity("controller_customer_id", "test_user_id"),
    identity("email", "a@example.org"),
    identity("android_advertising_id", "1665148898336-5539842602053895577"),
)


def command(*identities: dict[str, str]) -> Command:
    return Command(UUID(int=1), "vendor", KEY, 1, SUBMITTED, SUBMITTED + 30 * 86_400_000, identities=identities)


class Diverted(Transport):
    """Sends what goes to a vendor to a server on loopback instead, and keeps what it was asked to send."""

    def __init__(self, to: str) -> None:
        super().__init__(allow_private=True)
        self._to = to
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def request(self, method: str, url: str, *, headers: Any = None, body: bytes | None = None) -> Reply:
        sent = None if body is None else body.decode()
        self.asked.append(
            (method, url, dict(headers or {}), json.loads(sent) if (sent or "")[:1] in "{[" and sent else sent)
        )
        path = "/" + url.split("/", 3)[3]
        return await super().request(method, self._to + path, headers=headers, body=body)


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def played(
    document: str | Path,
    replies: Sequence[tuple[Any, ...]],
    *identities: dict[str, str],
    settings: dict[str, str] | None = None,
    reference: str | None = None,
) -> tuple[Answer, list[tuple[str, str, dict[str, str], Any]]]:
    """What a document makes of a vendor's replies, and what it asked."""
    left = list(replies)

    async def handler(request: web.Request) -> web.StreamResponse:
        status, body, *headers = left.pop(0)
        if isinstance(body, str):
            return web.Response(text=body, status=status, content_type="text/html")
        return web.json_response(body, status=status, headers=headers[0] if headers else None)

    async def play() -> tuple[Answer, list[tuple[str, str, dict[str, str], Any]]]:
        async with serving(handler) as url:
            transport = Diverted(url)
            read = load_document(document)
            secrets = {name: f"secret-{name}" for name in read.get("secrets", [])}
            given = SETTINGS.get(str(document), {}) if settings is None else settings
            connector = document_connector(document, given, secrets, transport)
            asked = command(*identities)
            said = await (connector.dispatch(asked) if reference is None else connector.check(asked, reference))
            await connector.close()
            return said, transport.asked

    return asyncio.run(play())


DOCUMENT: dict[str, Any] = {
    "vendor": "Own",
    "documentation": "https://own.example/docs",
    "evidence": "its word",
    "secrets": ["id"],
    "identities": [{"type": "email", "format": "sha256"}, {"type": "controller_customer_id"}],
    "auth": {"bearer": "{{ secrets.id }}"},
    "request": {
        "url": "https://own.example/delete",
        "headers": {"Idempotency-Key": "{{ request.key }}"},
        "form": {"kind": "{{ identity.type }}", "value": "{{ identity.value }}", "form": "{{ identity.format }}"},
        "answers": [{"status": "2xx", "outcome": "acknowledged", "reference": "{{ answer.id }}", "check_after": 60}],
    },
}
CHECK = {
    "method": "GET",
    "url": "https://own.example/jobs/{{ reference }}",
    "answers": [
        {"status": 200, "where": {"done": True}, "outcome": "completed"},
        {"status": 200, "where": {"done": False}, "outcome": "acknowledged", "check_after": 60},
        {"status": 200, "outcome": "failed"},
    ],
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "own.yaml"
    document = {key: value for key, value in (DOCUMENT | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(document))
    return path


def request(**changes: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in (DOCUMENT["request"] | changes).items() if value is not None}
    return kept


LOOKUP = {"method": "GET", "url": "https://own.example/find", "items": "people", "id": "id"}
