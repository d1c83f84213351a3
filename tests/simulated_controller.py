"""The other side of the recipient simulator in tests: a small controller that asks over loopback and takes callbacks.

It checks signatures and certificates by itself, with `cryptography` alone.
"""

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from infra.simulator.recipients import Profile, RecipientSimulator

EMAIL = {"identity_type": "email", "identity_format": "raw", "identity_value": "wang.fang@example.org"}
FAST = Profile(
    start_s=(0.02, 0.03),
    complete_s=(0.1, 0.15),
    late_s=(0.8, 0.9),
    slow_s=(0.3, 0.4),
    forget_s=(0.04, 0.05),
    callback_retry_s=(0.02, 0.03),
    callback_tries=4,
    huge_mib=4,
)


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test on a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        asyncio.run(test(*args, **named))  # type: ignore[arg-type]

    return run


class Controller:
    """Asks the recipients of a simulator. `callbacks`: raw body and headers of each callback, as they came."""

    def __init__(self, simulator: RecipientSimulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session
        self.callbacks: list[tuple[bytes, dict[str, str]]] = []
        # What the next callbacks are answered; then 202.
        self.refusals: list[int] = []
        self.callback_url = ""

    async def take(self, request: web.Request) -> web.Response:
        if self.refusals:
            return web.Response(status=self.refusals.pop(0))
        self.callbacks.append((await request.read(), dict(request.headers)))
        return web.Response(status=202)

    @property
    def statuses(self) -> list[str]:
        """What callbacks have said, in order."""
        return [json.loads(body)["request_status"] for body, _ in self.callbacks]

    def headers(self, recipient: str) -> dict[str, str]:
        token = self.simulator.secrets.get(f"simulated-{recipient}", "")
        return {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, recipient: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        url = f"{self.simulator.url}/r/{recipient}/{path}"
        headers = self.headers(recipient) | more.pop("headers", {})
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **more) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def request(
        self, recipient: str, key: str | None = None, **changes: Any
    ) -> tuple[int, dict[str, str], bytes]:
        """An OpenDSR erasure."""
        body = {
            "regulation": "gdpr",
            "subject_request_id": key or str(uuid4()),
            "subject_request_type": "erasure",
            "submitted_time": "2026-05-01T10:00:00Z",
            "subject_identities": [EMAIL],
            "status_callback_urls": [self.callback_url],
        }
        return await self.call("POST", recipient, "opendsr/v2/requests", json=body | changes)

    async def status(self, recipient: str, key: str) -> str | int:
        """What OpenDSR's GET says: the status, or the HTTP status that is no 200."""
        code, _, body = await self.call("GET", recipient, f"opendsr/v2/requests/{key}")
        return str(json.loads(body)["request_status"]) if code == 200 else code

    async def certificate(self, recipient: str) -> x509.Certificate:
        """As discovery names it."""
        _, _, body = await self.call("GET", recipient, "opendsr/v2/discovery")
        async with self.session.get(json.loads(body)["processor_certificate"]) as answer:
            return x509.load_pem_x509_certificate(await answer.read())

    def trusts(self, certificate: x509.Certificate, host: str = "localhost") -> bool:
        """Whether the simulator's authority issued it to the host."""
        authority = x509.load_pem_x509_certificate(self.simulator.certification_authority.read_bytes())
        verifier = PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName(host))
        try:
            verifier.verify(certificate, [])
        except VerificationError:
            return False
        return True

    def entry(self, recipient: str, key: str) -> dict[str, Any]:
        """The truth about one command."""
        commands = self.simulator.truth()[recipient]["commands"]
        return next(command for command in commands if command["idempotency_key"] == key)

    def shown(self, recipient: str) -> dict[str, int]:
        shown: dict[str, int] = self.simulator.truth()[recipient]["shown"]
        return shown

    async def until(self, true: Callable[[], bool], seconds: float = 5) -> None:
        """Waits for something to become true; fails the test when it does not."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.01)


def signed_by(certificate: x509.Certificate, headers: dict[str, str], body: bytes) -> bool:
    """Whether the OpenDSR signature of a body is of the certificate's key."""
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    try:
        key.verify(base64.b64decode(headers["X-OpenDSR-Signature"]), body, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


@asynccontextmanager
async def controller(simulator: RecipientSimulator) -> AsyncIterator[Controller]:
    """A controller of a simulator that has been started."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        asking = Controller(simulator, session)
        app = web.Application()
        app.router.add_post("/callbacks/{id}", asking.take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        asking.callback_url = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks/1"
        try:
            yield asking
        finally:
            await runner.cleanup()
