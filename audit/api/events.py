"""Events over HTTP: lists of them, which name no person, and one of them explained, which is a look at its person."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from audit.api.access import Calling
from audit.api.answers import answer, entries_of, lines, wants_lines
from audit.api.cursors import Paging, uuid, whole
from audit.api.errors import ApiError
from audit.api.parameters import USUAL, Activity, CursorQuery, From, LimitQuery, Name, To, Verdict, iso, ms
from audit.api.routes import serve
from audit.api.services import Services
from audit.explain import explain_event
from sinks.clickhouse.counting import Filter
from sinks.clickhouse.event_pages import EventKey, events_page

_CHUNK = 20_000


def events_router(services: Services) -> APIRouter:
    """Events."""
    router = APIRouter(tags=["events"])

    def events(
        request: Request,
        recipient: Annotated[Name | None, Query(description="A recipient's id.")] = None,
        purpose: Annotated[Name | None, Query(description="A purpose's id.")] = None,
        clause: Annotated[Name | None, Query(description="A clause that decided, e.g. 3.1(4).")] = None,
        verdict: Annotated[Verdict | None, Query()] = None,
        activity: Annotated[Activity | None, Query()] = None,
        since: From = None,
        until: To = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """Collections and disclosures, the newest first, each once by the revision that counts. Whose they are is not
        told here: GET /events/{event_id} tells it, and is recorded."""
        wanted = Filter(activity, recipient, purpose, verdict, clause)
        paging = Paging(["events", *wanted.given().items(), ms(since), ms(until)])
        key = paging.after(cursor, whole, uuid)
        start = EventKey(*key) if key else None

        def page(after: EventKey | None, most: int) -> tuple[list[dict[str, Any]], EventKey | None]:
            with services.clickhouse.client() as client:
                found, more = events_page(client, wanted, ms(since), ms(until), after, most)
            return [_shown(event) for event in found], more

        if wants_lines(request):
            return lines(entries_of(lambda after: page(after, _CHUNK), start))
        found, more = page(start, limit)
        return answer({"events": found, "next": None if more is None else paging.cursor(*more)})

    def event(caller: Calling, event_id: UUID) -> Response:
        """One event and why it has its verdict: facts, clauses, consents, every revision, and all of it in words."""
        reason = caller.reason()
        known = services.published()
        with services.clickhouse.client() as client:
            found = explain_event(client, event_id, known.policies, known.recipients)
        caller.looks_at(None if found is None else UUID(found["subject"]), reason)
        if found is None:
            raise ApiError("not_found", "no such event is loaded here: GET /events lists events")
        return answer(found)

    serve(router, "events", events, lines=True)
    serve(router, "event", event)
    return router


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    given = {name: event[name] or None for name in ("event_type", "discloser", "policy_version")}
    return {**event, **given, "event_id": str(event["event_id"]), "occurred_at": iso(event["occurred_at"])}
