"""OpenDSR as a controller, against a processor that plays the specification's own examples."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509

from infra.simulator.recipients.certificates import Certificates
from processors.erasure_commands import Answer, Grade
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import sign
from sinks.recipients.transport import Transport
from tests.unit.recipient_server import COMMAND, EMAIL, HOST, KEY, serving

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "opendsr" / "spec-2.0-examples.ndjson"
needs_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published examples are not beside the project")


def published(heading: str) -> dict[str, Any]:
    """One of the specification's own examples."""
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = next(e for line in lines if heading in (e := json.loads(line))["heading"])
    return found


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


@pytest.fixture(scope="module")
def authorities(pki: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pki.authority().read_bytes())


class Processor:
    """Plays the published answers; `signer` signs them anew, as the published signatures are dummies."""

    def __init__(self, pki: Certificates, signer: str | None) -> None:
        self._pki = pki
        self._signer = signer
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        base = f"{request.scheme}://{request.host}"
        path = request.path.removeprefix("/v2")
        self.paths.append(path)
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
