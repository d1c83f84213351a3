"""Simulated OpenDSR 2.0 processors (github.com/opengdpr/OpenDSR, specification.md): discovery, requests, status,
cancellation, signed answers, and callbacks that are sent until they are taken.

Beside the misbehaviours of the profile it goes by the letter. It has no word for a refusal but HTTP 400, as the
specification has none.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from infra.simulator.recipients.recipient import Recipient, now_ms
from infra.simulator.recipients.register import Entry
from infra.simulator.recipients.site import Sign, Site, hang_up, reply
from sinks.recipients.opendsr_signatures import sign
from streams.identities import IDENTITY_FORMATS

PATH = "/r/{recipient}/opendsr/v2"
CONTROLLER = "simulated-controller"
_TERM = timedelta(days=30)


class _BadRequestError(Exception):
    """The request breaks the specification; the text says where."""


class OpenDSRProcessors:
    """The routes of every OpenDSR recipient of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(PATH + "/discovery", self._discovery)
        app.router.add_get(PATH + "/certificate.pem", self._certificate)
        app.router.add_post(PATH + "/requests", self._request)
        app.router.add_get(PATH + "/requests/{id}", self._status)
        app.router.add_delete(PATH + "/requests/{id}", self._cancel)

    async def _discovery(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "opendsr")
        about = ("discovery", recipient.turn("discovery", ""))
        error = recipient.error(*about)
        if error:
            return self._site.failed(recipient, error)
        found = {
            "api_version": "2.0",
            "supported_identities": [
                {"identity_type": kind, "identity_format": form}
                for kind in recipient.profile.identities
                for form in IDENTITY_FORMATS
            ],
            "supported_subject_request_types": ["erasure"],
            "processor_certificate": f"{self._site.home(recipient.name)}/opendsr/v2/certificate.pem",
        }
        return await reply(request, recipient, about, 200, found)

    async def _certificate(self, request: web.Request) -> web.StreamResponse:
        # Public: whoever gets a callback must be able to check it.
        recipient = self._site.recipients.get(request.match_info["recipient"])
        if recipient is None or recipient.protocol != "opendsr":
            raise web.HTTPNotFound(text="no such recipient here")
        turn = recipient.turn("certificate", "")
        certificates = self._site.certificates
        if recipient.shows("self_signed", turn):
            pem = certificates.self_signed(recipient.name)
        elif recipient.shows("wrong_domain", turn):
            pem = certificates.wrong_domain(recipient.name)
        else:
            pem = certificates.certificate(recipient.name)
        return web.Response(body=pem, content_type="application/x-pem-file")

    async def _request(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "opendsr")
        raw = await request.read()
        try:
            body = _checked(raw, recipient.profile.regulations)
        except _BadRequestError as error:
            recipient.note("bad_request")
            return await self._refusal(request, recipient, ("bad", recipient.turn("bad", "")), str(error), "invalid")
        key = body["subject_request_id"]
        asked = recipient.ask(key, body["subject_identities"], body.get("status_callback_urls") or ())
        if asked.drop:
            return hang_up(request)
        about = ("request", key, asked.turn)
        if asked.outcome in ("refused", "exempt", "unsupported"):
            words = asked.entry.ground or "none of these identities is supported"
            return await self._refusal(request, recipient, about, words, asked.outcome)
        if not asked.taken:
            return self._site.failed(recipient, asked.outcome)
        answer = {
            "controller_id": CONTROLLER,
            "expected_completion_time": _expected(asked.entry),
            "received_time": _rfc3339(asked.entry.accepted_at or now_ms()),
            "encoded_request": base64.b64encode(raw).decode(),
            "subject_request_id": key,
        }
        return await reply(request, recipient, about, 201, answer, self._signer(recipient, *about))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "opendsr")
        key = request.match_info["id"]
        about = ("status", key, recipient.turn("status", key))
        error = recipient.error(*about)
        if error:
            return self._site.failed(recipient, error)
        entry = recipient.state_of(key)
        if entry is None:
            return await self._refusal(request, recipient, about, "no such request", "notFound", 404)
        return await reply(request, recipient, about, 200, status_of(entry), self._signer(recipient, *about))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "opendsr")
        key = request.match_info["id"]
        about = ("cancel", key, recipient.turn("cancel", key))
        if recipient.state_of(key) is None:
            return await self._refusal(request, recipient, about, "no such request", "notFound", 404)
        if not recipient.cancel(key):
            return await self._refusal(request, recipient, about, "it is not pending any more", "notPending")
        answer = {
            "controller_id": CONTROLLER,
            "received_time": _rfc3339(now_ms()),
            "subject_request_id": key,
            "api_version": "2.0",
        }
        return await reply(request, recipient, about, 202, answer, self._signer(recipient, *about))

    async def _refusal(
        self,
        request: web.Request,
        recipient: Recipient,
        about: tuple[object, ...],
        message: str,
        reason: str,
        status: int = 400,
    ) -> web.StreamResponse:
        detail = {"domain": "simulator", "reason": reason, "message": message}
        error = {"error": {"code": status, "message": message, "errors": [detail]}}
        return await reply(request, recipient, about, status, error, self._signer(recipient, *about))

    def _signer(self, recipient: Recipient, *about: object) -> Sign:
        return lambda body: signed_headers(self._site, recipient, body, *about)


def status_of(entry: Entry) -> dict[str, Any]:
    """What answers and callbacks say of a command."""
    return {
        "controller_id": CONTROLLER,
        "expected_completion_time": _expected(entry),
        "subject_request_id": entry.key,
        "request_status": entry.state,
        "api_version": "2.0",
    }


def signed_headers(site: Site, recipient: Recipient, body: bytes, *about: object) -> Mapping[str, str]:
    """Domain and signature of a body; the signature is of another body where the profile says so."""
    if recipient.shows("bad_signature", *about):
        body += b" "
    signature = sign(site.certificates.signing_key(recipient.name), body)
    return {"X-OpenDSR-Processor-Domain": site.host, "X-OpenDSR-Signature": signature}


def _checked(raw: bytes, regulations: tuple[str, ...]) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except ValueError:
        raise _BadRequestError("the body is no JSON") from None
    if not isinstance(body, dict):
        raise _BadRequestError("the body is no JSON object")
    for name in ("regulation", "subject_request_id", "subject_request_type", "submitted_time", "subject_identities"):
        if name not in body:
            raise _BadRequestError(f"{name} field is required")
    if body["regulation"] not in regulations:
        raise _BadRequestError(f"regulation must be one of {', '.join(regulations)}")
    if body["subject_request_type"] != "erasure":
        raise _BadRequestError("only erasure is supported")
    try:
        key = UUID(body["subject_request_id"])
        datetime.fromisoformat(body["submitted_time"])
    except (ValueError, TypeError, AttributeError):
        raise _BadRequestError("subject_request_id or submitted_time is malformed") from None
    if key.version != 4 or str(key) != body["subject_request_id"]:
        raise _BadRequestError("subject_request_id must be a UUID of version 4 in lowercase")
    identities = body["subject_identities"]
    keys = {"identity_type", "identity_format", "identity_value"}
    if not isinstance(identities, list) or not identities:
        raise _BadRequestError("subject_identities must be a list that is not empty")
    if not all(
        isinstance(i, dict) and keys <= i.keys() and i["identity_format"] in IDENTITY_FORMATS for i in identities
    ):
        raise _BadRequestError("an identity needs identity_type, identity_format and identity_value")
    return body


def _expected(entry: Entry) -> str:
    due = entry.due or entry.completed_at
    return _rfc3339(due if due else now_ms() + _TERM // timedelta(milliseconds=1))


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
