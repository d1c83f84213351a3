"""The incident report, step by step: the recipient, the period, the reason, and then whom it affected (clause 4.3).

The report is a look at many people, recorded before anything of it is shown. Its URL holds no reason: the session does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from audit.api.cursors import Paging, uuid
from audit.api.errors import ApiError
from audit.api.parameters import iso, ms
from audit.api.registry import Registry
from audit.incident import affected_person, incident_summary
from audit.pages.forms import Form
from audit.pages.given import CursorField, moment_of
from audit.pages.incident_files import csv_file, json_file
from audit.pages.rendering import query
from audit.pages.sessions import Breach
from audit.pages.visits import Desk, Visit, Visiting, go, serve_page
from sinks.clickhouse.counting import Counting
from sinks.clickhouse.incident_pages import Reach, affected_page, reach

PATH = "/incidents"
SIZES = (100, 1000, 10_000)
_CHUNK = 20_000
_MOST_NAME = 200
_CLAUSE = "4.3"
_Text = Annotated[str, Query(max_length=_MOST_NAME)]


def incidents_router(desk: Desk, counting: Counting) -> APIRouter:
    """/incidents, and /incidents/{breach_id} with its files."""
    router = APIRouter()
    services = desk.services

    def wizard(
        visit: Visiting,
        recipient: _Text = "",
        since: Annotated[str, Query(alias="from", max_length=40)] = "",
        until: Annotated[str, Query(alias="to", max_length=40)] = "",
    ) -> Response:
        if not since and not until:
            return step(visit, "period" if recipient else "recipient", recipient=recipient)
        return step(visit, "reason", recipient=recipient, since=since, until=until)

    def asked(visit: Visiting, form: Form) -> Response:
        given = {"recipient": form.get("recipient", ""), "since": form.get("from", ""), "until": form.get("to", "")}
        try:
            begin, end = period(given["since"], given["until"])
            if given["recipient"] not in recipients(Registry(services.published())):
                raise ApiError("invalid_request", "choose a recipient of the list")
            told = visit.caller.reason(form.get("reason", ""))
        except ApiError as error:
            return step(visit, "reason", error.message, form.get("reason", ""), **given)
        breach = desk.sessions.open_breach(visit.session, given["recipient"], begin, end, told)
        return go(f"{PATH}/{breach.id}")

    def step(
        visit: Visit,
        name: str,
        problem: str = "",
        reason: str = "",
        recipient: str = "",
        since: str = "",
        until: str = "",
    ) -> Response:
        """A step of the wizard; of what is not right yet the step that asks for it."""
        known, status = Registry(services.published()), 400 if problem else 200
        choices = recipients(known)
        if recipient and recipient not in choices:
            name, recipient, status = "recipient", "", 400
            problem = "no such recipient: choose one of the list"
        elif name == "reason" and not problem:
            try:
                period(since, until)
            except ApiError as error:
                name, problem, status = "period", error.message, 400
        name = name if recipient else "recipient"
        got = None
        if name == "period":
            with services.clickhouse.client() as client:
                got = reach(client, recipient)
        return desk.page(
            visit,
            "incident_steps.html",
            "Incident at a recipient",
            status=status,
            step=name,
            problem=problem,
            choices=choices,
            recipient=recipient,
            entry=known.newest(recipient) or {},
            got=got,
            since=since,
            until=until,
            reason=reason,
            clause=_CLAUSE,
            heading=known.clauses().get(_CLAUSE),
            breaches=list(reversed(visit.session.breaches.values())),
        )

    def recipients(known: Registry) -> dict[str, dict[str, Any]]:
        with services.clickhouse.client() as client:
            counts = counting.count(client, ("recipient",))
        return _choices(known, {one: n for (one,), n in counts.items() if one is not None})

    def period(since: str, until: str) -> tuple[int, int]:
        begin, end = ms(moment_of(since, "its begin")), ms(moment_of(until, "its end"))
        if begin is None or end is None or begin >= end:
            raise ApiError("invalid_request", "the end of the breach must be later than its begin")
        return begin, end

    def report(
        visit: Visiting,
        breach_id: str,
        cursor: CursorField = None,
        size: Annotated[int, Query(ge=1, le=SIZES[-1])] = SIZES[0],
    ) -> Response:
        breach = opened(visit, breach_id)
        paging = Paging(["breach", breach.recipient, breach.since, breach.until])
        key = paging.after(cursor, uuid)
        found, entry = reached(breach)
        with services.clickhouse.client() as client:
            people, more = affected_page(
                client, breach.recipient, breach.since, breach.until, key[0] if key else None, size
            )
        visit.caller.looks_at_many(len(people), matter(breach))
        here = f"{PATH}/{quote(breach.id)}"
        given = {"size": None if size == SIZES[0] else size}
        return desk.page(
            visit,
            "incident.html",
            f"Incident at {entry.get('name') or breach.recipient}",
            breach=breach,
            here=here,
            events=query(recipient=breach.recipient, to=_next_day(breach.until).isoformat()),
            summary=summary(breach, found, entry),
            people=[affected_person(person) for person in people],
            size=size,
            sizes=[one for one in SIZES if one < found.people] + [next((n for n in SIZES if n >= found.people), None)],
            clause=_CLAUSE,
            heading=Registry(services.published()).clauses().get(_CLAUSE),
            first=f"{here}{query(given)}" if cursor else None,
            next=f"{here}{query(given, cursor=paging.cursor(more))}" if more else None,
            printed_at=iso(datetime.fromtimestamp(services.clock(), UTC)),
        )

    def people_csv(visit: Visiting, breach_id: str) -> Response:
        breach = opened(visit, breach_id)
        found, _ = reached(breach)
        return whole_list(visit, breach, found, "csv", "text/csv; charset=utf-8; header=present", csv_file)

    def report_json(visit: Visiting, breach_id: str) -> Response:
        breach = opened(visit, breach_id)
        found, entry = reached(breach)
        told = summary(breach, found, entry)
        return whole_list(visit, breach, found, "json", "application/json", lambda people: json_file(told, people))

    def whole_list(visit: Visit, breach: Breach, found: Reach, suffix: str, media_type: str, write: Any) -> Response:
        def people() -> Iterator[dict[str, Any]]:
            after: UUID | None = None
            while True:
                with services.clickhouse.client() as client:
                    page, after = affected_page(client, breach.recipient, breach.since, breach.until, after, _CHUNK)
                yield from map(affected_person, page)
                if after is None:
                    return

        visit.caller.looks_at_many(found.people, matter(breach))
        named = {"Content-Disposition": f'attachment; filename="incident-{breach.id}.{suffix}"'}
        return StreamingResponse(write(people()), media_type=media_type, headers=named)

    def opened(visit: Visit, breach_id: str) -> Breach:
        breach = desk.sessions.breach(visit.session, breach_id)
        if breach is None:
            raise ApiError("not_found", "this incident is not open in your session: ask for it again, with a reason")
        return breach

    def reached(breach: Breach) -> tuple[Reach, Mapping[str, Any]]:
        entry = Registry(services.published()).newest(breach.recipient) or {}
        with services.clickhouse.client() as client:
            return reach(client, breach.recipient, breach.since, breach.until), entry

    def summary(breach: Breach, found: Reach, entry: Mapping[str, Any]) -> dict[str, Any]:
        return incident_summary(breach.recipient, _iso(breach.since), _iso(breach.until), found, entry)

    def matter(breach: Breach) -> str:
        return f"recipient {breach.recipient} from {_iso(breach.since)} to {_iso(breach.until)}: {breach.reason}"

    serve_page(router, PATH, "incident", wizard)
    serve_page(router, PATH, "incident", asked, ["POST"])
    serve_page(router, f"{PATH}/{{breach_id}}", "incident", report)
    serve_page(router, f"{PATH}/{{breach_id}}/people.csv", "incident", people_csv)
    serve_page(router, f"{PATH}/{{breach_id}}/report.json", "incident", report_json)
    return router


def _choices(known: Registry, counts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Recipient → its `name` and `events`, by name."""
    found: dict[str, dict[str, Any]] = {
        one: {"name": (known.newest(one) or {}).get("name") or one, "events": counts.get(one, 0)}
        for one in {*known.recipients(), *counts}
    }
    return dict(sorted(found.items(), key=lambda one: (one[1]["name"].casefold(), one[0])))


def _next_day(at: int) -> date:
    """The day on which the list of events must end to hold all that came before this moment."""
    return datetime.fromtimestamp((at - 1) / 1000, UTC).date() + timedelta(days=1)


def _iso(at: int) -> str:
    return iso(datetime.fromtimestamp(at / 1000, UTC))
