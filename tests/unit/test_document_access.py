"""Who we are to a vendor: keys, passwords and OAuth tokens, against a real authorization server on loopback."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sinks.recipients.document_file import load_document
from sinks.recipients.documents import DocumentConnector, document_connector
from sinks.recipients.transport import Transport
from tests.unit.vendor_server import (
    ALL,
    Diverted,
    command,
    serving,
    written,
)


@pytest.mark.parametrize(
    ("auth", "query", "header"),
    [
        ({"headers": {"X-Api-Key": "{{ secrets.id }}"}}, "", ("X-Api-Key", "top")),
        ({"basic": {"user": "{{ secrets.id }}"}}, "", ("Authorization", "Basic dG9wOg==")),
        ({"bearer": "{{ secrets.id }}"}, "", ("Authorization", "Bearer top")),
        ({"query": {"key": "{{ secrets.id }}"}}, "?key=top", ("Accept", "application/json")),
    ],
)
def test_ways_to_say_who_we_are(auth: Any, query: str, header: tuple[str, str], tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": 1})

    async def play() -> None:
        async with serving(handler) as url:
            transport = Diverted(url)
            connector = document_connector(written(tmp_path, auth=auth), {}, {"id": "top"}, transport, {"X-Own": "1"})
            await connector.dispatch(command(ALL[0]))
            await connector.close()
            [(_, asked, headers, _)] = transport.asked
            assert asked == f"https://own.example/delete{query}"
            assert headers[header[0]] == header[1]
            assert headers["X-Own"] == "1"

    asyncio.run(play())


class OAuth:
    """An authorization server (RFC 6749) and the API that takes its tokens."""

    def __init__(self, rotating: bool = False) -> None:
        self.rotating = rotating
        self.forms: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.valid: set[str] = set()
        self.refresh = "first"
        self.calls = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            form = dict(await request.post())
            self.forms.append(form)
            self.authorizations.append(request.headers.get("Authorization"))
            if form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh:
                return web.json_response({"error": "invalid_grant"}, status=400)
            token = f"token-{len(self.forms)}"
            self.valid = {token}
            answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": 600}
            if self.rotating:
                self.refresh = answer["refresh_token"] = f"refresh-{len(self.forms)}"
            return web.json_response(answer)
        self.calls += 1
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.valid:
            return web.json_response({}, status=401)
        return web.json_response({"id": 5}, status=202)


def with_oauth(tmp_path: Path, **more: str) -> Path:
    oauth = {"token_url": "https://own.example/token", "client_id": "us", "client_secret": "{{ secrets.id }}", **more}
    return written(tmp_path, auth={"oauth2": oauth})


def test_tokens_are_fetched_once_kept_and_renewed(tmp_path: Path) -> None:
    server, now = OAuth(), [0.0]

    async def play() -> None:
        async with serving(server.handle) as url:
            document = load_document(with_oauth(tmp_path, grant_type="client_credentials", scope="erase"))
            connector = DocumentConnector(document, {}, {"id": "a&b"}, Diverted(url), clock=lambda: now[0])

            async def ask() -> None:
                assert (await connector.dispatch(command(ALL[0]))).reference == "5"

            await asyncio.gather(ask(), ask(), ask())
            assert len(server.forms) == 1
            assert server.forms[0] == {
                "grant_type": "client_credentials",
                "client_id": "us",
                "client_secret": "a&b",
                "scope": "erase",
            }
            now[0] = 539.0
            await ask()
            assert len(server.forms) == 1
            now[0] = 541.0
            await ask()
            assert len(server.forms) == 2
            # Revoked before its time: one new token, and the call once more.
            server.valid, server.calls = set(), 0
            await asyncio.gather(ask(), ask())
            assert (len(server.forms), server.calls) == (3, 4)
            await connector.close()

    asyncio.run(play())


def test_refresh_tokens_that_change_and_a_client_in_the_header(tmp_path: Path) -> None:
    server, now = OAuth(rotating=True), [0.0]

    async def play() -> None:
        async with serving(server.handle) as url:
            path = with_oauth(tmp_path, grant_type="refresh_token", refresh_token="first", client_auth="basic")
            connector = DocumentConnector(load_document(path), {}, {"id": "s:1"}, Diverted(url), clock=lambda: now[0])
            for at in (0.0, 541.0, 1082.0):
                now[0] = at
                assert (await connector.dispatch(command(ALL[0]))).outcome == "acknowledged"
            assert [form["refresh_token"] for form in server.forms] == ["first", "refresh-1", "refresh-2"]
            assert all(form.keys() == {"grant_type", "refresh_token"} for form in server.forms)
            assert server.authorizations[0] == "Basic " + base64.b64encode(b"us:s%3A1").decode()
            # Taken away: told with the code of the specification, and tried again with the secret's own.
            server.refresh, now[0] = "other", 5000.0
            said = await connector.dispatch(command(ALL[0]))
            assert (said.outcome, said.detail) == ("retry", "no access token: HTTP 400 (invalid_grant)")
            server.refresh = "first"
            assert (await connector.dispatch(command(ALL[0]))).outcome == "acknowledged"
            await connector.close()

    asyncio.run(play())


def test_a_token_that_is_never_taken_is_tried_twice(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"access_token": "t"})
        return web.json_response({}, status=401)

    async def play() -> None:
        async with serving(handler) as url:
            transport = Diverted(url)
            path = with_oauth(tmp_path, grant_type="client_credentials")
            connector = document_connector(path, {}, {"id": "s"}, transport)
            assert (await connector.dispatch(command(ALL[0]))).outcome == "retry"
            assert [url.rpartition("/")[2] for _, url, _, _ in transport.asked] == ["token", "delete"] * 2
            await connector.close()

    asyncio.run(play())


def test_a_secret_that_cannot_be_sent_is_to_be_mended(tmp_path: Path) -> None:
    async def play() -> None:
        connector = document_connector(written(tmp_path), {}, {"id": "top\nsecret"}, Transport())
        said = await connector.dispatch(command(ALL[0]))
        assert said.outcome == "retry"
        assert "control character" in said.detail
        assert "secret" not in said.detail
        await connector.close()

    asyncio.run(play())
