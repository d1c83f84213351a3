"""Recipients: all of them with what they were given, and one of them with all that is known of it. Names no person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from audit.api.errors import ApiError
from audit.api.parameters import Name
from audit.api.registry import Registry
from audit.counts import by_value, none
from audit.pages.erasure_queue import queue_entry
from audit.pages.given import FromField, NameField, PageField, ToField, days_of
from audit.pages.links import EventLinks
from audit.pages.pivots import Pivot, pivot
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visit, Visiting, serve_page
from sinks.clickhouse.counting import Counting, Filter
from sinks.clickhouse.incident_pages import reach
from sinks.clickhouse.request_pages import open_requests_at

PATH = "/recipients"
_ON_A_PAGE = 100
_MOST_REQUESTS = 50
_UNSAID = "(none stated)"
# How the list is ordered → what comes first.
_ORDERS = {
    "violations": lambda one: (-one["by_verdict"]["violation"], -one["events"], one["id"]),
    "events": lambda one: (-one["events"], one["id"]),
    "id": lambda one: one["id"],
}
_ProtocolWords = Mapping[str, str]
PROTOCOLS: _ProtocolWords = {
    "opendsr": "by OpenDSR 2.0, with signed answers",
    "ddrf": "by the IAB Data Deletion Request Framework",
    "kafka": "by the topic erasure-commands",
    "manual": "by a person, in writing",
    "http": "by HTTP, as its document says",
}
_OrderField = Annotated[str, Query(alias="by"), BeforeValidator(lambda value: value or "violations")]


def recipients_router(desk: Desk, counting: Counting) -> APIRouter:
    """/recipients and /recipients/{recipient_id}."""
    router = APIRouter()
    services = desk.services

    def recipients(
        visit: Visiting,
        q: NameField = None,
        since: FromField = None,
        until: ToField = None,
        by: _OrderField = "violations",
        page: PageField = 1,
    ) -> Response:
        days = days_of(since, until)
        if by not in _ORDERS:
            raise ApiError("invalid_request", f"the list is ordered by one of: {', '.join(_ORDERS)}")
        known = Registry(services.published())
        with services.clickhouse.client() as client:
            counts = counting.count(client, ("recipient", "verdict"), Filter(since=since, until=until))
        found = by_value((name, verdict, n) for (name, verdict), n in counts.items() if name is not None)
        all_of_them = [{**known.told(name), **found.get(name, none())} for name in {*found, *known.recipients()}]
        sought = (q or "").casefold()
        left = [one for one in all_of_them if sought in f"{one['id']}\n{one['name'] or ''}".casefold()]
        left.sort(key=_ORDERS[by])
        shown = left[(page - 1) * _ON_A_PAGE : page * _ON_A_PAGE]
        given = {"q": q, **days, "by": None if by == "violations" else by}
        return desk.page(
            visit,
            "recipients.html",
            "Recipients",
            given=given,
            by=by,
            shown=shown,
            found=len(left),
            links=EventLinks(visit),
            since=since,
            until=until,
            first=None if page == 1 else f"{PATH}{query(given)}",
            next=f"{PATH}{query(given, page=page + 1)}" if len(left) > page * _ON_A_PAGE else None,
        )

    def recipient(visit: Visiting, recipient_id: Annotated[Name, Path()]) -> Response:
        known = Registry(services.published())
        with services.clickhouse.client() as client:
            counts = counting.count(client, ("day", "purpose", "verdict"), Filter(recipient=recipient_id))
            if not counts and known.newest(recipient_id) is None:
                raise ApiError("not_found", "no such recipient: the list of recipients has those that there are")
            reached = reach(client, recipient_id)
            requests = open_requests_at(client, recipient_id, _MOST_REQUESTS)
        now = round(services.clock() * 1000)
        protocol = services.protocol_of(recipient_id)
        entry = known.told(recipient_id)
        return desk.page(
            visit,
            "recipient.html",
            entry["name"] or recipient_id,
            recipient=entry,
            entries=list(reversed(known.entries(recipient_id))),
            verdicts=by_value((recipient_id, verdict, n) for (_, _, verdict), n in counts.items()).get(
                recipient_id, none()
            ),
            purposes=_purposes(counts),
            rules=known.purposes(),
            found=_pivot(visit, recipient_id, counts),
            links=EventLinks(visit),
            reached=reached,
            registered=known.recipients(),
            requests=[
                queue_entry(document, now) | {"target": _target(document, recipient_id)} for document in requests
            ],
            most_requests=_MOST_REQUESTS,
            protocol=protocol,
            protocol_words=PROTOCOLS.get(protocol or "", "as its connector's document says"),
        )

    serve_page(router, PATH, "recipients", recipients)
    serve_page(router, f"{PATH}/{{recipient_id:path}}", "recipient", recipient)
    return router


def _target(document: Mapping[str, Any], recipient: str) -> Any:
    return next(target for target in document["targets"] if target["id"] == recipient)


def _purposes(counts: Mapping[tuple[Any, ...], int]) -> dict[str | None, dict[str, Any]]:
    return by_value((purpose, verdict, n) for (_, purpose, verdict), n in counts.items())


def _pivot(visit: Visit, recipient: str, counts: Mapping[tuple[Any, ...], int]) -> Pivot:
    """By purpose and month, or by day where all of it is of one month."""
    links = EventLinks(visit)
    totals: Counter[date] = Counter()
    cells: Counter[tuple[date, str]] = Counter()
    for (day, purpose, _), events in counts.items():
        totals[day] += events
        cells[day, purpose or _UNSAID] += events

    def link(purpose: str | None, since: date | None, until: date | None) -> str | None:
        # Those without a purpose cannot be filtered for.
        return None if purpose == _UNSAID else links(since, until, recipient=recipient, purpose=purpose)

    months = {day.replace(day=1) for day in totals}
    cited = ((day, purpose, n) for (day, purpose), n in cells.items())
    return pivot(cited, totals, "month" if len(months) > 1 else "day", link)
