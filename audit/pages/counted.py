"""The pages that are not about one person, as one router: what counts events counts for all of them."""

from fastapi import APIRouter

from audit.pages.erasures import erasures_router
from audit.pages.events import events_router
from audit.pages.incidents import incidents_router
from audit.pages.looks import looks_router
from audit.pages.overview import overview_router
from audit.pages.recipients import recipients_router
from audit.pages.violations import violations_router
from audit.pages.visits import Desk
from sinks.clickhouse.counting import Counting


def counted_router(desk: Desk) -> APIRouter:
    """Overview, violations, recipients, events, incidents, erasure requests, looks."""
    counting = Counting()
    router = APIRouter()
    for counted in (overview_router, violations_router, recipients_router, events_router, incidents_router):
        router.include_router(counted(desk, counting))
    for plain in (erasures_router, looks_router):
        router.include_router(plain(desk))
    return router
