"""All pages: the routers that serve them, and the navigation that leads to them. Each module adds its own here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastapi import APIRouter

from audit.pages.counted import counted_router
from audit.pages.event import event_router
from audit.pages.home import home_router
from audit.pages.person import person_router
from audit.pages.visits import Desk

ROUTERS: Sequence[Callable[[Desk], APIRouter]] = (home_router, person_router, event_router, counted_router)


class Entry(NamedTuple):
    """One entry of the navigation. It is shown to those who may ask for `operation`; None: to all."""

    label: str
    path: str
    operation: str | None
    about: str = ""


NAVIGATION: Sequence[Entry] = (
    Entry("Find a person", "/", "lineage", "A person's lineage, by their user id"),
    Entry("Overview", "/overview", "totals", "How much there is, what was not lawful lately, what needs somebody"),
    Entry("Violations", "/violations", "verdicts", "Where the policy was not kept: by clause, over time"),
    Entry("Recipients", "/recipients", "recipients", "Who was given data, what for, and of how many people"),
    Entry("Events", "/events", "events", "Every event behind every figure"),
    Entry("Incident", "/incidents", "incident", "Whom to notify of a breach at a recipient"),
    Entry("Erasures", "/erasures", "requests", "Erasure requests, the evidence of each recipient, certificates"),
    Entry("Looks", "/looks", "looks", "Who looked at people, when and why"),
)
