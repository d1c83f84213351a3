"""The overview: how much there is, what was not lawful lately, and which erasures need somebody. Names no person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from clickhouse_driver import Client
from fastapi import APIRouter
from starlette.responses import Response

from audit.api.errors import Unavailable
from audit.api.registry import Registry
from audit.pages.erasure_queue import queue_entry
from audit.pages.links import EventLinks
from audit.pages.pivots import Cell, Pivot, pivot
from audit.pages.visits import Desk, Visit, Visiting, serve_page
from audit.totals import totals as totals_of
from sinks.clickhouse.counting import Counting, Filter
from sinks.clickhouse.erasure_overview import erasure_overview
from sinks.clickhouse.erasures import erasure_requests

PATH = "/overview"
SPAN = timedelta(days=30)
_MOST_REQUESTS = 8
_MOST_LINES = 8
_NOT_LAWFUL = ("violation", "gap")
_ENDED = ("completed", "partially_completed", "refused", "cancelled", "joined")


def overview_router(desk: Desk, counting: Counting) -> APIRouter:
    """/overview."""
    router = APIRouter()
    services = desk.services

    def overview(visit: Visiting) -> Response:
        now = services.clock()
        known = Registry(services.published())
        with services.clickhouse.client() as client:
            totals = totals_of(client, counting.totals(client))
            days = counting.count(client, ("day", "verdict"))
            end = _end(days, datetime.fromtimestamp(now, UTC).date())
            last = _by_clause(client, counting, end - SPAN, end)
            before = _by_clause(client, counting, end - 2 * SPAN, end - SPAN)
            queue = erasure_requests(client, open_only=True, limit=_MOST_REQUESTS)
            erasures = erasure_overview(client, ())
        return desk.page(
            visit,
            "overview.html",
            "Overview",
            totals=totals,
            links=EventLinks(visit),
            dead_letters=_dead_letters(desk),
            since=end - SPAN,
            lately=_lately(visit, days, end),
            chart=_chart(visit, days, end),
            clauses=_clauses(visit, last, before, end),
            headings=known.clauses(),
            names={name: (known.newest(name) or {}).get("name") for name in totals["by_recipient"]},
            most=_MOST_LINES,
            queue=[queue_entry(document, round(now * 1000)) for document in queue],
            erasures=erasures,
            open_requests=sum(n for state, n in erasures.states.items() if state not in _ENDED),
        )

    serve_page(router, PATH, "totals", overview)
    return router


def _end(days: Mapping[tuple[Any, ...], int], today: date) -> date:
    """The day after the newest event, if that is not to come; what is compared ends there."""
    return max((day for day, _ in days if day <= today), default=today) + timedelta(days=1)


def _dead_letters(desk: Desk) -> int | None:
    try:
        return desk.services.dead_letters()
    except Unavailable:
        return None


def _by_clause(client: Client, counting: Counting, since: date, until: date) -> Counter[str]:
    found: Counter[str] = Counter()
    wanted = Filter(verdict="violation", since=since, until=until)
    for (clauses,), events in counting.count(client, ("clauses",), wanted).items():
        found.update(dict.fromkeys(set(clauses), events))
    return found


def _lately(visit: Visit, days: Mapping[tuple[Any, ...], int], end: date) -> list[dict[str, Any]]:
    links = EventLinks(visit)
    found = []
    for verdict in (*_NOT_LAWFUL, "lawful"):
        counted = []
        for start in (end - SPAN, end - 2 * SPAN):
            within = (n for (day, name), n in days.items() if name == verdict and start <= day < start + SPAN)
            counted.append(Cell(sum(within), links(start, start + SPAN, verdict=verdict)))
        last, before = counted
        found.append({"verdict": verdict, "last": last, "before": before, "change": _change(last, before)})
    return found


def _chart(visit: Visit, days: Mapping[tuple[Any, ...], int], end: date) -> Pivot:
    links = EventLinks(visit)
    since = end - 2 * SPAN
    counts = [
        (day, verdict, events)
        for (day, verdict), events in days.items()
        if verdict in _NOT_LAWFUL and since <= day < end
    ]
    totals: Counter[date] = Counter()
    for day, _, events in counts:
        totals[day] += events

    def link(verdict: str | None, first: date | None, last: date | None) -> str | None:
        # The list has one verdict, or all of them.
        return links(first, last, verdict=verdict) if verdict else None

    return pivot(counts, totals, "day", link, since, end, order=_NOT_LAWFUL)


def _clauses(visit: Visit, last: Counter[str], before: Counter[str], end: date) -> list[dict[str, Any]]:
    links = EventLinks(visit)
    found = []
    for clause in sorted({*last, *before}, key=lambda one: (-last[one], -before[one], one))[:_MOST_LINES]:
        cells = [
            Cell(counted[clause], links(start, start + SPAN, verdict="violation", clause=clause))
            for counted, start in ((last, end - SPAN), (before, end - 2 * SPAN))
        ]
        found.append({"clause": clause, "last": cells[0], "before": cells[1], "change": _change(*cells)})
    return found


def _change(last: Cell, before: Cell) -> str:
    """In words: a sign alone is read aloud badly."""
    if last.events == before.events:
        return "as many"
    more = last.events > before.events
    return f"{abs(last.events - before.events):,} {'more' if more else 'fewer'}"
