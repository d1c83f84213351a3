"""One person's pages: their lineage as a graph and over time, every event, and exports. Each is a look, and recorded.

Nothing is computed here: the lineage is the API's (audit/api/people.py), the graph and the timeline sum it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from audit.api.errors import ApiError
from audit.api.subjects import download
from audit.event_filter import DISCLOSURE, EventFilter
from audit.exports.background import receiver
from audit.exports.export import FORMATS, export_lineage
from audit.lineage_graph import Graph, drawn, lineage_graph
from audit.lineage_timeline import Timeline, lineage_timeline
from audit.pages.chosen import Choosing
from audit.pages.person_view import PersonPages, PersonView
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visiting, serve_page

_ON_A_PAGE = 100
# A page of its own, made to be printed: it has its style in itself, and may do nothing else.
_PRINTED = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'; base-uri 'none'"
_Text = Annotated[Annotated[str, Field(max_length=300)] | None, BeforeValidator(lambda value: value or None), Query()]


def person_router(desk: Desk) -> APIRouter:
    """/people/{case} and what is below it, but for single events."""
    router = APIRouter()
    pages = PersonPages(desk)

    def lineage(visit: Visiting, case_id: str, chosen: Choosing) -> Response:
        view = pages.view(visit, case_id, chosen)
        graph = lineage_graph(view.events, view.background)
        picture = _graph_for_json(drawn(graph), view)
        return pages.page(visit, view, "person.html", "", graph=graph, picture=picture, names=_names(graph))

    def timeline(visit: Visiting, case_id: str, chosen: Choosing) -> Response:
        view = pages.view(visit, case_id, chosen)
        found = lineage_timeline(view.events, view.background)
        picture = _timeline_for_json(found, view)
        return pages.page(
            visit, view, "person_timeline.html", "/timeline", timeline=found, picture=picture, lane=_lane_words(view)
        )

    def events(
        visit: Visiting,
        case_id: str,
        chosen: Choosing,
        activity: _Text = None,
        event_type: _Text = None,
        purpose: _Text = None,
        discloser: _Text = None,
        recipient: _Text = None,
        verdict: _Text = None,
        since: Annotated[_Text, Query(alias="from")] = None,
        until: Annotated[_Text, Query(alias="to")] = None,
        number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
    ) -> Response:
        view = pages.view(visit, case_id, chosen)
        wanted = EventFilter(activity, event_type, purpose, discloser, recipient, verdict, since, until)
        every = view.lineage["events"] if chosen.every else view.events
        found = wanted.of(every)
        return pages.page(
            visit,
            view,
            "person_events.html",
            "/events",
            events=found[(number - 1) * _ON_A_PAGE : number * _ON_A_PAGE],
            found=len(found),
            number=number,
            pages=max(1, -(-len(found) // _ON_A_PAGE)),
            given=_given(wanted),
            values=_values(view),
            receiver=receiver,
        )

    def exports(visit: Visiting, case_id: str, chosen: Choosing) -> Response:
        view = pages.view(visit, case_id, chosen)
        return pages.page(visit, view, "person_exports.html", "/exports")

    def export(
        visit: Visiting,
        case_id: str,
        form: str,
        chosen: Choosing,
        shown: Annotated[Literal["inline"] | None, Query()] = None,
    ) -> Response:
        if form not in FORMATS:
            raise ApiError("not_found", f"There is no export of that name; there are {', '.join(FORMATS)}")
        view = pages.view(visit, case_id, chosen, consents=True)
        answer = download(export_lineage(view.lineage, form, view.background))
        if form == "report-html" and shown == "inline":
            answer.headers["Content-Disposition"] = "inline"
            answer.headers["Content-Security-Policy"] = _PRINTED
        return answer

    serve_page(router, "/people/{case_id}", "lineage", lineage)
    serve_page(router, "/people/{case_id}/timeline", "lineage", timeline)
    serve_page(router, "/people/{case_id}/events", "lineage", events)
    serve_page(router, "/people/{case_id}/exports", "export", exports)
    serve_page(router, "/people/{case_id}/exports/{form}", "export", export)
    return router


def events_url(view: PersonView, wanted: Mapping[str, Any] | None) -> str:
    """The events behind a figure; of what stands for several things, the table of all of them."""
    if wanted is None:
        return "#graph-table"
    return f"/people/{view.case.id}/events{query(view.chosen.values, **wanted)}"


def _names(graph: Graph) -> Mapping[str, str]:
    return {node.id: node.name for node in graph.nodes}


def _graph_for_json(graph: Graph, view: PersonView) -> dict[str, Any]:
    """What the script draws."""
    return {
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "name": node.name,
                "about": node.about,
                "events": node.events,
                "violations": node.verdicts["violation"],
                "gaps": node.verdicts["gap"],
                "erasure": node.erasure,
                "href": events_url(view, node.filter),
            }
            for node in graph.nodes
        ],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "events": edge.events,
                "violations": edge.verdicts["violation"],
                "gaps": edge.verdicts["gap"],
                "href": events_url(view, edge.filter),
            }
            for edge in graph.edges
        ],
    }


def _timeline_for_json(found: Timeline, view: PersonView) -> dict[str, Any]:
    event = f"/people/{view.case.id}/events/"
    name = _lane_words(view)
    chosen = query(view.chosen.values)
    return {
        "unit": found.unit,
        "until": None if view.chosen.as_of is None else view.chosen.values["as_of"],
        "lanes": [name(lane) for lane in found.lanes],
        "consents": [
            {
                "lane": lane.words,
                "since": interval.since,
                "until": interval.until,
                "href": f"{event}{interval.event_id}{chosen}",
            }
            for lane in found.consents
            for interval in lane.intervals
        ],
        "refusals": [
            {"lane": lane.words, "at": at, "href": f"{event}{event_id}{chosen}"}
            for lane in found.consents
            for at, event_id in lane.refused
        ],
        "marks": [
            {
                "lane": name(mark.lane),
                "at": mark.at,
                "until": mark.until,
                "verdict": mark.verdict,
                "events": mark.events,
                "href": f"{event}{mark.event_id}{chosen}" if mark.event_id else events_url(view, mark_filter(mark)),
            }
            for mark in found.marks
        ],
    }


def mark_filter(mark: Any) -> dict[str, Any]:
    """The filter of the events that one mark of a timeline stands for."""
    lane = {"activity": "collect"} if mark.lane == "collected" else {"recipient": mark.lane}
    return {**lane, "verdict": mark.verdict, "from": mark.at, "to": mark.until}


def _lane_words(view: PersonView) -> Any:
    def words(lane: str) -> str:
        if lane == "collected":
            return "collected"
        return {"public": "the public", "unnamed": "not named"}.get(lane) or view.background.name_of(lane)

    return words


def _given(wanted: EventFilter) -> dict[str, str]:
    """The filter as a URL has it."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in vars(wanted).items() if value is not None}


def _values(view: PersonView) -> dict[str, list[str]]:
    """What the lineage has to choose from."""
    judged = [event for event in view.events if event["verdict"] is not None]
    given = [event for event in judged if event["activity"] != "collect"]
    return {
        "activity": [*([DISCLOSURE] if given else []), *sorted({event["activity"] for event in view.events})],
        "event_type": sorted({event["event_type"] for event in judged if event["event_type"]}),
        "purpose": sorted({event["purpose"] for event in judged if event["purpose"]}),
        "discloser": sorted({event["discloser"] or "self" for event in given}),
        "recipient": sorted({receiver(event) for event in given}),
        "verdict": ["violation", "gap", "lawful"],
    }
