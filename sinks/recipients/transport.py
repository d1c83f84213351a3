"""HTTP to recipients: bounded, without redirects, and never into private networks unless that is allowed.

What fails is sorted once: try again, or never. Nothing here logs a body, a header, a query or an identifier.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

TIMEOUT_SECONDS = 20.0
MOST_BYTES = 1 << 20
# However long a recipient wants to be left alone: erasures have terms.
LONGEST_RETRY_AFTER = 86_400.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST6 = ipaddress.ip_network("2000::/3")


class TransportError(Exception):
    """No usable answer. The text names no query, header or body."""


class TransientError(TransportError):
    """The same request may succeed later; `retry_after`: seconds that the recipient asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedAddressError(TransportError):
    """The URL is not https, or leads into a private network, and neither is allowed."""


@dataclass(frozen=True)
class Reply:
    """An answer as it came. `headers`: names in lower case. `body`: raw, and never shown."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"


class Transport:
    """HTTP to one recipient. `ca`: file with the authorities to trust instead of the system's. One event loop."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        ca: Path | None = None,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._allow_private = allow_private
        self._ca = ca
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __del__(self) -> None:
        """A transport that was replaced while calls were under way ends with the last of them."""
        if self._session is not None and self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._session.close(), self._loop)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """The answer, whatever its status but 429 and 5xx.

        Raises `TransientError` for those and for a recipient that cannot be reached, `RefusedAddressError`,
        `TransportError` for an answer that is too large or leads elsewhere.
        """
        check_url(url, self._allow_private)
        try:
            async with self._open().request(
                method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=("User-Agent",)
            ) as response:
                content = await response.content.read(MOST_BYTES + 1)
                while len(content) <= MOST_BYTES and not response.content.at_eof():
                    content += await response.content.read(MOST_BYTES + 1 - len(content))
        except RefusedAddressError:
            raise
        except TimeoutError:
            raise TransientError(f"no answer within {self._timeout.total:g} s") from None
        except aiohttp.InvalidURL:
            raise TransportError("not a URL that can be called") from None
        except aiohttp.ClientError as error:
            if refused := _refused(error):
                raise refused from None
            raise TransientError(f"cannot be reached: {type(error).__name__}") from None
        except OSError as error:
            raise TransientError(f"cannot be reached: {type(error).__name__}") from None
        except ValueError:
            # A host name or a header that cannot be sent; what is told of it may hold it.
            raise TransportError("not a URL and headers that can be sent") from None
        if len(content) > MOST_BYTES:
            raise TransportError(f"an answer of more than {MOST_BYTES} bytes")
        reply = Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, content)
        if reply.status == 429 or reply.status >= 500:
            raise TransientError(f"HTTP {reply.status}", retry_after(reply.headers, self._clock()))
        if 300 <= reply.status < 400:
            raise TransportError(f"HTTP {reply.status}: it leads elsewhere, which is not followed")
        return reply

    @property
    def allow_private(self) -> bool:
        return self._allow_private

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: Any = ssl.create_default_context(cafile=str(self._ca)) if self._ca else True
            connector = aiohttp.TCPConnector(
                resolver=None if self._allow_private else PublicResolver(), ssl=context, limit=100
            )
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=False,
                # Nothing is kept from one person's request to the next.
                cookie_jar=aiohttp.DummyCookieJar(),
                # Signatures are over the bytes as they come.
                headers={"Accept-Encoding": "identity"},
            )
        return self._session


def _refused(error: BaseException | None) -> RefusedAddressError | None:
    """The refusal behind an error, if there is one: the resolver's errors come wrapped."""
    while error is not None and not isinstance(error, RefusedAddressError):
        error = error.__cause__
    return error


def check_url(url: str, allow_private: bool) -> None:
    """Raises `RefusedAddressError` for a URL that no request may be sent to, whatever its name resolves to."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RefusedAddressError("not an http(s) URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise RefusedAddressError("not an http(s) URL")
    if allow_private:
        return
    if parts.scheme != "https":
        raise RefusedAddressError("not https; allow_private allows it")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not is_public(address):
        raise RefusedAddressError("leads into a private network; allow_private allows it")


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the public Internet, and leads to no other that is not."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if (inner := address.ipv4_mapped or address.sixtofour) is not None:
        return is_public(inner)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and address in _UNICAST6


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only: what is connected to is what was checked, so that a name that resolves
    otherwise the next time does not help."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        public = [one for one in found if is_public(ipaddress.ip_address(str(one[4][0]).partition("%")[0]))]
        if not public:
            raise OSError(None, "leads into a private network") from RefusedAddressError(
                "leads into a private network; allow_private allows it"
            )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=of,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, proto, _, address in public
        ]

    async def close(self) -> None:
        pass


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The header Retry-After in seconds from `now`, a day at most; it holds seconds or a date (RFC 9110, section
    10.2.3)."""
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.isdigit():
            # More digits would be no number any more.
            seconds = float(value[:20])
        else:
            seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def seconds_asked_for(error: Exception) -> float | None:
    """How long the recipient wants to be left alone after a failure, if it has said so."""
    return error.retry_after if isinstance(error, TransientError) else None
