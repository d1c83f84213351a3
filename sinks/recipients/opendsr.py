"""OpenDSR 2.0 towards a recipient: we are the controller, it is the processor (sections of its specification.md).

What a processor says counts by its signature over the raw bytes, by a certificate that an authority issued for its
domain. Unsigned or wrongly signed words are never taken for anything but a reason to ask again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from cryptography import x509

from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.connector import CallbackRefused, DiscoveryError
from sinks.recipients.identifiers import kinds_of, known_there, unknown_there
from sinks.recipients.opendsr_processor import DOMAIN, Processor, UnusableError, json_object
from sinks.recipients.opendsr_signatures import SignatureError
from sinks.recipients.transport import Reply, Transport, TransportError, seconds_asked_for

API_VERSION = "2.0"
REGULATIONS = ("gdpr", "ccpa")
# How soon it is asked how it stands: a tenth of what it expects to take, within these bounds.
SOONEST_CHECK, LATEST_CHECK = 5.0, 86_400.0
# Where it tells by itself, it is asked only in case that got lost.
SOONEST_WITH_CALLBACK = 30.0


class OpenDsrConnector:
    """One processor. `url`: base URL with the major version; `domain`: what its certificate must name; `authorities`:
    those to trust, None for the system's; `regulation`: instead of the request's own. Raises `ValueError` for what
    is no domain."""

    protocol = "opendsr"

    def __init__(
        self,
        url: str,
        domain: str,
        transport: Transport,
        *,
        headers: Mapping[str, str] | None = None,
        authorities: Sequence[x509.Certificate] | None = None,
        regulation: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._domain = domain.lower()
        self._transport = transport
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._regulation = regulation
        self._clock = clock
        self._processor = Processor(self._url, domain, transport, self._headers, authorities, clock)

    async def dispatch(self, command: Command) -> Answer:
        """Section 7. A processor that knows the id already is asked how it stands instead."""
        try:
            supported = (await self._processor.announced()).identities
            identities = known_there(command.identities, supported)
            if not identities:
                return unknown_there(supported)
            reply = await self._transport.request(
                "POST",
                f"{self._url}/requests",
                headers={**self._headers, "Content-Type": "application/json"},
                body=orjson.dumps(self._request(command, identities)),
            )
            if 200 <= reply.status < 300:
                # 201, says the specification; what counts is the signature.
                return await self._accepted(command, reply)
            if reply.status in (400, 409) and (known := await self._asked(command)) is not None:
                # It refuses a repetition: the first one may have come through.
                return known
            self._processor.forget()
            if known_there(command.identities, (await self._processor.announced()).identities) != identities:
                return Answer("retry", detail="refused; what identifies a person there has changed since it was asked")
            return _refused(reply)
        except (TransportError, SignatureError, UnusableError) as error:
            return _again(error)

    async def check(self, command: Command, reference: str) -> Answer:
        """Section 8."""
        try:
            answer = await self._asked(command)
        except (TransportError, SignatureError, UnusableError) as error:
            return _again(error)
        # It has forgotten: the same command, under the same id.
        return await self.dispatch(command) if answer is None else answer

    async def discover(self) -> str:
        """What it announces, in words, when its certificate is one to trust. Raises `DiscoveryError`."""
        try:
            announced = await self._processor.announced()
            certificate = await self._processor.certificate()
        except (TransportError, SignatureError, UnusableError) as error:
            raise DiscoveryError(str(error)) from None
        return f"knows people by {kinds_of(announced.identities)}; certified until {certificate.not_valid_after_utc:%F}"

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        """Sections 8.6 to 8.8."""
        given = {name.lower(): value for name, value in headers.items()}
        if given.get(DOMAIN, "").lower() != self._domain:
            raise CallbackRefused(403, "another processor's domain")
        try:
            await self._processor.verify(given, body)
        except SignatureError as error:
            raise CallbackRefused(403, str(error)) from None
        except TransportError:
            raise CallbackRefused(503, "the processor's certificate cannot be had just now") from None
        try:
            said = json_object(body)
            key = UUID(said["subject_request_id"])
            url = said["status_callback_url"]
        except (UnusableError, KeyError, ValueError, TypeError, AttributeError):
            raise CallbackRefused(400, "not a status callback") from None
        if url != callback_url:
            raise CallbackRefused(403, "its status_callback_url is not where it was sent")
        return key, self._status(said, body)

    async def close(self) -> None:
        await self._transport.close()

    def _request(self, command: Command, identities: list[dict[str, str]]) -> dict[str, Any]:
        regulation = self._regulation or command.regulation
        request: dict[str, Any] = {
            # The specification knows two; PIPL's erasure (article 47) is nearest to the GDPR's.
            "regulation": regulation if regulation in REGULATIONS else "gdpr",
            "subject_request_id": str(command.idempotency_key),
            "subject_request_type": "erasure",
            "submitted_time": _time(command.submitted_at),
            "subject_identities": identities,
            "api_version": API_VERSION,
        }
        if command.callback_url:
            request["status_callback_urls"] = [command.callback_url]
        return request

    async def _accepted(self, command: Command, reply: Reply) -> Answer:
        """Section 7.4. What is echoed of the request (`encoded_request`) is neither kept nor shown."""
        await self._processor.verify(reply.headers, reply.body)
        said = json_object(reply.body)
        if said.get("subject_request_id") != str(command.idempotency_key):
            raise UnusableError("its acceptance is of another request")
        return Answer(
            "acknowledged",
            Grade.acknowledged,
            detail="accepted, signed",
            reference=str(command.idempotency_key),
            evidence=hashlib.sha256(reply.body).hexdigest(),
            check_after=self._check_after(said, command),
        )

    async def _asked(self, command: Command) -> Answer | None:
        """How the command stands there; None: it is not known there."""
        url = f"{self._url}/requests/{command.idempotency_key}"
        reply = await self._transport.request("GET", url, headers=self._headers)
        if reply.status == 404:
            return None
        if reply.status != 200:
            return _refused(reply) if reply.status in (401, 403) else None
        await self._processor.verify(reply.headers, reply.body)
        said = json_object(reply.body)
        if said.get("subject_request_id") != str(command.idempotency_key):
            raise UnusableError("its status is of another request")
        return self._status(said, reply.body, command)

    def _status(self, said: Mapping[str, Any], body: bytes, command: Command | None = None) -> Answer:
        """What a verified status means (section 8.3)."""
        evidence = hashlib.sha256(body).hexdigest()
        status = said.get("request_status")
        reference = str(said.get("subject_request_id", ""))
        if status == "completed":
            return Answer("completed", Grade.signed, "completed, signed", reference=reference, evidence=evidence)
        if status in ("pending", "in_progress"):
            after = self._check_after(said, command)
            return Answer("acknowledged", Grade.acknowledged, status, "", reference, evidence, check_after=after)
        if status == "cancelled":
            # We never cancel what has been dispatched, so it was not done.
            ground = "the processor says that the request was cancelled"
            return Answer("failed", detail="cancelled, signed", ground=ground, evidence=evidence)
        return Answer("retry", detail="a status that OpenDSR does not know")

    def _check_after(self, said: Mapping[str, Any], command: Command | None) -> float:
        soonest = SOONEST_CHECK if command is not None and command.callback_url is None else SOONEST_WITH_CALLBACK
        try:
            expected = datetime.fromisoformat(said["expected_completion_time"])
            left = (expected if expected.tzinfo else expected.replace(tzinfo=UTC)).timestamp() - self._clock()
        except (KeyError, ValueError, TypeError, OverflowError):
            return 3600.0
        # The longer it is overdue, the seldomer it is asked as well.
        return min(max(abs(left) / 10, soonest), LATEST_CHECK)


def _refused(reply: Reply) -> Answer:
    """Section 7.6. The text of the error may quote what was sent, so only its code is told."""
    evidence = hashlib.sha256(reply.body).hexdigest()
    if reply.status in (401, 403, 404, 408):
        # Mended on one side or the other; until then it is asked again.
        return Answer("retry", detail=f"HTTP {reply.status}", evidence=evidence)
    return Answer("failed", detail=f"refused: HTTP {reply.status}", evidence=evidence)


def _again(error: Exception) -> Answer:
    return Answer("retry", detail=str(error), retry_after=seconds_asked_for(error))


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
