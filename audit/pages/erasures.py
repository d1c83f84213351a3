"""Erasure requests: the queue, one of them with its evidence, its certificate, and what a person does about its
recipients. Names no person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from audit.api.cursors import Paging, uuid, whole
from audit.api.errors import ApiError
from audit.erasure_acts import act, stored_request
from audit.pages.certificates import shown_certificate
from audit.pages.erasure_queue import GRADES, ORIGINS, STATES, TARGET_STATES, by_kind, queue_entry
from audit.pages.forms import Form
from audit.pages.given import CursorField, NameField
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visiting, go, serve_page
from processors.erasure import FINAL
from processors.erasure_acts import Document, Told, confirm, exempt, needs_nobody, retry
from processors.erasure_certificate import verify
from sinks.clickhouse.erasures import erasure_requests
from sinks.clickhouse.request_pages import requests_page

# Not /requests: OpenDSR has that one.
PATH = "/erasures"
_MOST_OPEN = 500
_ON_A_PAGE = 100
_MOST_TEXT = 300


def erasures_router(desk: Desk) -> APIRouter:
    """/erasures, /erasures/{request_id}, its certificate to read and as a file."""
    router = APIRouter()
    services = desk.services

    def now() -> int:
        return round(services.clock() * 1000)

    def requests(
        visit: Visiting,
        state: NameField = None,
        every: Annotated[bool, Query(alias="all")] = False,
        cursor: CursorField = None,
    ) -> Response:
        """The open ones, what needs somebody first; with a state, or `all`, the last received first, page by page."""
        if state not in (None, *STATES):
            raise ApiError("invalid_request", f"a request has one of these states: {', '.join(STATES)}")
        paging = Paging(["erasures", state])
        after = paging.after(cursor, whole, uuid)
        more = None
        is_queue = state is None and not every
        with services.clickhouse.client() as client:
            if is_queue:
                found = erasure_requests(client, open_only=True, limit=_MOST_OPEN)
            else:
                key = None if after is None else (after[0], after[1])
                found = requests_page(client, False, state, key, _ON_A_PAGE + 1)
                if len(found) > _ON_A_PAGE:
                    last = found[_ON_A_PAGE - 1]
                    more = paging.cursor(last["received_at"], last["request_id"])
        moment = now()
        given = {"state": state, "all": "true" if every else None}
        return desk.page(
            visit,
            "erasures.html",
            "Erasure requests",
            queue=[queue_entry(document, moment) for document in found[: _MOST_OPEN if is_queue else _ON_A_PAGE]],
            is_queue=is_queue,
            state=state,
            every=every,
            states=STATES,
            states_shown=[(name, name.replace("_", " ")) for name in STATES],
            most_open=_MOST_OPEN,
            first=f"{PATH}{query(given)}" if cursor else None,
            next=f"{PATH}{query(given, cursor=more)}" if more else None,
        )

    def request(
        visit: Visiting, request_id: UUID, told: Annotated[Literal["retry", "confirm", "exempt"] | None, Query()] = None
    ) -> Response:
        document = stored_request(services, request_id)
        entry = queue_entry(document, now())
        recipients, stores = by_kind(entry["targets"])
        return desk.page(
            visit,
            "erasure.html",
            f"Erasure {request_id}",
            request=entry,
            recipients=recipients,
            stores=stores,
            states=STATES,
            target_states=TARGET_STATES,
            origins=ORIGINS,
            grades=GRADES,
            checked=None if not entry["certificate"] else verify(entry["certificate"], services.certificate_keys()),
            told=told,
            # Of a request that has joined another one, that one is asked.
            acting=entry["is_open"] and not entry["joined"] and visit.may("retry"),
            retried=[one["recipient"] for one in recipients if not needs_nobody(one)],
            confirmed=[one["recipient"] for one in recipients if one["state"] != "completed"],
            exempted=[one["recipient"] for one in recipients if one["state"] not in FINAL],
        )

    def retried(visit: Visiting, request_id: UUID, form: Form) -> Response:
        recipient = form.get("recipient") or None
        return done("retry", request_id, lambda document: retry(document, recipient, visit.caller.name))

    def confirmed(visit: Visiting, request_id: UUID, form: Form) -> Response:
        note, named = text_of(form, "note"), form.get("reference", "").strip()
        try:
            reference = UUID(named) if named else None
        except ValueError:
            raise ApiError("invalid_request", "the reference is like 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11") from None
        recipient = form.get("recipient", "")
        return done(
            "confirm", request_id, lambda document: confirm(document, recipient, note, reference, visit.caller.name)
        )

    def exempted(visit: Visiting, request_id: UUID, form: Form) -> Response:
        ground, recipient = text_of(form, "ground"), form.get("recipient", "")
        return done("exempt", request_id, lambda document: exempt(document, recipient, ground, visit.caller.name))

    def text_of(form: Mapping[str, str], name: str) -> str:
        found = " ".join(form.get(name, "").split())
        if len(found) > _MOST_TEXT or not found.isprintable():
            raise ApiError("invalid_request", f"the {name} has at most {_MOST_TEXT} characters")
        return found

    def done(name: str, request_id: UUID, decide: Callable[[Document], list[Told]]) -> Response:
        return go(f"{PATH}/{act(services, request_id, decide)['request_id']}{query(told=name)}")

    def certificate(visit: Visiting, request_id: UUID) -> Response:
        text = certified(request_id)
        checked = verify(text, services.certificate_keys())
        return desk.page(
            visit,
            "certificate.html",
            f"Certificate of erasure {request_id}",
            request_id=request_id,
            checked=checked,
            shown=shown_certificate(checked.claims),
            origins=ORIGINS,
            grades=GRADES,
        )

    def file(visit: Visiting, request_id: UUID) -> Response:
        named = {"Content-Disposition": f'attachment; filename="{request_id}.jws"'}
        return Response(certified(request_id), media_type="application/jose", headers=named)

    def certified(request_id: UUID) -> str:
        found = str(stored_request(services, request_id)["certificate"])
        if not found:
            raise ApiError("not_found", "this request has no certificate yet: it is made when the request has ended")
        return found

    serve_page(router, PATH, "requests", requests)
    serve_page(router, f"{PATH}/{{request_id}}", "request", request)
    for name, handler in (("retry", retried), ("confirm", confirmed), ("exempt", exempted)):
        serve_page(router, f"{PATH}/{{request_id}}/{name}", name, handler, ["POST"])
    serve_page(router, f"{PATH}/{{request_id}}/certificate", "certificate", certificate)
    serve_page(router, f"{PATH}/{{request_id}}/certificate.jws", "certificate", file)
    return router
