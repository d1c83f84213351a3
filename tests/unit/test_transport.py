"""What is called, what is not, and what becomes of bad answers; against real servers on loopback."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from sinks.recipients.transport import (
    LONGEST_RETRY_AFTER,
    RefusedAddressError,
    TransientError,
    Transport,
    TransportError,
    check_url,
    is_public,
    retry_after,
)
from tests.unit.recipient_server import serving

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://10.0.0.8/",
        "https://[::1]/",
        "https://[::ffff:192.168.0.1]/",
        "https://169.254.169.254/latest",
        "ftp://example.org/",
        "https:///nothing",
        "https://[nothing/",
    ],
)
def test_urls_that_are_never_called(url: str) -> None:
    with pytest.raises(RefusedAddressError):
        check_url(url, allow_private=False)


def test_a_name_that_leads_into_a_private_network_is_not_called() -> None:
    async def play() -> None:
        transport = Transport()
        try:
            with pytest.raises(RefusedAddressError):
                await transport.request("GET", "https://localhost:1/")
        finally:
            await transport.close()

    asyncio.run(play())


def test_answers_are_bounded_and_lead_nowhere_else() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/huge":
                return web.Response(body=b"x" * (3 << 20))
            case "/elsewhere":
                raise web.HTTPFound("/huge")
            case "/busy":
                return web.Response(status=429, headers={"Retry-After": "7"})
            case "/slow":
                await asyncio.sleep(5)
        return web.Response(status=404, text="nothing")

    async def play() -> None:
        async with serving(answer) as url:
            transport = Transport(allow_private=True, timeout=0.3)
            with pytest.raises(TransportError, match="more than"):
                await transport.request("GET", f"{url}/huge")
            with pytest.raises(TransportError, match="elsewhere"):
                await transport.request("GET", f"{url}/elsewhere")
            with pytest.raises(TransientError) as busy:
                await transport.request("GET", f"{url}/busy")
            assert busy.value.retry_after == 7
            with pytest.raises(TransientError):
                await transport.request("GET", f"{url}/slow?secret=s3")
            assert (await transport.request("GET", f"{url}/other")).status == 404
            await transport.close()

    asyncio.run(play())


def test_retry_after_as_seconds_or_a_date() -> None:
    assert retry_after({"retry-after": "12"}, 0) == 12
    assert retry_after({"retry-after": "Sun, 01 Nov 2026 00:01:00 GMT"}, NOW.timestamp()) == 60
    assert retry_after({"retry-after": "soon"}, 0) is None
    assert retry_after({}, 0) is None
    assert retry_after({"retry-after": "9" * 400}, 0) == LONGEST_RETRY_AFTER
    for nonsense in ("\u00b2", "-5", "Sun, 01 Nov 9999 99:99:99 GMT", "\udc80"):
        assert retry_after({"retry-after": nonsense}, 0) is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        ("64:ff9b::5db8:d70e", True),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        # IPv4 in other clothes: mapped, compatible, 6to4, NAT64.
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("url", ["https://2130706433:1/", "https://0x7f000001:1/", "https://127.1:1/"])
def test_addresses_in_disguise_are_not_called(url: str) -> None:
    async def play() -> None:
        transport = Transport()
        try:
            with pytest.raises(TransportError) as refused:
                await transport.request("GET", url)
        finally:
            await transport.close()
        assert not isinstance(refused.value, TransientError)

    asyncio.run(play())


@pytest.mark.parametrize("url", ["https://a..b/", f"https://{'a' * 70}.example/", "https://example.org:99999/"])
def test_urls_that_no_request_can_be_made_of(url: str) -> None:
    async def play() -> None:
        transport = Transport()
        try:
            with pytest.raises(TransportError):
                await transport.request("GET", url)
        finally:
            await transport.close()

    asyncio.run(play())


def test_nothing_is_kept_from_one_request_to_the_next() -> None:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return web.Response(headers={"Set-Cookie": "person=17"})

    async def play() -> None:
        async with serving(answer) as url:
            transport = Transport(allow_private=True)
            for _ in range(2):
                await transport.request("GET", url.replace("localhost", "127.0.0.1"))
                await transport.request("GET", url)
            await transport.close()

    asyncio.run(play())
    assert [request.headers.get("Cookie") for request in seen] == [None] * 4
    assert {request.headers["Accept-Encoding"] for request in seen} == {"identity"}


def test_a_certificate_of_nobody_known_is_not_talked_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from infra.simulator.recipients import Profile, RecipientSimulator

    async def play(simulator: RecipientSimulator) -> None:
        transport = Transport(allow_private=True)
        with pytest.raises(TransientError) as failed:
            await transport.request("GET", f"{simulator.url}/r/lumen/opendsr/v2/discovery?person=17")
        await transport.close()
        assert "17" not in str(failed.value)

    with caplog.at_level(logging.INFO), RecipientSimulator(tmp_path, {"lumen": "opendsr"}, Profile(), tls=True) as one:
        asyncio.run(play(one))
    assert "person=17" not in caplog.text


def test_a_transport_that_is_let_go_closes_its_connections(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def play() -> None:
        async with serving(answer) as url:
            transport = Transport(allow_private=True)
            await transport.request("GET", url)
            session = transport._session
            assert session is not None
            del transport
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)
            assert session.closed

    asyncio.run(play())
    assert "Unclosed" not in caplog.text
