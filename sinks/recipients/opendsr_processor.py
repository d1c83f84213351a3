"""Who an OpenDSR 2.0 processor is: what it announces (specification, section 6), and whether it is it who speaks
(sections 4 and 8.8).

Nothing it says is parsed before its signature is verified, but for the announcement, which is not signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from cryptography import x509

from sinks.recipients.opendsr_signatures import SignatureError, certified_name, trusted_certificate, verify
from sinks.recipients.transport import TransientError, Transport, TransportError

DOMAIN, SIGNATURE = "x-opendsr-processor-domain", "x-opendsr-signature"
# How long what it announces and its certificate count without being asked for again.
FRESH_SECONDS = 86_400.0
# How soon a certificate that does not fit a signature may be asked for again, and one that could not be had.
MISFIT_SECONDS, FAILED_SECONDS = 30.0, 1.0


class UnusableError(Exception):
    """An answer that does not say what it must."""


@dataclass(frozen=True)
class Announced:
    """`identities`: (type, format) of what identifies a person there; `certificate`: URL of its certificate."""

    identities: tuple[tuple[str, str], ...]
    certificate: str


class Processor:
    """One processor, for one event loop. `url`: base URL; `domain`: what its certificate must name; `authorities`:
    those to trust, None for the system's; `clock`: seconds since 1970. Raises `ValueError` for what is no domain."""

    def __init__(
        self,
        url: str,
        domain: str,
        transport: Transport,
        headers: Mapping[str, str],
        authorities: Sequence[x509.Certificate] | None,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        certified_name(domain)
        self._domain = domain.lower()
        self._transport = transport
        self._headers = headers
        self._authorities = authorities
        self._clock = clock
        self._announced: tuple[float, Announced] | None = None
        self._certificate: tuple[float, x509.Certificate] | None = None
        self._failure: tuple[float, Exception] | None = None
        # Many commands begin at once: one of them asks for all.
        self._announcing = asyncio.Lock()
        self._certifying = asyncio.Lock()

    async def announced(self) -> Announced:
        """Raises `UnusableError`, `TransportError`."""
        async with self._announcing:
            if self._announced is None or self._clock() - self._announced[0] >= FRESH_SECONDS:
                self._announced = self._clock(), await self._discover()
            return self._announced[1]

    def forget(self) -> None:
        """It has refused what was asked by its announcement: it may have changed."""
        self._announced = None

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises `SignatureError` unless it has signed the raw body, `TransportError` where its certificate cannot be
        had. `headers`: names in lower case."""
        if headers.get(DOMAIN, "").lower() != self._domain:
            raise SignatureError("not said by the processor's domain")
        signature = headers.get(SIGNATURE, "")
        if not signature:
            raise SignatureError("not signed")
        async with self._certifying:
            known = self._valid_certificate()
            if known is not None:
                try:
                    verify(body, signature, known[1])
                    return
                except SignatureError:
                    # Perhaps it has a new certificate; forgers must not make us ask for it all the time.
                    if self._clock() - known[0] < MISFIT_SECONDS:
                        raise
            verify(body, signature, await self.certificate())

    async def certificate(self) -> x509.Certificate:
        """Its certificate as it is now, and trusted. Raises `SignatureError`, `TransportError`."""
        if self._failure is not None and self._clock() - self._failure[0] < FAILED_SECONDS:
            raise self._failure[1]
        try:
            certificate = await self._fetch_certificate()
        except (SignatureError, TransportError) as error:
            self._failure = self._clock(), error
            raise
        self._certificate = self._clock(), certificate
        return certificate

    def _valid_certificate(self) -> tuple[float, x509.Certificate] | None:
        if self._certificate is None:
            return None
        since, certificate = self._certificate
        now = self._clock()
        if now - since >= FRESH_SECONDS or now > certificate.not_valid_after_utc.timestamp():
            return None
        return since, certificate

    async def _fetch_certificate(self) -> x509.Certificate:
        try:
            url = (await self.announced()).certificate
        except UnusableError as error:
            raise SignatureError(str(error)) from None
        # Without the headers of the entry: a certificate is public, credentials are for the API.
        reply = await self._transport.request("GET", url)
        if reply.status != 200:
            self.forget()
            raise TransientError(f"the processor's certificate: HTTP {reply.status}")
        return trusted_certificate(
            reply.body, self._domain, self._authorities, datetime.fromtimestamp(self._clock(), UTC)
        )

    async def _discover(self) -> Announced:
        reply = await self._transport.request("GET", f"{self._url}/discovery", headers=self._headers)
        if reply.status != 200:
            raise UnusableError(f"discovery: HTTP {reply.status}")
        said = json_object(reply.body)
        try:
            identities = tuple((one["identity_type"], one["identity_format"]) for one in said["supported_identities"])
            kinds = list(said["supported_subject_request_types"])
            certificate = said["processor_certificate"]
            host = urlsplit(certificate).hostname
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UnusableError("discovery: not what the specification says") from None
        if not all(isinstance(word, str) for one in identities for word in one):
            raise UnusableError("discovery: not what the specification says")
        if "erasure" not in kinds:
            raise UnusableError("the processor does not take erasures")
        if host != self._domain:
            raise UnusableError("its certificate is not kept on its own domain")
        return Announced(identities, certificate)


def json_object(body: bytes) -> dict[str, Any]:
    """Raises `UnusableError`."""
    try:
        said = orjson.loads(body)
    except ValueError:
        raise UnusableError("an answer that is not JSON") from None
    if not isinstance(said, dict):
        raise UnusableError("an answer that is no JSON object")
    return said
