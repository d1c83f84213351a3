"""Whatever a recipient says, a connector answers: it never raises, never claims success, never quotes identifiers."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.simulator.recipients.certificates import Certificates
from processors.erasure_commands import Answer, Command
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.ddrf import DdrfConnector
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import sign
from sinks.recipients.transport import Transport
from tests.unit.recipient_server import COMMAND, HOST, serving

WORDS = st.sampled_from(
    [
        *("subject_request_id", "request_status", "completed", "expected_completion_time", "supported_identities"),
        *("identity_type", "identity_format", "email", "raw", "processor_certificate", "endpoint", "identifiers"),
        *("supported_subject_request_types", "erasure", "publicKey", "kty", "type", "format", "acJWT", "e30.e30.e30"),
        *("https://[x", "http://localhost:1/", str(COMMAND.idempotency_key), "status_callback_url", "John", ""),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(
    LEAVES, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(WORDS, inside, max_size=6), max_leaves=12
)
BODIES = VALUES.map(orjson.dumps) | st.binary(max_size=40)
STATUSES = st.sampled_from([200, 201, 202, 204, 302, 400, 401, 404, 409, 418, 429, 500, 503])
WAITS = st.sampled_from(["", "5", "9" * 400, "\u00b2", "Fri, 31 Dec 9999 23:59:59 -9999", "-1"])
OFTEN = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


def judge(answer: Answer) -> None:
    assert answer.outcome in ("retry", "failed", "unsupported", "acknowledged")
    assert answer.outcome != "acknowledged" or answer.check_after is None or 5 <= answer.check_after <= 86_400
    assert answer.retry_after is None or 0 <= answer.retry_after <= 86_400
    assert "Example.org" not in repr(answer)


@OFTEN
@given(status=STATUSES, body=BODIES, wait=WAITS, discovery=st.none() | BODIES, signed=st.booleans())
def test_an_opendsr_processor(
    status: int, body: bytes, wait: str, discovery: bytes | None, signed: bool, pki: Certificates
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/cert.pem":
            return web.Response(body=pki.certificate("lumen"))
        if request.path == "/discovery":
            said: dict[str, Any] = {
                "supported_identities": [{"identity_type": "email", "identity_format": "raw"}],
                "supported_subject_request_types": ["erasure"],
                "processor_certificate": f"http://{request.host}/cert.pem",
            }
            return web.Response(body=orjson.dumps(said) if discovery is None else discovery)
        signature = sign(pki.signing_key("lumen" if signed else "other"), body)
        headers = {"X-OpenDSR-Processor-Domain": HOST, "X-OpenDSR-Signature": signature, "Retry-After": wait}
        return web.Response(status=status, body=body, headers=headers)

    async def play() -> None:
        authorities = x509.load_pem_x509_certificates(pki.authority().read_bytes())
        async with serving(answer) as url:
            connector = OpenDsrConnector(url, HOST, Transport(allow_private=True), authorities=authorities)
            judge(await connector.dispatch(COMMAND))
            judge(await connector.check(COMMAND, "whatever"))
            headers = {"X-OpenDSR-Processor-Domain": HOST}
            for signer in ("lumen", "other"):
                headers["x-opendsr-signature"] = sign(pki.signing_key(signer), body)
                with pytest.raises(CallbackRefused):
                    await connector.callback(headers, body, "https://us.example/cb")
            await connector.close()

    asyncio.run(play())


@OFTEN
@given(status=STATUSES, body=BODIES, wait=WAITS, resource=st.none() | BODIES)
def test_a_ddrf_party(status: int, body: bytes, wait: str, resource: bytes | None, pki: Certificates) -> None:
    key = pki.signing_key("us").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/dsrdelete.json":
            said: dict[str, Any] = {
                "endpoint": f"http://{request.host}/delete",
                "identifiers": [{"type": "email", "format": "raw"}],
                "publicKey": [],
            }
            return web.Response(body=orjson.dumps(said) if resource is None else resource)
        return web.Response(status=status, body=body, headers={"Retry-After": wait})

    async def play(command: Command) -> None:
        async with serving(answer) as url:
            transport = Transport(allow_private=True)
            connector = DdrfConnector(f"{url}/dsrdelete.json", transport, issuer="us.example", private_key=key.decode())
            said = await connector.dispatch(command)
            judge(said)
            assert said.outcome != "acknowledged", "nothing was signed"
            await connector.close()

    asyncio.run(play(COMMAND))
