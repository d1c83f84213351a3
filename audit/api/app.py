"""The audit API as one app, to be mounted at /api/v1: its routers, its errors and its OpenAPI description.

Reads only, but for the record of who looked at whom, and for what a person does about the recipients of an erasure.
"""

from __future__ import annotations

from fastapi import FastAPI

from audit.api.access import Access
from audit.api.answers import handle_errors
from audit.api.counts import counts_router
from audit.api.events import events_router
from audit.api.freshness import Freshness
from audit.api.incidents import incidents_router
from audit.api.looks import looks_router
from audit.api.requests import requests_router
from audit.api.services import Services
from audit.api.subjects import subjects_router
from sinks.clickhouse.counting import Counting

PATH = "/api/v1"
_ABOUT = (
    "Who received what about a person, when, why and on which basis, whether it was lawful, and what became of their "
    "erasure. Every operation needs a token and a role; looks at people need a reason and are recorded. Lists come in "
    "pages: send `next` back as `cursor`; or ask for all of it, one entry a line, with `Accept: application/x-ndjson`."
)


def audit_app(services: Services) -> FastAPI:
    """The app; opens no connection yet."""
    # No pages of its own: they would load scripts from elsewhere.
    app = FastAPI(
        title="lineage audit API",
        version="1",
        description=_ABOUT,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    handle_errors(app)
    app.add_middleware(Freshness)
    app.state.access = Access(services)
    app.include_router(subjects_router(services))
    app.include_router(events_router(services))
    app.include_router(incidents_router(services))
    app.include_router(counts_router(services, Counting()))
    app.include_router(requests_router(services))
    app.include_router(looks_router(services))
    return app
