"""Incidents over HTTP: whom a breach at a recipient affected. A look at many people at once, and recorded as such."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from audit.api.access import Calling
from audit.api.answers import answer, entries_of, lines, wants_lines
from audit.api.cursors import Paging, uuid
from audit.api.errors import ApiError
from audit.api.parameters import IncidentBody, iso, ms
from audit.api.registry import Registry
from audit.api.routes import serve
from audit.api.services import Services
from audit.incident import affected_person, incident_summary
from sinks.clickhouse.incident_pages import affected_page, reach

_CHUNK = 20_000


def incidents_router(services: Services) -> APIRouter:
    """The incident report."""
    router = APIRouter(tags=["incidents"])

    def incident(caller: Calling, request: Request, body: IncidentBody) -> Response:
        """Whom a breach at this recipient affected: everybody whose data it had got before the end, directly or through
        others. `summary` comes with the first page; `people` are in the order of their subjects.
        """
        reason = caller.reason(body.reason)
        since, until = ms(body.since) or 0, ms(body.until) or 0
        if since >= until:
            raise ApiError("invalid_request", "body.to: must be later than body.from")
        paging = Paging(["incident", body.recipient, since, until])
        key = paging.after(body.cursor, uuid)
        entry = Registry(services.published()).newest(body.recipient)

        def page(after: UUID | None, limit: int) -> tuple[list[dict[str, Any]], UUID | None]:
            with services.clickhouse.client() as client:
                people, more = affected_page(client, body.recipient, since, until, after, limit)
            return [affected_person(person) for person in people], more

        with services.clickhouse.client() as client:
            found = reach(client, body.recipient, since, until)
        if not found.people and not found.erased and entry is None:
            raise ApiError("not_found", "no such recipient: GET /recipients lists those that there are")
        matter = f"recipient {body.recipient} from {iso(body.since)} to {iso(body.until)}: {reason}"
        start = key[0] if key else None
        if wants_lines(request):
            caller.looks_at_many(found.people, matter)
            return lines(entries_of(lambda after: page(after, _CHUNK), start))
        people, more = page(start, body.limit)
        caller.looks_at_many(len(people), matter)
        summary = incident_summary(body.recipient, iso(body.since), iso(body.until), found, entry or {})
        return answer(
            {
                "summary": summary if key is None else None,
                "people": people,
                "next": None if more is None else paging.cursor(more),
            }
        )

    serve(router, "incident", incident, lines=True)
    return router
