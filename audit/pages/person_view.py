"""What all pages of one person share: who it is, which lineage is shown, and the look, recorded before anything is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from starlette.responses import Response

from audit.api.errors import ApiError
from audit.api.parameters import ms
from audit.api.people import Lineage, People
from audit.exports.background import Background, Record, that_count
from audit.pages.chosen import Chosen
from audit.pages.sessions import Case
from audit.pages.visits import Desk, Visit
from sinks.clickhouse.span import span_of_subject

# Of a page of the person: its path below /people/{case}, and what it is called.
TABS = (("", "Lineage"), ("/timeline", "Timeline"), ("/events", "Events"), ("/exports", "Exports"))


@dataclass(frozen=True)
class PersonView:
    """A person as a page shows them. `events`: as chosen, each once. `span`: the first and the last day of all that
    there is, whatever is chosen; None: nothing is there."""

    case: Case
    chosen: Chosen
    lineage: Lineage
    events: list[Record]
    background: Background
    span: tuple[date, date] | None


class PersonPages:
    """How the pages of a person are made."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._people = People(desk.services)

    def case(self, visit: Visit, case_id: str) -> Case:
        """Raises `ApiError`."""
        case = self._desk.sessions.case(visit.session, case_id)
        if case is None:
            raise ApiError(
                "not_found",
                "This case is not open in your session: cases end with the session in which they were opened. "
                "Search for the person again.",
            )
        return case

    def view(self, visit: Visit, case_id: str, chosen: Chosen, consents: bool = False) -> PersonView:
        """Records the look. consents: as in `People.lineage`. Raises `ApiError`, `Unavailable`, ClickHouseError."""
        case = self.case(visit, case_id)
        reason = visit.caller.reason(case.reason)
        look = visit.caller.look(reason)
        lineage = self._people.lineage(case.alias, look, chosen.as_of, chosen.version, chosen.every, consents)
        subject = None if lineage["subject"] is None else UUID(lineage["subject"])
        background = self._people.background(lineage, case.alias, ms(chosen.as_of))
        span = None
        if subject is not None:
            with self._desk.services.clickhouse.client() as client:
                found = span_of_subject(client, subject)
            span = None if found is None else (found[0].date(), found[1].date())
        return PersonView(case, chosen, lineage, that_count(lineage), background, span)

    def page(self, visit: Visit, view: PersonView, template: str, tab: str, **context: Any) -> Response:
        """A page of the person, with what chooses the lineage and leads to their other pages."""
        path = f"/people/{view.case.id}"
        return self._desk.page(
            visit,
            template,
            "A person’s lineage",
            view=view,
            path=path,
            tab=tab,
            tabs=[
                (f"{path}{below}", below, label) for below, label in TABS if below != "/exports" or visit.may("export")
            ],
            versions=self._versions(),
            counts=counts_of(view.events),
            **context,
        )

    def _versions(self) -> list[Record]:
        policies = self._desk.services.published().policies
        return sorted(policies, key=lambda policy: (policy["effective_at"], policy["version"]))


def counts_of(events: list[Record]) -> Mapping[str, int]:
    """How many: events with a verdict, and each verdict."""
    verdicts = [event["verdict"] for event in events if event["verdict"] is not None]
    return {"events": len(verdicts), **{name: verdicts.count(name) for name in ("violation", "gap", "lawful")}}
