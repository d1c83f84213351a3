"""What is counted: by recipient, purpose, clause, verdict and day, and everything. Names no person."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from audit.api.answers import answer, lines, wants_lines
from audit.api.cursors import Paging, text
from audit.api.errors import ApiError
from audit.api.freshness import fresh_since
from audit.api.parameters import USUAL, Activity, CursorQuery, FromDay, LimitQuery, Name, ToDay, Verdict
from audit.api.parameters import iso as moment_iso
from audit.api.registry import Registry
from audit.api.routes import serve
from audit.api.services import Services
from audit.counts import by_clause, by_day, by_month, by_value, none
from audit.exports.background import iso
from audit.totals import totals as totals_of
from sinks.clickhouse.counting import Counting, Filter
from sinks.clickhouse.incident_pages import Reach, reach

_RecipientQuery = Annotated[Name | None, Query(description="A recipient's id.")]
_PurposeQuery = Annotated[Name | None, Query(description="A purpose's id.")]
_ClauseQuery = Annotated[Name | None, Query(description="A clause, e.g. 3.1(4).")]


def counts_router(services: Services, counting: Counting) -> APIRouter:
    """Recipients, purposes, clauses, verdicts over time, totals."""
    router = APIRouter(tags=["counts"])

    def counted(dimensions: tuple[str, ...], wanted: Filter) -> dict[tuple[Any, ...], int]:
        with services.clickhouse.client() as client:
            return counting.count(client, dimensions, wanted, fresh_since() is not None)

    def registry() -> Registry:
        return Registry(services.published())

    def recipients(
        request: Request,
        since: FromDay = None,
        until: ToDay = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """Everybody who is registered, or was given something, by id, each with its newest entry and its counts."""
        paging = Paging(["recipients", since, until])
        after = paging.after(cursor, text)
        known = registry()
        counts = counted(("recipient", "verdict"), Filter(since=since, until=until))
        found = by_value((name, verdict, n) for (name, verdict), n in counts.items() if name is not None)
        left = sorted(name for name in {*found, *known.recipients()} if after is None or name > after[0])
        shown = (_recipient(name, known, found) for name in (left if wants_lines(request) else left[:limit]))
        if wants_lines(request):
            return lines(shown)
        more = paging.cursor(left[limit - 1]) if len(left) > limit else None
        return answer({"recipients": list(shown), "next": more})

    def recipient(recipient_id: Annotated[Name, Path()]) -> Response:
        """Its registry entries, what it was given by purpose, verdict and month, which categories of data, how many
        people it reaches, and to whom it passed data on."""
        known = registry()
        counts = counted(("day", "purpose", "verdict"), Filter(recipient=recipient_id))
        if not counts and known.newest(recipient_id) is None:
            raise ApiError("not_found", "no such recipient: GET /recipients lists those that there are")
        with services.clickhouse.client() as client:
            reached = reach(client, recipient_id)
        total = by_value((recipient_id, verdict, n) for (_, _, verdict), n in counts.items())
        purposes = by_value((purpose, verdict, n) for (_, purpose, verdict), n in counts.items())
        months: dict[tuple[Any, ...], int] = {}
        for (day, _, verdict), n in counts.items():
            months[day, verdict] = months.get((day, verdict), 0) + n
        return answer(
            {
                **_recipient(recipient_id, known, total),
                "entries": known.entries(recipient_id),
                "by_purpose": [{"purpose": purpose, **count} for purpose, count in purposes.items()],
                "by_month": by_month(months),
                **_reached(reached),
            }
        )

    def purposes(since: FromDay = None, until: ToDay = None, recipient: _RecipientQuery = None) -> Response:
        """Events by purpose and verdict, the most frequent first; also the purposes of policies that no event had."""
        rules = registry().purposes()
        counts = counted(("purpose", "verdict"), Filter(recipient=recipient, since=since, until=until))
        found = by_value((name, verdict, n) for (name, verdict), n in counts.items())
        shown = [
            {
                "purpose": name,
                **{key: rules[name][key] if name in rules else None for key in ("clause", "basis", "retention_days")},
                **found.get(name, none()),
            }
            for name in [*found, *sorted(rules.keys() - found.keys())]
        ]
        return answer({"purposes": shown})

    def clauses(
        since: FromDay = None, until: ToDay = None, recipient: _RecipientQuery = None, purpose: _PurposeQuery = None
    ) -> Response:
        """Events by the clauses that decided them, and verdict, the most frequent first; an event may cite several."""
        headings = registry().clauses()
        wanted = Filter(recipient=recipient, purpose=purpose, since=since, until=until)
        found = by_clause(counted(("clauses", "verdict"), wanted))
        shown = [
            {"clause": clause, "heading": headings.get(clause), **found.get(clause, none())}
            for clause in [*found, *sorted(headings.keys() - found.keys())]
        ]
        return answer({"clauses": shown})

    def verdicts(
        request: Request,
        since: FromDay = None,
        until: ToDay = None,
        recipient: _RecipientQuery = None,
        purpose: _PurposeQuery = None,
        clause: _ClauseQuery = None,
        verdict: Annotated[Verdict | None, Query()] = None,
        activity: Annotated[Activity | None, Query()] = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """Events by day (UTC) and verdict, by time; days without events are left out."""
        wanted = Filter(activity, recipient, purpose, verdict, clause, since, until)
        paging = Paging(["verdicts", *wanted.given().items()])
        after = paging.after(cursor, text)
        days = by_day(counted(("day", "verdict"), wanted))
        left = [day for day in days if after is None or day["day"] > after[0]]
        if wants_lines(request):
            return lines(left)
        more = paging.cursor(left[limit - 1]["day"]) if len(left) > limit else None
        return answer({"verdicts": left[:limit], "next": more})

    def totals() -> Response:
        """All events counted, each once, by activity, verdict, clause and recipient."""
        with services.clickhouse.client() as client:
            found = totals_of(client, counting.totals(client, fresh_since() is not None))
        head = {name: found[name] for name in ("events", "subjects")}
        return answer(head | {"dead_letters": services.dead_letters()} | found)

    serve(router, "recipients", recipients, lines=True)
    serve(router, "recipient", recipient)
    serve(router, "purposes", purposes)
    serve(router, "clauses", clauses)
    serve(router, "verdicts", verdicts, lines=True)
    serve(router, "totals", totals)
    return router


def _recipient(name: str, known: Registry, counts: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    entry = known.newest(name)
    since = iso(entry["effective_at"]) if entry else None
    return {**known.told(name), "effective_at": since, **counts.get(name, none())}


def _reached(found: Reach) -> dict[str, Any]:
    return {
        "people": found.people,
        "direct": found.direct,
        "onward": found.onward,
        "first_at": None if found.first_at is None else moment_iso(found.first_at),
        "last_at": None if found.last_at is None else moment_iso(found.last_at),
        "categories": [
            {"category": category, "people": people, "disclosures": n}
            for category, (people, n) in found.categories.items()
        ],
        "passed_on_to": [
            {"recipient": name, "people": people, "disclosures": n} for name, (people, n) in found.passed_on.items()
        ],
    }
