"""What we say as an OpenDSR processor: bodies, errors and signed headers, all in one place.

Pure but for the signature. A body tells no identifier, but for `encoded_request`, which the specification wants back
to the sender of the request itself.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from processors.erasure import Callback, Request, opendsr_status
from streams.documents import format_instant
from streams.opendsr.requests import API_VERSION, SUPPORTED_TYPES, USER_ID, Problem

DOMAIN_HEADER = "X-OpenDSR-Processor-Domain"
SIGNATURE_HEADER = "X-OpenDSR-Signature"
# Section 7.7; an answer may hold what the client sent.
NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True)
class Told:
    """An answer: HTTP status and body."""

    status: int
    body: bytes


def discovery(certificate_url: str) -> Told:
    """Section 6.3. Only the identity by which a person is found; what may be given along is not promised."""
    kind, form = USER_ID
    return _told(
        200,
        {
            "api_version": API_VERSION,
            "supported_identities": [{"identity_type": kind, "identity_format": form}],
            "supported_subject_request_types": list(SUPPORTED_TYPES),
            "processor_certificate": certificate_url,
        },
    )


def created(request_id: UUID, controller_id: str, received_at: int, expected_at: int, body: bytes) -> Told:
    """Section 7.3. Times in ms since 1970 UTC; `body`: the request's own, raw."""
    return _told(
        201,
        {
            "controller_id": controller_id,
            "expected_completion_time": format_instant(expected_at),
            "received_time": format_instant(received_at),
            "encoded_request": base64.b64encode(body).decode("ascii"),
            "subject_request_id": str(request_id),
        },
    )


def status(
    request_id: UUID, controller_id: str, expected_at: int, request_status: str, extensions: Mapping[str, Any]
) -> Told:
    """Section 8.3. `extensions`: domain → what OpenDSR has no word for."""
    return _told(
        200,
        {
            "controller_id": controller_id,
            "expected_completion_time": format_instant(expected_at),
            "subject_request_id": str(request_id),
            "request_status": request_status,
            "api_version": API_VERSION,
            "extensions": extensions,
        },
    )


def cancelled(request_id: UUID, controller_id: str, received_at: int) -> Told:
    """Section 9.2. The cancellation was received; whether it came in time, the status tells."""
    return _told(
        202,
        {
            "controller_id": controller_id,
            "subject_request_id": str(request_id),
            "received_time": format_instant(received_at),
            "api_version": API_VERSION,
        },
    )


def failed(code: int, problems: Sequence[Problem], domain: str) -> Told:
    """Sections 7.5 and 7.6. `domain`: what kind of problem, e.g. Validation."""
    errors = [
        {"domain": domain, "reason": problem.reason, "message": f"{problem.message.rstrip('.')}."}
        for problem in problems
    ]
    return _told(code, {"error": {"code": code, "message": problems[0].message, "errors": errors}})


def callback_body(
    request: Request, callback: Callback, *, expected_at: int, domain: str, controller_id: str = ""
) -> bytes:
    """The body of a status callback (section 8.6), of the status that the request has now.

    `expected_at`: ms, the end of the term. `domain`: ours. `controller_id`: the client that gave the URL, if it is not
    the request's own. Of a request that joined another, the callback keeps the id that its client knows.
    """
    return orjson.dumps(
        {
            "controller_id": controller_id or request.requester,
            "expected_completion_time": format_instant(expected_at),
            "status_callback_url": callback.url,
            "subject_request_id": str(callback.request_id or request.request_id),
            "request_status": opendsr_status(request.state),
            "extensions": {domain: detail(request)},
        }
    )


def detail(request: Request) -> dict[str, Any]:
    """What OpenDSR's four statuses cannot say: our own state, on which ground, and how each target stands."""
    said: dict[str, Any] = {"state": request.state}
    for name in ("ground", "hold"):
        if getattr(request, name):
            said[name] = getattr(request, name)
    if request.targets:
        said["targets"] = [
            {"target": target.id, "state": target.state, "grade": target.grade}
            | ({"ground": target.ground} if target.ground else {})
            for target in request.targets
        ]
    return said


def _told(code: int, body: Mapping[str, Any]) -> Told:
    return Told(code, orjson.dumps(body))
