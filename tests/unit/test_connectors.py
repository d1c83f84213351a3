"""Connectors against real servers on loopback: what is believed, what is refused, what is never called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from infra.simulator.recipients.certificates import Certificates
from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.configuration import ConfigurationError, KafkaTarget, ManualTask, load_connectors
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.guarded import Guarded, Limits
from sinks.recipients.identifiers import known_there
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import SignatureError, sign, trusted_certificate, verify
from sinks.recipients.transport import (
    RefusedAddressError,
    TransientError,
    Transport,
    TransportError,
    check_url,
    retry_after,
)

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "opendsr" / "spec-2.0-examples.ndjson"
needs_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published examples are not beside the project")
KEY = UUID("a7551968-d5d6-44b2-9831-815ac9017798")
EMAIL = {"identity_type": "email", "identity_format": "raw", "identity_value": " John@Example.org "}
COMMAND = Command(UUID(int=1), "lumen", KEY, 1, 1_538_492_400_000, 1_541_084_400_000, identities=(EMAIL,))
NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOST = "localhost"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on loopback; its URL."""
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


def published(heading: str) -> dict[str, Any]:
    """One of the specification's own examples."""
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = next(e for line in lines if heading in (e := json.loads(line))["heading"])
    return found


# Signatures and certificates


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


@pytest.fixture(scope="module")
def authorities(pki: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pki.authority().read_bytes())


def test_a_signature_holds_for_its_body_only(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    signature = sign(pki.signing_key("lumen"), b"body")
    certificate = trusted_certificate(pki.certificate("lumen"), HOST, authorities, datetime.now(UTC))
    verify(b"body", signature, certificate)
    for body, given in ((b"bodY", signature), (b"body", sign(pki.signing_key("other"), b"body")), (b"body", "#")):
        with pytest.raises(SignatureError):
            verify(body, given, certificate)


@pytest.mark.parametrize("which", ["self_signed", "wrong_domain", "expired", "other_authority", "no_certificate"])
def test_certificates_that_prove_nothing(
    which: str, pki: Certificates, authorities: list[x509.Certificate], tmp_path: Path
) -> None:
    at, domain, trusted = datetime.now(UTC), HOST, authorities
    pem = pki.certificate("lumen")
    match which:
        case "self_signed":
            pem = pki.self_signed("lumen")
        case "wrong_domain":
            domain = "other.example"
        case "expired":
            at += timedelta(days=4000)
        case "other_authority":
            trusted = x509.load_pem_x509_certificates(Certificates(tmp_path, HOST).authority().read_bytes())
        case _:
            pem = b"-----BEGIN NOTHING-----"
    with pytest.raises(SignatureError):
        trusted_certificate(pem, domain, trusted, at)


# OpenDSR, by the specification's own examples


class Processor:
    """Plays the published answers; `signer` signs them anew, as the published signatures are dummies."""

    def __init__(self, pki: Certificates, signer: str | None) -> None:
        self._pki = pki
        self._signer = signer
        self.asked: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        base = f"{request.scheme}://{request.host}"
        path = request.path.removeprefix("/v2")
        if path == "/cert.pem":
            return web.Response(body=self._pki.certificate("lumen"))
        if path == "/discovery":
            body = published("6.4.")["body"] | {"processor_certificate": f"{base}/v2/cert.pem"}
            return web.json_response(body)
        if request.method == "POST":
            self.asked.append(await request.json())
            return self._signed(201, published("7.4.")["body_raw"])
        return self._signed(200, published("8.4.")["body_raw"])

    def _signed(self, status: int, body: str) -> web.Response:
        raw = body.encode()
        signature = "ki" * 342 if self._signer is None else sign(self._pki.signing_key(self._signer), raw)
        headers = {"X-OpenDSR-Processor-Domain": HOST, "X-OpenDSR-Signature": signature}
        return web.Response(status=status, body=raw, headers=headers, content_type="application/json")


def opendsr(url: str, authorities: list[x509.Certificate]) -> OpenDsrConnector:
    return OpenDsrConnector(f"{url}/v2", HOST, Transport(allow_private=True), authorities=authorities)


@needs_published
def test_the_published_answers_signed_by_whom_they_say(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    async def play() -> None:
        processor = Processor(pki, "lumen")
        async with serving(processor.answer) as url:
            connector = opendsr(url, authorities)
            accepted = await connector.dispatch(COMMAND)
            asked = await connector.check(COMMAND, accepted.reference)
            await connector.close()
        assert (accepted.outcome, accepted.grade, accepted.reference) == ("acknowledged", Grade.acknowledged, str(KEY))
        assert len(accepted.evidence) == 64
        status = published("8.4.")["body"]["request_status"]
        assert (asked.outcome == "completed") == (status == "completed")
        [request] = processor.asked
        assert request["subject_request_id"] == str(KEY)
        assert request["regulation"] == "gdpr"
        assert request["submitted_time"] == "2018-10-02T15:00:00Z"
        # Its discovery supports e-mail addresses raw and hashed: raw says more.
        assert request["subject_identities"] == [EMAIL]

    asyncio.run(play())


@needs_published
@pytest.mark.parametrize("signer", [None, "other"])
def test_the_published_dummies_are_not_believed(
    signer: str | None, pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    async def play() -> None:
        async with serving(Processor(pki, signer).answer) as url:
            connector = opendsr(url, authorities)
            accepted = await connector.dispatch(COMMAND)
            asked = await connector.check(COMMAND, "")
            await connector.close()
        assert (accepted.outcome, asked.outcome) == ("retry", "retry")
        assert "signature" in accepted.detail

    asyncio.run(play())


@needs_published
def test_the_published_callback_counts_only_signed_and_where_it_belongs(
    pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    example = published("8.7.")
    body: bytes = example["body_raw"].encode()
    told_at = example["body"]["status_callback_url"]

    def headers(signature: str, domain: str = HOST) -> Mapping[str, str]:
        return {"X-OpenDSR-Processor-Domain": domain, "X-OpenDSR-Signature": signature}

    async def play() -> None:
        async with serving(Processor(pki, "lumen").answer) as url:
            connector = opendsr(url, authorities)
            right = sign(pki.signing_key("lumen"), body)
            key, answer = await connector.callback(headers(right), body, told_at)
            assert key == KEY
            assert isinstance(answer, Answer)
            for given, sent, where in (
                (headers("ki" * 342), body, told_at),
                (headers(sign(pki.signing_key("other"), body)), body, told_at),
                (headers(right, "elsewhere.example"), body, told_at),
                (headers(right), body + b" ", told_at),
                (headers(right), body, told_at + "/another"),
            ):
                with pytest.raises(CallbackRefused) as refused:
                    await connector.callback(given, sent, where)
                assert refused.value.status == 403
            junk = b"[1]"
            with pytest.raises(CallbackRefused) as refused:
                await connector.callback(headers(sign(pki.signing_key("lumen"), junk)), junk, told_at)
            assert refused.value.status == 400
            await connector.close()

    asyncio.run(play())


def test_a_person_whom_the_recipient_cannot_know_is_not_sent(
    pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.method == "GET", "nothing may be sent"
        return web.json_response(
            {
                "supported_identities": [{"identity_type": "android_id", "identity_format": "raw"}],
                "supported_subject_request_types": ["erasure"],
                "processor_certificate": f"http://{HOST}/cert.pem",
            }
        )

    async def play() -> Answer:
        async with serving(answer) as url:
            connector = opendsr(url, authorities)
            said = await connector.dispatch(COMMAND)
            await connector.close()
            return said

    said = asyncio.run(play())
    assert said.outcome == "unsupported"
    assert "android_id" in said.detail
    assert "Example" not in said.detail


def test_identifiers_are_hashed_as_they_are_wanted() -> None:
    wanted = known_there([EMAIL], [("email", "sha256"), ("email", "md5")])
    assert [one["identity_value"] for one in wanted] == [
        "b5fb79bc07fa24049f99f456f8f530af1cb9a13db14c4b02c83be7c1f0ceb968"
    ]
    assert wanted == known_there([EMAIL | {"identity_value": "john@example.org"}], [("email", "sha256")])
    hashed = {"identity_type": "email", "identity_format": "sha1", "identity_value": "0" * 40}
    assert known_there([hashed], [("email", "raw"), ("email", "sha256")]) == []
    assert "John" not in repr(COMMAND)


# Transport


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


# Limits


class Scripted:
    """A connector that says what it is told to, and when it was called."""

    protocol = "http"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.says = Answer("retry")
        self.called: list[float] = []
        self._clock = clock

    async def dispatch(self, command: Command) -> Answer:
        self.called.append(self._clock())
        return self.says

    async def check(self, command: Command, reference: str) -> Answer:
        return await self.dispatch(command)

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "none")

    async def close(self) -> None: ...


def test_the_breaker_opens_tries_once_and_closes() -> None:
    async def play() -> None:
        time = [0.0]
        inner = Scripted(lambda: time[0])
        guarded = Guarded(inner, Limits(failures=3, open_seconds=10), clock=lambda: time[0], draw=lambda: 0.5)
        for _ in range(3):
            await guarded.dispatch(COMMAND)
        barred = await guarded.dispatch(COMMAND)
        assert (len(inner.called), barred.outcome, barred.retry_after) == (3, "retry", 10)
        time[0] = 10.0
        await guarded.dispatch(COMMAND)
        assert len(inner.called) == 4, "one call tries whether it goes again"
        assert (await guarded.dispatch(COMMAND)).retry_after == 20, "longer each time"
        time[0] = 30.0
        inner.says = Answer("acknowledged", Grade.acknowledged)
        await guarded.dispatch(COMMAND)
        await guarded.check(COMMAND, "")
        assert len(inner.called) == 6

    asyncio.run(play())


def test_so_many_calls_a_second() -> None:
    async def play() -> None:
        time = [0.0]

        async def sleep(seconds: float) -> None:
            time[0] += seconds

        inner = Scripted(lambda: time[0])
        inner.says = Answer("acknowledged", Grade.acknowledged)
        guarded = Guarded(inner, Limits(per_second=4), clock=lambda: time[0], sleep=sleep)
        for _ in range(5):
            await guarded.dispatch(COMMAND)
        assert inner.called == [0.0, 0.25, 0.5, 0.75, 1.0]

    asyncio.run(play())


# connectors.yaml


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("recipients: {lumen: {protocol: opendsr, url: 'https://x.example'}}", "recipients.lumen"),
        ("recipients: {lumen: {protocol: carrier-pigeon}}", "carrier-pigeon"),
        ("recipients: {lumen: {protocol: manual, contct: a@b}}", "contct"),
        ("recipients: {lumen: {protocol: kafka, public_key: none.pem}}", "recipients.lumen"),
        ("recipients: {lumen: {protocol: ddrf, url: 'https://x.example/dsrdelete.json'}}", "key"),
        ("nonsense: 1", "nonsense"),
        ("recipients: [", "not YAML"),
    ],
)
def test_what_is_wrong_in_connectors_yaml_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "connectors.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        load_connectors(path, lambda name: name)


def test_connectors_yaml(tmp_path: Path, pki: Certificates) -> None:
    (tmp_path / "glacier.pem").write_bytes(b"-----")
    (tmp_path / "ca.pem").write_bytes(pki.authority().read_bytes())
    path = tmp_path / "connectors.yaml"
    path.write_text(
        """
public_url: https://erasure.example.org
recipients:
  lumen: {protocol: opendsr, url: https://o.example/v2, domain: o.example, ca: ca.pem, headers: {A: "B ${secret:t}"}}
  crash: {protocol: ddrf, url: https://c.example/dsrdelete.json, key: ddrf}
  glacier: {protocol: kafka, public_key: glacier.pem}
  agency: {protocol: manual, contact: a@agency.example, expire_days: 3}
"""
    )
    rsa = pki.signing_key("x").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    asked: list[str] = []

    def secret(name: str) -> str:
        asked.append(name)
        return rsa.decode() if name == "ddrf" else "token"

    connectors = load_connectors(path, secret)
    assert asked == ["t", "ddrf"]
    assert connectors.public_url == "https://erasure.example.org"
    assert not connectors.allow_private
    assert connectors.of("glacier") == KafkaTarget(b"-----")
    assert connectors.of("agency") == ManualTask("a@agency.example", expire_days=3)
    assert [way.protocol for way in connectors.recipients.values()] == ["opendsr", "ddrf", "kafka", "manual"]
    assert connectors.of("nobody") is None
    assert load_connectors(None, secret).recipients == {}
