"""Erasure requests: the queue, one of them with its evidence, and its certificate. Names no person."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from audit.api.cursors import Paging, uuid, whole
from audit.api.errors import ApiError
from audit.pages.certificates import shown_certificate
from audit.pages.erasure_queue import GRADES, ORIGINS, STATES, TARGET_STATES, by_kind, queue_entry
from audit.pages.given import CursorField, NameField
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visiting, serve_page
from processors.erasure_certificate import verify
from sinks.clickhouse.erasures import erasure_request, erasure_requests
from sinks.clickhouse.request_pages import requests_page

# Not /requests: OpenDSR has that one.
PATH = "/erasures"
_MOST_OPEN = 500
_ON_A_PAGE = 100


def erasures_router(desk: Desk) -> APIRouter:
    """/erasures, /erasures/{request_id}, its certificate to read and as a file."""
    router = APIRouter()
    services = desk.services

    def now() -> int:
        return round(services.clock() * 1000)

    def one(request_id: UUID) -> dict[str, Any]:
        with services.clickhouse.client() as client:
            found = erasure_request(client, request_id)
        if found is None:
            raise ApiError("not_found", "no such erasure request is known here; a new one takes some seconds")
        return found

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

    def request(visit: Visiting, request_id: UUID) -> Response:
        document = one(request_id)
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
        )

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
        found = str(one(request_id)["certificate"])
        if not found:
            raise ApiError("not_found", "this request has no certificate yet: it is made when the request has ended")
        return found

    serve_page(router, PATH, "requests", requests)
    serve_page(router, f"{PATH}/{{request_id}}", "request", request)
    serve_page(router, f"{PATH}/{{request_id}}/certificate", "certificate", certificate)
    serve_page(router, f"{PATH}/{{request_id}}/certificate.jws", "certificate", file)
    return router
