"""Violations by clause over time: where the policy was not kept, how often, and when. Names no person."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from audit.api.registry import Registry
from audit.pages.choices import clause_choices, purpose_choices
from audit.pages.given import FromField, NameField, ToField, VerdictField, WidthField, days_of
from audit.pages.links import EventLinks
from audit.pages.periods import Width, width_for
from audit.pages.pivots import Cell, Pivot, pivot
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visit, Visiting, serve_page
from sinks.clickhouse.counting import Counting, Filter

PATH = "/violations"
_TITLES = {
    "violation": "Violations by clause",
    "gap": "Gaps by clause",
    "lawful": "Lawful events by clause",
}
_NOUNS = {"violation": "violations", "gap": "gaps", "lawful": "lawful events"}


def violations_router(desk: Desk, counting: Counting) -> APIRouter:
    """/violations."""
    router = APIRouter()

    def violations(
        visit: Visiting,
        verdict: VerdictField = None,
        clause: NameField = None,
        recipient: NameField = None,
        purpose: NameField = None,
        by: WidthField = None,
        since: FromField = None,
        until: ToField = None,
    ) -> Response:
        days = days_of(since, until)
        chosen = verdict or "violation"
        known = Registry(desk.services.published())
        wanted = Filter(None, recipient, purpose, chosen, clause, since, until)
        with desk.services.clickhouse.client() as client:
            counts = counting.count(client, ("day", "clauses"), wanted)
            recipients = counting.count(client, ("recipient",), wanted)
        given = {
            "verdict": verdict,
            "clause": clause,
            "recipient": recipient,
            "purpose": purpose,
            "by": by,
            **days,
        }
        headings = known.clauses()
        return desk.page(
            visit,
            "violations.html",
            _TITLES[chosen],
            chosen=chosen,
            given=given,
            found=_pivot(visit, counts, wanted, by),
            headings=headings,
            recipients=_recipients(visit, recipients, wanted, given),
            clauses_shown=clause_choices(known, clause),
            purposes_shown=purpose_choices(known, purpose),
            noun=_NOUNS[chosen],
            known=sorted(known.recipients()),
        )

    serve_page(router, PATH, "verdicts", violations)
    return router


def _pivot(visit: Visit, counts: dict[tuple[Any, ...], int], wanted: Filter, by: Width | None) -> Pivot:
    links = EventLinks(visit)
    given = {name: getattr(wanted, name) for name in ("recipient", "purpose", "verdict")}
    totals: Counter[date] = Counter()
    for (day, _), events in counts.items():
        totals[day] += events

    def link(clause: str | None, since: date | None, until: date | None) -> str | None:
        return links(since, until, clause=clause or wanted.clause, **given)

    cited = (
        (day, clause, events)
        for (day, clauses), events in counts.items()
        for clause in set(clauses)
        if wanted.clause in (None, clause)
    )
    width = by or (width_for(min(totals), max(totals)) if totals else "month")
    return pivot(cited, totals, width, link, wanted.since, wanted.until)


def _recipients(
    visit: Visit, counts: dict[tuple[Any, ...], int], wanted: Filter, given: dict[str, Any]
) -> list[dict[str, Any]]:
    """Who received it, the most often first; `only`: this page with that recipient alone."""
    links = EventLinks(visit)
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0][0] or ""))
    found = []
    for (name,), events in ordered:
        plain = {key: getattr(wanted, key) for key in ("purpose", "verdict", "clause")}
        # Collections, and publications that name nobody, cannot be filtered for.
        href = None if name is None else links(wanted.since, wanted.until, recipient=name, **plain)
        found.append({"id": name, "cell": Cell(events, href), "only": f"{PATH}{query(given, recipient=name)}"})
    return found
