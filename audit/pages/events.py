"""Events by recipient, purpose, clause, verdict and time: what every figure leads to. Names no person; each event leads
to its explanation, which does, and is recorded."""

from __future__ import annotations

from datetime import UTC, date, datetime

from fastapi import APIRouter
from starlette.responses import Response

from audit.api.cursors import Paging, uuid, whole
from audit.api.parameters import iso
from audit.api.registry import Registry
from audit.pages.choices import clause_choices, purpose_choices
from audit.pages.given import ActivityField, CursorField, FromField, NameField, ToField, VerdictField, days_of
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visiting, serve_page
from sinks.clickhouse.counting import Counting, Filter
from sinks.clickhouse.event_pages import EventKey, events_page

PATH = "/events"
_ON_A_PAGE = 100


def events_router(desk: Desk, counting: Counting) -> APIRouter:
    """/events."""
    router = APIRouter()

    def events(
        visit: Visiting,
        recipient: NameField = None,
        purpose: NameField = None,
        clause: NameField = None,
        verdict: VerdictField = None,
        activity: ActivityField = None,
        since: FromField = None,
        until: ToField = None,
        cursor: CursorField = None,
    ) -> Response:
        days = days_of(since, until)
        known = Registry(desk.services.published())
        wanted = Filter(activity, recipient, purpose, verdict, clause)
        given = {**vars(wanted), **days}
        given = {name: value for name, value in given.items() if name not in ("since", "until")}
        paging = Paging(["events", *given.items()])
        key = paging.after(cursor, whole, uuid)
        with desk.services.clickhouse.client() as client:
            found, more = events_page(
                client, wanted, _ms(since), _ms(until), EventKey(*key) if key else None, _ON_A_PAGE
            )
            in_range = Filter(activity, recipient, purpose, verdict, clause, since, until)
            counts = counting.count(client, ("verdict",), in_range)
        by_verdict = {name: counts.get((name,), 0) for name in ("violation", "gap", "lawful")}
        return desk.page(
            visit,
            "events.html",
            "Events",
            events=[{**event, "occurred_at": iso(event["occurred_at"])} for event in found],
            by_verdict=by_verdict,
            total=sum(by_verdict.values()),
            given=given,
            clauses_shown=clause_choices(known, clause),
            purposes_shown=purpose_choices(known, purpose),
            known=sorted(known.recipients()),
            first=f"{PATH}{query(given)}" if cursor else None,
            next=f"{PATH}{query(given, cursor=paging.cursor(*more))}" if more else None,
        )

    serve_page(router, PATH, "events", events)
    return router


def _ms(day: date | None) -> int | None:
    return None if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
