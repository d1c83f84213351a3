"""OpenDSR as a controller, against processors that do what they should not, or what the specification leaves open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web
from cryptography import x509

from infra.simulator.recipients.certificates import Certificates
from processors.erasure_commands import Answer, Grade
from sinks.recipients.connector import CallbackRefused, DiscoveryError
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import sign
from sinks.recipients.transport import Transport
from tests.unit.recipient_server import COMMAND, EMAIL, HOST, KEY, serving


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"), HOST)


@pytest.fixture(scope="module")
def authorities(pki: Certificates) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pki.authority().read_bytes())


class Rough:
    """A processor whose answers a test decides; all are signed. `says`: (method, path) → status and body."""

    def __init__(self, pki: Certificates) -> None:
        self._pki = pki
        self.signer = "lumen"
        self.paths: list[str] = []
        self.says: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.identities = [("email", "raw")]
        self.certificate_url = ""
        self.certificate_status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v2")
        self.paths.append(path)
        base = f"{request.scheme}://{request.host}/v2"
        if path == "/cert.pem":
            return web.Response(body=self._pki.certificate(self.signer), status=self.certificate_status)
        if path == "/discovery":
            return web.json_response(
                {
                    "api_version": "2.0",
                    "supported_identities": [{"identity_type": t, "identity_format": f} for t, f in self.identities],
                    "supported_subject_request_types": ["erasure"],
                    "processor_certificate": self.certificate_url or f"{base}/cert.pem",
                }
            )
        status, body = self.says[request.method, path]
        signature = sign(self._pki.signing_key(self.signer), body)
        headers = {"X-OpenDSR-Processor-Domain": HOST, "X-OpenDSR-Signature": signature}
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")


STATUS = f"/requests/{KEY}"


def status_body(status: str, **more: object) -> bytes:
    said = {"controller_id": "us", "subject_request_id": str(KEY), "request_status": status} | more
    return json.dumps(said).encode()


def playing(
    pki: Certificates,
    authorities: list[x509.Certificate],
    play: Callable[[Rough, OpenDsrConnector], Awaitable[None]],
    clock: Callable[[], float] = time.time,
) -> None:
    async def run() -> None:
        processor = Rough(pki)
        async with serving(processor.answer) as url:
            transport = Transport(allow_private=True)
            connector = OpenDsrConnector(f"{url}/v2", HOST, transport, authorities=authorities, clock=clock)
            await play(processor, connector)
            await connector.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "outcome", "grade"),
    [
        ("pending", "acknowledged", Grade.acknowledged),
        ("in_progress", "acknowledged", Grade.acknowledged),
        ("completed", "completed", Grade.signed),
        ("cancelled", "failed", Grade.none),
        ("done", "retry", Grade.none),
    ],
)
def test_what_a_signed_status_means(
    status: str, outcome: str, grade: Grade, pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.says["GET", STATUS] = 200, status_body(status)
        answer = await connector.check(COMMAND, "")
        assert (answer.outcome, answer.grade) == (outcome, grade)

    playing(pki, authorities, play)


@pytest.mark.parametrize("how", ["unsigned", "wrongly signed", "of another request", "no JSON"])
def test_a_completion_that_is_not_its_own_counts_for_nothing(
    how: str, pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        processor = Rough(pki)
        processor.says["GET", STATUS] = 200, status_body("completed")
        if how == "of another request":
            processor.says["GET", STATUS] = 200, status_body("completed", subject_request_id=str(COMMAND.request_id))
        elif how == "no JSON":
            processor.says["GET", STATUS] = 200, b"completed"
        response = await processor.answer(request)
        if request.path.endswith(STATUS) and how == "unsigned":
            del response.headers["X-OpenDSR-Signature"]
        elif request.path.endswith(STATUS) and how == "wrongly signed":
            response.headers["X-OpenDSR-Signature"] = sign(pki.signing_key("other"), status_body("completed"))
        return response

    async def play() -> Answer:
        async with serving(answer) as url:
            transport = Transport(allow_private=True)
            connector = OpenDsrConnector(f"{url}/v2", HOST, transport, authorities=authorities)
            said = await connector.check(COMMAND, "")
            await connector.close()
            return said

    said = asyncio.run(play())
    assert (said.outcome, said.grade) == ("retry", Grade.none)


def test_a_refused_repetition_is_looked_up(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.says["POST", "/requests"] = 400, b'{"error": {"code": 400, "message": "duplicate"}}'
        processor.says["GET", STATUS] = 200, status_body("in_progress")
        assert (await connector.dispatch(COMMAND)).outcome == "acknowledged"
        processor.says["GET", STATUS] = 404, b"{}"
        refused = await connector.dispatch(COMMAND)
        assert (refused.outcome, refused.detail) == ("failed", "refused: HTTP 400")

    playing(pki, authorities, play)


def test_what_it_refuses_by_an_old_announcement_is_asked_again(
    pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    phone = {"identity_type": "phone", "identity_format": "raw", "identity_value": "1"}
    command = replace(COMMAND, identities=(EMAIL, phone))

    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        accepted = json.dumps({"subject_request_id": str(KEY)}).encode()
        processor.says["POST", "/requests"] = 202, accepted
        assert (await connector.dispatch(command)).outcome == "acknowledged"
        processor.identities = [("phone", "raw")]
        processor.says["POST", "/requests"] = 422, b"{}"
        assert (await connector.dispatch(command)).outcome == "retry"
        assert (await connector.dispatch(command)).outcome == "failed"
        assert processor.paths.count("/discovery") == 3

    playing(pki, authorities, play)


def test_a_forger_cannot_make_us_ask_all_the_time(pki: Certificates, authorities: list[x509.Certificate]) -> None:
    body, now = status_body("completed", status_callback_url="https://us.example/cb"), [time.time()]

    async def tell(connector: OpenDsrConnector, signer: str) -> int:
        headers = {"X-OpenDSR-Processor-Domain": HOST, "X-OpenDSR-Signature": sign(pki.signing_key(signer), body)}
        try:
            key, _ = await connector.callback(headers, body, "https://us.example/cb")
        except CallbackRefused as refused:
            return refused.status
        return 202 if key == KEY else 0

    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.certificate_status = 404
        for _ in range(5):
            assert await tell(connector, "forger") == 503
        assert processor.paths.count("/cert.pem") == 1
        processor.certificate_status = 200
        now[0] += 2
        assert await asyncio.gather(*(tell(connector, "forger") for _ in range(5))) == [403] * 5
        assert await tell(connector, "lumen") == 202
        assert processor.paths.count("/cert.pem") == 2
        # A new certificate counts as soon as it may be asked for.
        processor.signer = "newer"
        assert await tell(connector, "newer") == 403
        now[0] += 31
        assert await tell(connector, "newer") == 202
        assert await tell(connector, "lumen") == 403

    playing(pki, authorities, play, lambda: now[0])


def test_a_certificate_that_has_expired_proves_nothing_any_more(
    pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    now = [time.time()]

    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.says["GET", STATUS] = 200, status_body("completed")
        assert (await connector.check(COMMAND, "")).outcome == "completed"
        now[0] += 4000 * 86_400
        late = await connector.check(COMMAND, "")
        assert late.outcome == "retry"
        assert "not to be trusted" in late.detail

    playing(pki, authorities, play, lambda: now[0])


@pytest.mark.parametrize(
    "certificate", ["https://[broken/cert.pem", "https://elsewhere.example/cert.pem", "cert.pem", "https:"]
)
def test_a_certificate_kept_elsewhere_is_not_fetched(
    certificate: str, pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.certificate_url = certificate
        assert (await connector.dispatch(COMMAND)).outcome == "retry"
        with pytest.raises(DiscoveryError):
            await connector.discover()

    playing(pki, authorities, play)


@pytest.mark.parametrize(
    ("expected", "least", "most"),
    [
        ("{now}", 30, 30),
        ("2000-01-01T00:00:00", 86_400, 86_400),
        ("9999-12-31T23:59:59-23:59", 86_400, 86_400),
        ("0001-01-01T00:00:00+23:59", 3600, 86_400),
        ("soon", 3600, 3600),
        (17, 3600, 3600),
    ],
)
def test_when_it_is_asked_next(
    expected: object, least: float, most: float, pki: Certificates, authorities: list[x509.Certificate]
) -> None:
    at = datetime.now(UTC).isoformat() if expected == "{now}" else expected

    async def play(processor: Rough, connector: OpenDsrConnector) -> None:
        processor.says["GET", STATUS] = 200, status_body("pending", expected_completion_time=at)
        answer = await connector.check(replace(COMMAND, callback_url="https://us.example/cb"), "")
        assert answer.check_after is not None
        assert least <= answer.check_after <= most

    playing(pki, authorities, play)
