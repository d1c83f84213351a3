"""Erasure requests over HTTP: the list, one of them with its targets and history, and its certificate. Reads only; they
are made and changed elsewhere (docs/erasure-api.md). Names no person.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from audit.api.answers import HEADERS, answer, lines, wants_lines
from audit.api.cursors import Paging, uuid, whole
from audit.api.errors import ApiError
from audit.api.parameters import MOST, USUAL, CursorQuery, LimitQuery, Name
from audit.api.routes import serve
from audit.api.services import Services
from audit.erasures import request_answer
from sinks.clickhouse.erasures import erasure_request
from sinks.clickhouse.request_pages import requests_page


def requests_router(services: Services) -> APIRouter:
    """Erasure requests."""
    router = APIRouter(tags=["erasure requests"])

    def now() -> int:
        return round(services.clock() * 1000)

    def one(request_id: UUID) -> dict[str, Any]:
        with services.clickhouse.client() as client:
            found = erasure_request(client, request_id)
        if found is None:
            raise ApiError("not_found", "no such erasure request is known here; a new one takes some seconds")
        return found

    def requests(
        http: Request,
        state: Annotated[Name | None, Query(description="e.g. awaiting or completed.")] = None,
        open_only: Annotated[bool, Query(alias="open", description="Only those that have not ended.")] = False,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """The last received first, each with its targets, their states and the evidence."""
        paging = Paging(["requests", state, open_only])
        key = paging.after(cursor, whole, uuid)
        every = wants_lines(http)
        after = None if key is None else (key[0], key[1])
        found = []
        with services.clickhouse.client() as client:
            found = requests_page(client, open_only, state, after, 100 * MOST if every else limit + 1)
        if every:
            return lines(request_answer(document, now()) for document in found)
        page = found[:limit]
        more = paging.cursor(page[-1]["received_at"], page[-1]["request_id"]) if len(found) > limit else None
        return answer({"requests": [request_answer(document, now()) for document in page], "next": more})

    def request(request_id: UUID) -> Response:
        """One request: its state, its term, every target with its evidence, and what happened when."""
        return answer(request_answer(one(request_id), now()))

    def certificate(request_id: UUID) -> Response:
        """The certificate of a request that has ended: a JWS (Ed25519), as `lineage certificate verify` takes it."""
        found = one(request_id)["certificate"]
        if not found:
            raise ApiError("not_found", "this request has no certificate yet: it is made when the request has ended")
        named = {"Content-Disposition": f'attachment; filename="{request_id}.jws"'}
        return Response(found, media_type="application/jose", headers={**HEADERS, **named})

    serve(router, "requests", requests, lines=True)
    serve(router, "request", request)
    serve(router, "certificate", certificate)
    return router
