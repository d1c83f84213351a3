"""Erasure requests over HTTP: the list, one of them with its targets and history, its certificate, and what a person
does about its recipients. They are made elsewhere (docs/erasure-api.md). Names no person.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from audit.api.access import Calling
from audit.api.answers import HEADERS, answer, lines, wants_lines
from audit.api.cursors import Paging, uuid, whole
from audit.api.errors import ApiError
from audit.api.parameters import MOST, USUAL, ConfirmBody, CursorQuery, ExemptBody, LimitQuery, Name, RetryBody
from audit.api.routes import serve
from audit.api.services import Services
from audit.erasure_acts import act, stored_request
from audit.erasures import request_answer
from processors.erasure_acts import confirm, exempt, retry
from sinks.clickhouse.request_pages import requests_page


def requests_router(services: Services) -> APIRouter:
    """Erasure requests."""
    router = APIRouter(tags=["erasure requests"])

    def now() -> int:
        return round(services.clock() * 1000)

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
        return answer(request_answer(stored_request(services, request_id), now()))

    def certificate(request_id: UUID) -> Response:
        """The certificate of a request that has ended: a JWS (Ed25519), as `lineage certificate verify` takes it."""
        found = stored_request(services, request_id)["certificate"]
        if not found:
            raise ApiError("not_found", "this request has no certificate yet: it is made when the request has ended")
        named = {"Content-Disposition": f'attachment; filename="{request_id}.jws"'}
        return Response(found, media_type="application/jose", headers={**HEADERS, **named})

    def again(caller: Calling, request_id: UUID, body: RetryBody) -> Response:
        """Asks a recipient again now, or all that have not done it; the command keeps its idempotency key.

        The answer names whom; the controller takes it within a second or so, and the request's history shows it.
        """
        return answer(act(services, request_id, lambda document: retry(document, body.recipient, caller.name)))

    def confirmed(caller: Calling, request_id: UUID, body: ConfirmBody) -> Response:
        """Takes down that a recipient has confirmed the deletion to a person, e.g. by e-mail: its word, `claimed`."""
        return answer(
            act(
                services,
                request_id,
                lambda document: confirm(document, body.recipient, body.note, body.reference, caller.name),
            )
        )

    def exempted(caller: Calling, request_id: UUID, body: ExemptBody) -> Response:
        """Takes down that a recipient may keep the data, and by which law. The certificate tells it."""
        return answer(
            act(services, request_id, lambda document: exempt(document, body.recipient, body.ground, caller.name))
        )

    serve(router, "requests", requests, lines=True)
    serve(router, "request", request)
    serve(router, "certificate", certificate)
    serve(router, "retry", again)
    serve(router, "confirm", confirmed)
    serve(router, "exempt", exempted)
    return router
