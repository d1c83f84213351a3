"""OpenDSR over HTTP, as a processor: who calls, what is answered, and how errors are told. The rest: processor.py.

The base path has the specification's major version (section 3.4); the paths of its examples are served as well.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from processors.api_clients import ApiClient, AuthenticationUnavailable, Forbidden, Unauthorized
from sinks.clickhouse.errors import ClickHouseError
from streams.erasure_intake import IntakeError
from streams.opendsr import answers
from streams.opendsr.answers import NOT_STORED, Told
from streams.opendsr.processor import OpenDsrProcessor, UnknownRequest
from streams.opendsr.requests import BadRequest, Problem
from streams.opendsr.signing import Signer

log = logging.getLogger(__name__)

BASE_PATHS = ("/opendsr/2.0", "")
CERTIFICATE_PATH = "/opendsr/cert.pem"
ROLE = "eraser"
_BODY_SECONDS = 20.0
_RETRY_SECONDS = "5"

# The value of the header Authorization → who it is; may wait. Raises `Unauthorized`, `Forbidden`,
# `AuthenticationUnavailable`.
Authenticate = Callable[[str | None], ApiClient]


class BodyTimeout(Exception):
    """A client that does not send its body is not waited for."""


def opendsr_router(processor: OpenDsrProcessor, authenticate: Authenticate, signer: Signer) -> APIRouter:
    """The endpoints of a processor: discovery, requests (post, get, delete), and the certificate."""
    router = APIRouter()

    async def answered(request: Request, work: Callable[[ApiClient, bytes], Told]) -> Response:
        try:
            client = await run_in_threadpool(authenticate, request.headers.get("authorization"))
            client.require(ROLE)
            body = await read_body(request)
            told = await run_in_threadpool(work, client, body)
            # RSA takes its time: not on the loop.
            signed = await run_in_threadpool(signer.headers, told.body)
        except Exception as error:
            return _refused(error)
        return _response(told, signed)

    async def discovery(request: Request) -> Response:
        # On the domain by which discovery was called (section 6.3).
        return _response(answers.discovery(str(request.url.replace(path=CERTIFICATE_PATH, query=""))), {})

    async def certificate(_: Request) -> Response:
        return Response(signer.certificate, media_type="application/x-pem-file")

    async def create(request: Request) -> Response:
        return await answered(request, processor.create)

    async def status(request: Request, request_id: str) -> Response:
        return await answered(request, lambda client, _: processor.status(client, request_id))

    async def cancel(request: Request, request_id: str) -> Response:
        return await answered(request, lambda client, _: processor.cancel(client, request_id))

    for base in BASE_PATHS:
        router.add_api_route(f"{base}/discovery", discovery, methods=["GET"])
        router.add_api_route(f"{base}/requests", create, methods=["POST"])
        router.add_api_route(f"{base}/requests/{{request_id}}", status, methods=["GET"])
        router.add_api_route(f"{base}/requests/{{request_id}}", cancel, methods=["DELETE"])
    router.add_api_route(CERTIFICATE_PATH, certificate, methods=["GET"])
    return router


async def read_body(request: Request) -> bytes:
    """The raw body; its size is limited by the server. Raises `BodyTimeout`."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.body()
    except (TimeoutError, ClientDisconnect):
        raise BodyTimeout from None


def _response(told: Told, headers: dict[str, str]) -> Response:
    return Response(told.body, told.status, {**NOT_STORED, **headers}, media_type="application/json")


def _refused(error: Exception) -> Response:
    """An error as OpenDSR tells it (section 7.6)."""
    headers: dict[str, str] = {}
    if isinstance(error, BadRequest):
        told = answers.failed(400, error.problems, "Validation")
    elif isinstance(error, Unauthorized):
        told = answers.failed(401, [Problem("unauthorized", str(error))], "Authentication")
        headers = {"WWW-Authenticate": "Bearer"}
    elif isinstance(error, Forbidden):
        told = answers.failed(403, [Problem("forbidden", str(error))], "Authentication")
    elif isinstance(error, UnknownRequest):
        told = answers.failed(404, [Problem("unknown", "there is no such request of yours")], "Requests")
    elif isinstance(error, BodyTimeout):
        told = answers.failed(408, [Problem("timeout", "the body did not arrive in time")], "Requests")
    elif isinstance(error, AuthenticationUnavailable):
        told = answers.failed(503, [Problem("unavailable", str(error))], "Availability")
        headers = {"Retry-After": _RETRY_SECONDS}
    elif isinstance(error, IntakeError | ClickHouseError):
        log.warning("OpenDSR: not now: %s", error)
        told = answers.failed(503, [Problem("unavailable", "not possible just now: send it again")], "Availability")
        headers = {"Retry-After": _RETRY_SECONDS}
    else:
        # Not its text: it may quote what the client sent.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("OpenDSR: %s\n%s", type(error).__name__, where)
        told = answers.failed(500, [Problem("internal", "something went wrong here: see the log")], "Internal")
    return _response(told, headers)
