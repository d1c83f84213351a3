"""The API's app: what its routers need is made here from the settings, and closed when the server ends."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import APIRouter, FastAPI, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount

from audit.api.app import PATH, audit_app
from audit.api.errors import ApiError, Unavailable
from audit.api.services import Services
from audit.exports.background import Operator
from audit.pages.app import pages_app, pages_desk
from audit.pages.sessions import IDLE_SECONDS, MOST_SESSIONS, WHOLE_SECONDS
from infra.api.authentication import ClientsFile
from infra.api.kept import Kept, kept_publications
from infra.api.limits import BodyLimit
from infra.api.metrics import CONTENT_TYPE, ApiMetrics
from infra.oidc.authentication import Authenticate, OidcTokens, authenticate_either
from infra.oidc.configuration import OidcSettings, SignInSettings, load_oidc
from infra.oidc.http import check_url
from infra.oidc.pages import CALLBACK, oidc_router, oidc_way
from infra.oidc.provider import Provider
from infra.oidc.sign_ins import SCHEME, SignIns
from infra.operator import FILE, operator_of
from infra.settings import Settings, SettingsError
from processors.api_clients import ApiClient
from processors.erasure_acts import Told
from processors.erasure_certificate import load_verifying_key
from processors.pseudonyms import alias
from sinks.clickhouse.client import execute
from sinks.clickhouse.errors import ClickHouseError
from sinks.clickhouse.pool import ClickHousePool
from sinks.recipients.configuration import Connectors, KafkaTarget, ManualTask
from sinks.recipients.connector import Connector
from streams.dead_letter_reader import count_dead_letters
from streams.documents import DocumentError
from streams.erasure_intake import ErasureIntake, IntakeError
from streams.erasure_routes import Routes
from streams.opendsr.callbacks import callbacks_router
from streams.opendsr.processor import OpenDsrProcessor, ProcessorSettings
from streams.opendsr.requests import REGULATIONS
from streams.opendsr.routes import opendsr_router
from streams.opendsr.signing import Signer

_CONNECTIONS = 8


def build_app(settings: Settings, connectors: Callable[[], Connectors], local_url: str) -> FastAPI:
    """The app of all routers. `local_url`: where it listens; recipients' callbacks come there when the connectors name
    no public URL.

    Opens no connection yet. Raises `SettingsError`, `SignerError`, `OidcError`.
    """
    if settings.opendsr_regulation and settings.opendsr_regulation not in REGULATIONS:
        raise SettingsError(f"LINEAGE_OPENDSR_REGULATION must be one of: {', '.join(REGULATIONS)}")
    clickhouse = ClickHousePool(settings.clickhouse(), _CONNECTIONS)
    intake = ErasureIntake(settings.kafka(log_level=4), settings.registry())
    authenticate: Authenticate = ClientsFile(settings.api_clients()).authenticate
    oidc = load_oidc(settings.oidc_file(), settings.named_secret)
    provider = None if oidc is None else Provider(oidc)
    if oidc is not None and provider is not None:
        authenticate = authenticate_either(authenticate, OidcTokens(provider, oidc.trust))
    metrics = ApiMetrics(clickhouse)
    processor = OpenDsrProcessor(
        ProcessorSettings(
            settings.opendsr_domain,
            settings.pepper(),
            settings.controller_public_key(),
            settings.opendsr_regulation,
            connectors().allow_private,
        ),
        intake,
        clickhouse,
    )
    signer = Signer(settings.opendsr_domain, settings.opendsr_certificate(), settings.opendsr_key())

    def receiver_of(recipient: str) -> Connector | None:
        found = connectors().of(recipient)
        if found is None or isinstance(found, KafkaTarget | ManualTask) or found.protocol != "opendsr":
            return None
        return found

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await connectors().close()
        await run_in_threadpool(intake.close)
        clickhouse.close()

    # No pages of its own: they would load scripts from elsewhere.
    app = FastAPI(title="lineage", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(BodyLimit)
    app.include_router(opendsr_router(processor, authenticate, signer))
    app.include_router(
        callbacks_router(receiver_of, intake, lambda: connectors().public_url or local_url, metrics.count_callback)
    )
    app.include_router(_operation_router(intake, clickhouse, metrics))
    services = _audit_services(settings, clickhouse, authenticate, connectors, intake)
    app.router.routes.append(_below(PATH, audit_app(services)))
    # Last: it takes whatever is left.
    if oidc is None or provider is None or oidc.sign_in is None:
        app.router.routes.append(_below("/", pages_app(pages_desk(services))))
    else:
        public_url = _public_url(settings, connectors().public_url or local_url)
        pages = _pages_with_sign_in(services, oidc, oidc.sign_in, provider, public_url)
        app.router.routes.append(_below("/", pages))
    return app


def _pages_with_sign_in(
    services: Services, oidc: OidcSettings, sign_in: SignInSettings, provider: Provider, public_url: str
) -> FastAPI:
    """The pages, where people can sign in at the identity provider too."""
    sign_ins = SignIns(provider, oidc.trust, sign_in, public_url + CALLBACK, IDLE_SECONDS, WHOLE_SECONDS, MOST_SESSIONS)

    def authenticate(held: str | None) -> ApiClient:
        return sign_ins.authenticate(held) if held and held.startswith(SCHEME) else services.authenticate(held)

    desk = pages_desk(replace(services, authenticate=authenticate))
    ways = [oidc_way(sign_in.name, sign_ins, public_url, desk)]
    return pages_app(desk, ways, [oidc_router(desk, sign_ins, ways, public_url)])


def _public_url(settings: Settings, otherwise: str) -> str:
    """Where browsers reach the pages, and the identity provider sends them back to. Raises `SettingsError`."""
    url = (settings.public_url or otherwise).rstrip("/")
    try:
        check_url(url)
        if urlsplit(url).path or urlsplit(url).query:
            raise ValueError("pages are served at the root of a host")
    except ValueError as error:
        raise SettingsError(
            f"signing in by oidc.yaml needs the URL at which browsers reach the pages: set LINEAGE_PUBLIC_URL, e.g. "
            f"https://lineage.example.com ({url}: {error})"
        ) from None
    return url


def _audit_services(
    settings: Settings,
    clickhouse: ClickHousePool,
    authenticate: Authenticate,
    connectors: Callable[[], Connectors],
    intake: ErasureIntake,
) -> Services:
    kafka, registry, pepper = settings.kafka(), settings.registry(), settings.pepper()
    publications = kept_publications(kafka, registry)
    routes = Routes(connectors, lambda: publications.current().knowledge, time.time, registry)

    def protocol_of(recipient: str) -> str | None:
        found = routes.route(recipient)
        return None if found.exempt else found.protocol

    def tell(request_id: UUID, told: Sequence[Told]) -> None:
        try:
            for one in told:
                intake.receipt(request_id, **one._asdict())
        except IntakeError as error:
            raise Unavailable(str(error)) from None

    return Services(
        clickhouse,
        authenticate,
        lambda user: alias(pepper, user),
        publications.current,
        lambda: _operator(settings),
        Kept("dead letters", lambda: count_dead_letters(kafka)).current,
        time.time,
        settings.api_rate,
        # A page may ask for several things at once.
        max(1, round(4 * settings.api_rate)),
        protocol_of,
        lambda: _certificate_keys(settings),
        tell,
    )


def _certificate_keys(settings: Settings) -> list[Ed25519PublicKey] | None:
    """The key that certificates are signed with here; None where it is not known: then only whether it fits is told."""
    try:
        return [load_verifying_key(settings.certificate_public_key())]
    except (SettingsError, ValueError):
        return None


def _operator(settings: Settings) -> Operator:
    try:
        return operator_of(settings.data)
    except (DocumentError, OSError) as error:
        what = "; ".join(str(error).splitlines())
        # Coming again will not help before somebody has seen to it.
        raise ApiError("unavailable", f"who runs the app cannot be read from {FILE}: {what}") from None


def _below(path: str, app: FastAPI) -> Mount:
    """An app that takes every path below this one: a line break in a path ends the framework's own pattern, and nobody
    would answer as documented."""
    mount = Mount(path, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


def _operation_router(intake: ErasureIntake, clickhouse: ClickHousePool, metrics: ApiMetrics) -> APIRouter:
    """What those who run the API ask: whether it lives, whether it can work, and its metrics."""
    router = APIRouter()

    # Not `async`: these wait for others, on threads of their own.
    def healthz() -> Response:
        return _json(200, {"alive": True})

    def readyz() -> Response:
        missing = []
        try:
            with clickhouse.client() as client:
                execute(client, "SELECT 1")
        except ClickHouseError:
            missing.append("clickhouse")
        try:
            intake.check()
        except IntakeError:
            missing.append("kafka")
        return _json(503 if missing else 200, {"ready": not missing, "missing": missing})

    def exposition() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    router.add_api_route("/healthz", healthz, methods=["GET"])
    router.add_api_route("/readyz", readyz, methods=["GET"])
    router.add_api_route("/metrics", exposition, methods=["GET"])
    return router


def _json(status: int, body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
