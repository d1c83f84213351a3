"""Where recipients call back when we are their OpenDSR controller: who it is, is verified before anything is read.

What a callback claims counts only for the one command that its URL and its id name, and becomes a receipt; the
controller judges it. Nothing is taken from it that Kafka has not.
"""

import logging
from collections.abc import Callable
from urllib.parse import quote
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from processors.erasure_commands import Answer, Grade, idempotency_key
from sinks.recipients.connector import CallbackRefused, Connector
from streams.erasure_intake import ErasureIntake, IntakeError
from streams.opendsr.routes import BodyTimeout, read_body

log = logging.getLogger(__name__)

CALLBACK_PATH = "/opendsr/callbacks"
# A target is opened again by every disclosure that comes late; its rounds are few.
_MOST_ROUNDS = 1000
# What a receipt can say; what has no word there is said by the nearest.
_ANSWERS = {"dispatched": "acknowledged", "unsupported": "failed"}


def callback_url(public_url: str, request_id: UUID, target: str) -> str:
    """Where a recipient tells what became of a command: `public_url` leads to this API."""
    return f"{public_url.rstrip('/')}{CALLBACK_PATH}/{request_id}/{quote(target, safe='')}"


def callbacks_router(
    receiver_of: Callable[[str], Connector | None],
    intake: ErasureIntake,
    public_url: Callable[[], str],
    count: Callable[[str], None],
) -> APIRouter:
    """The endpoint of callbacks. `receiver_of`: recipient id → its connector, None where it does not call back.

    `count` is told what became of each: accepted, refused, unknown or unavailable.
    """
    router = APIRouter()

    async def callback(request: Request, request_id: str, target: str) -> Response:
        found = _uuid(request_id)
        receiver = receiver_of(target)
        if found is None or receiver is None:
            outcome, response = "unknown", _said(404, "no such command")
        else:
            outcome, response = await _receive(request, found, target, receiver)
        count(outcome)
        return response

    async def _receive(request: Request, request_id: UUID, target: str, receiver: Connector) -> tuple[str, Response]:
        try:
            body = await read_body(request)
            url = callback_url(public_url(), request_id, target)
            key, answer = await receiver.callback(request.headers, body, url)
        except BodyTimeout:
            return "refused", _said(408, "the body did not arrive in time")
        except CallbackRefused as refused:
            log.warning("callback of %s refused: %s", target, refused.reason)
            return "refused", _said(refused.status, refused.reason)
        if not _is_of(key, request_id, target):
            log.warning("callback of %s for another command than its URL names", target)
            return "unknown", _said(404, "no such command")
        if answer.outcome == "retry":
            return "refused", _said(400, "a status that OpenDSR does not know")
        try:
            await run_in_threadpool(_tell, intake, request_id, target, key, answer)
        except IntakeError as error:
            log.warning("callback of %s not taken: %s", target, error)
            return "unavailable", _said(503, "not possible just now: send it again")
        return "accepted", Response(status_code=202)

    router.add_api_route(f"{CALLBACK_PATH}/{{request_id}}/{{target:path}}", callback, methods=["POST"])
    return router


def _tell(intake: ErasureIntake, request_id: UUID, target: str, key: UUID, answer: Answer) -> None:
    intake.receipt(
        request_id,
        target,
        _ANSWERS.get(answer.outcome, answer.outcome),
        grade=Grade(answer.grade),
        detail=answer.detail,
        ground=answer.ground,
        evidence=answer.evidence,
        source="opendsr",
        idempotency_key=key,
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _is_of(key: UUID, request_id: UUID, target: str) -> bool:
    """Whether the id is that of a command to this target for this request, of any round."""
    return any(key == idempotency_key(request_id, target, round_) for round_ in range(_MOST_ROUNDS))


def _said(status: int, message: str) -> Response:
    body = orjson.dumps({"error": {"code": status, "message": message}})
    return Response(body, status, media_type="application/json")
