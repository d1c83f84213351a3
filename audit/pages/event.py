"""One event explained: why, by which clause, on which evidence. A look at its person, whoever's case it is.

From a person's pages the reason is that of their case. From elsewhere (a list of events, which names nobody) it is
asked for once, and kept for the session.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from audit.api.errors import ApiError
from audit.explain import explain_event, paragraphs_of
from audit.exports.background import Background
from audit.pages.chosen import Choosing
from audit.pages.forms import Form
from audit.pages.person_view import PersonPages
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visit, Visiting, go, serve_page
from processors.reasons import REASONS

# What stands at the head of the page, or beside the text, and is not told again.
_ASIDE = frozenset({"event", "verdict", "finding", "stored", "revisions"})


def event_router(desk: Desk) -> APIRouter:
    """/people/{case}/events/{event} and /events/{event}."""
    router = APIRouter()
    pages = PersonPages(desk)

    def of_case(visit: Visiting, case_id: str, event_id: UUID, chosen: Choosing) -> Response:
        case = pages.case(visit, case_id)
        found = _explained(visit, event_id, visit.caller.reason(case.reason))
        path = f"/people/{case.id}"
        chosen_by = query(chosen.values)
        crumbs = [(f"{path}{chosen_by}", case.user), (f"{path}/events{chosen_by}", "Events")]
        return _page(visit, found, crumbs, f"{path}/events/", chosen_by)

    def alone(visit: Visiting, event_id: UUID) -> Response:
        if not visit.session.reason:
            return _ask(visit, event_id, "")
        found = _explained(visit, event_id, visit.caller.reason(visit.session.reason))
        crumbs = [("/events", "Events")] if visit.may("events") else []
        return _page(visit, found, crumbs, "/events/", "")

    def told(visit: Visiting, event_id: UUID, form: Form) -> Response:
        try:
            desk.sessions.keep_reason(visit.session, visit.caller.reason(form.get("reason", "")))
        except ApiError as error:
            return _ask(visit, event_id, error.message)
        return go(f"/events/{event_id}")

    def _explained(visit: Visit, event_id: UUID, reason: str) -> dict[str, Any]:
        known = desk.services.published()
        with desk.services.clickhouse.client() as client:
            found = explain_event(client, event_id, known.policies, known.recipients)
        visit.caller.looks_at(None if found is None else UUID(found["subject"]), reason)
        if found is None:
            raise ApiError("not_found", "No such event is loaded here; its person may have been erased.")
        return found

    def _ask(visit: Visit, event_id: UUID, problem: str) -> Response:
        return desk.page(
            visit,
            "event_reason.html",
            "Why do you look?",
            status=400 if problem else 200,
            event_id=str(event_id),
            problem=problem,
        )

    def _page(visit: Visit, event: dict[str, Any], crumbs: list[tuple[str, str]], events: str, chosen: str) -> Response:
        known = desk.services.published()
        background = Background(known.policies, known.recipients, exported_at=round(desk.services.clock() * 1000))
        told = paragraphs_of(event["text"])
        return desk.page(
            visit,
            "event.html",
            _TITLES[event["activity"]],
            event=event,
            head=[text for label, texts in told if label == "event" for text in texts],
            judged=[text for label, texts in told if label == "verdict" for text in texts],
            stored=[] if event.get("agrees", True) else _stored_reasons(event),
            paragraphs=[(label, texts) for label, texts in told if label not in _ASIDE],
            crumbs=crumbs,
            events=events,
            chosen=chosen,
            name=background.name_of,
        )

    serve_page(router, "/people/{case_id}/events/{event_id}", "event", of_case)
    serve_page(router, "/events/{event_id}", "event", alone)
    serve_page(router, "/events/{event_id}", "event", told, ["POST"])
    return router


def _stored_reasons(event: dict[str, Any]) -> list[tuple[str, str]]:
    """(clause, reason) of what the stored verdict found: a finding is stored as `outcome clause reason`."""
    stored = [finding.split(" ") for finding in event["revisions"][-1]["findings"]]
    return [(" ".join(words[1:-1]), REASONS.get(words[-1], words[-1].replace("_", " "))) for words in stored]


_TITLES = {
    "collect": "A collection",
    "share": "A disclosure",
    "transfer": "A transfer",
    "publish": "A publication",
    "consent": "A consent",
    "erase": "An erasure",
}
