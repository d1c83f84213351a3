"""The recipient simulator: one server, one thread, many recipients that can be told to misbehave.

Loopback only. It holds no identifiers, asks nobody but whom it was given (callback URLs, Kafka), and tells the truth
about itself at `/control/truth`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from aiohttp import web

from infra.simulator.recipients.callbacks import Callbacks
from infra.simulator.recipients.certificates import Certificates
from infra.simulator.recipients.connectors import REQUESTER_SECRET, connectors_document, secret_name, write_connectors
from infra.simulator.recipients.ddrf import DDRFParties
from infra.simulator.recipients.kafka import KafkaRecipients
from infra.simulator.recipients.mix import PROTOCOLS
from infra.simulator.recipients.opendsr import OpenDSRProcessors
from infra.simulator.recipients.profiles import Profile, Profiles, change_of
from infra.simulator.recipients.recipient import Recipient
from infra.simulator.recipients.register import Entry, Register
from infra.simulator.recipients.site import Site
from infra.simulator.recipients.vendor import Vendors
from processors.erasure_commands import Identity
from streams.documents import DocumentError
from streams.kafka import Kafka
from streams.serdes import Registry
from streams.topics import ERASURE_COMMANDS, ERASURE_RECEIPTS

# Protocols that can say no only in the answer to the dispatch itself.
_AT_ONCE = frozenset({"opendsr", "ddrf"})
_LONGEST_BODY = 4 << 20


class RecipientSimulator:
    """`recipients`: id → protocol (one of `PROTOCOLS`; nobody asks `manual` ones: they are only left to people).

    `folder` keeps keys, certificates and the register of commands for a later simulator; None: they end with this one.
    `kafka` is needed when a recipient speaks it. `port` 0: a free one. `host`: the name that callers use, and that
    certificates are issued to. `requester_keys`: URL of the dsrdelete.json of whoever signs DDRF requests with
    another key than the one in `secrets`. `tls`: https, with a certificate of its own authority. `public_url`:
    where the recipients reach the controller, for connectors.yaml. `topics`: of commands and of receipts.
    Thread-safe.
    """

    def __init__(
        self,
        folder: Path | None,
        recipients: Mapping[str, str],
        profiles: Profiles | Profile | None = None,
        seed: int = 0,
        kafka: Kafka | None = None,
        *,
        port: int = 0,
        host: str = "localhost",
        requester_keys: str | None = None,
        public_url: str | None = None,
        tls: bool = False,
        registry: Registry | None = None,
        topics: tuple[str, str] = (ERASURE_COMMANDS, ERASURE_RECEIPTS),
    ) -> None:
        strange = sorted(set(recipients.values()) - set(PROTOCOLS))
        if strange:
            raise ValueError(f"unknown protocol {strange[0]}: there are {', '.join(PROTOCOLS)}")
        speakers = {name for name, protocol in recipients.items() if protocol == "kafka"}
        if speakers and kafka is None:
            raise ValueError(f"{sorted(speakers)[0]} speaks Kafka: give a cluster")
        self._temporary = tempfile.TemporaryDirectory(prefix="recipients-") if folder is None else None
        home = Path(self._temporary.name) if self._temporary else folder
        assert home is not None
        self._protocols = dict(recipients)
        self._register = Register(home)
        self._certificates = Certificates(home / "pki", host)
        given = profiles if isinstance(profiles, Profiles) else Profiles(profiles or Profile())
        self.recipients = {
            name: Recipient(name, protocol, given.of(name), seed, self._register, protocol in _AT_ONCE)
            for name, protocol in recipients.items()
            if protocol != "manual"
        }
        tokens = {
            name: self._register.token(name)
            for name, recipient in self.recipients.items()
            if recipient.protocol in ("opendsr", "http")
        }
        self.secrets = {secret_name(name): token for name, token in tokens.items()}
        if "ddrf" in recipients.values():
            self.secrets[REQUESTER_SECRET] = self._certificates.requester_key().decode()
        self._site = Site(host, self.recipients, self._certificates, tokens)
        self._callbacks = Callbacks(self._site)
        self._ddrf = DDRFParties(self._site, requester_keys)
        self._kafka: KafkaRecipients | None = None
        if speakers and kafka is not None:
            speaking = {name: self.recipients[name] for name in speakers}
            # A folder is one simulator, whenever it runs: it goes on where it stopped.
            group = "recipient-simulator-" + hashlib.sha256(self._register.token("").encode()).hexdigest()[:12]
            self._kafka = KafkaRecipients(kafka, speaking, self._certificates, group, registry, topics)
        for recipient in self.recipients.values():
            recipient.on_change = self._teller(recipient)
        self._public_url = public_url
        self._tls = tls
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Where it listens, `http(s)://HOST:PORT`, once started."""
        return self._site.url

    @property
    def certification_authority(self) -> Path:
        """The certificate (PEM) that the recipients' certificates are issued under."""
        return self._certificates.authority()

    def start(self) -> None:
        """Returns when it answers. Raises what kept it from starting, e.g. `OSError` for a port in use."""
        ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(ready,), name="recipient-simulator", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Ends it; a new simulator on the same folder goes on from there. May be called twice."""
        if self._thread is not None and self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None
        self._register.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def truth(self) -> dict[str, Any]:
        """recipient → `commands`, `shown`: as `GET /control/truth` answers."""
        if self._loop is None or not self._loop.is_running():
            return self._register.truth(self.recipients)

        async def told() -> dict[str, Any]:
            return deepcopy(self._register.truth(self.recipients))

        # On the loop, where nothing changes under it.
        return asyncio.run_coroutine_threadsafe(told(), self._loop).result()

    def change(self, recipient: str, profile: Profile) -> None:
        """Gives a recipient another profile from now on. Raises `KeyError`."""
        self.recipients[recipient].profile = profile

    def hashes(self, identities: Iterable[Identity]) -> list[str]:
        """What the truth calls these identifiers, sorted."""
        return self._register.hashes(identities)

    def connectors_yaml(self) -> str:
        """A connectors.yaml with which a controller reaches these recipients; its secrets are in `secrets`."""
        return connectors_document(self._site, self._protocols, self._public_url)

    def write_connectors(self, path: Path, secrets_folder: Path) -> None:
        """Writes `connectors_yaml` and the secrets that it names, one file each."""
        write_connectors(path, self.connectors_yaml(), secrets_folder, self.secrets)

    def __enter__(self) -> RecipientSimulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _teller(self, recipient: Recipient) -> Callable[[Entry, str], None]:
        def tell(entry: Entry, status: str) -> None:
            if recipient.protocol == "opendsr":
                self._callbacks.tell(recipient, entry, status)
            elif recipient.protocol == "kafka" and self._kafka is not None:
                self._kafka.tell(recipient, entry, status)

        return tell

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=_LONGEST_BODY)
        OpenDSRProcessors(self._site).add_routes(app)
        self._ddrf.add_routes(app)
        Vendors(self._site).add_routes(app)
        app.router.add_route("*", "/r/{recipient}/elsewhere", self._site.elsewhere)
        app.router.add_get("/control/truth", self._tell_truth)
        app.router.add_get("/control/{recipient}", self._show)
        app.router.add_post("/control/{recipient}", self._change)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            context = self._certificates.server() if self._tls else None
            server = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=context)
            await server.start()
            self._port = runner.addresses[0][1]
            self._site.url = f"http{'s' if self._tls else ''}://{self._site.host}:{self._port}"
            await self._callbacks.start()
            if self._kafka is not None:
                await self._kafka.start()
            for recipient in self.recipients.values():
                recipient.resume()
            ready.set()
            await self._stopping.wait()
        finally:
            if self._kafka is not None:
                await self._kafka.stop()
            await self._callbacks.stop()
            await self._ddrf.close()
            await runner.cleanup()

    async def _tell_truth(self, _: web.Request) -> web.Response:
        return web.json_response(self._register.truth(self.recipients))

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._controlled(request).profile.__dict__)

    async def _change(self, request: web.Request) -> web.Response:
        recipient = self._controlled(request)
        try:
            recipient.profile = change_of(await request.text(), recipient.profile)
        except DocumentError as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.json_response(recipient.profile.__dict__)

    def _controlled(self, request: web.Request) -> Recipient:
        try:
            return self.recipients[request.match_info["recipient"]]
        except KeyError:
            raise web.HTTPNotFound(text=f"no such recipient: there are {', '.join(self.recipients)}\n") from None
