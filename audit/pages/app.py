"""The pages as one app, to be mounted at /: server-rendered, usable without scripts, nothing from any other host.

Reads only, but for the record of who looked at whom. It is asked for what no other router of the server takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from audit.api.access import Access
from audit.api.services import Services
from audit.pages.failures import handle_failures
from audit.pages.rendering import Templates, static_directory
from audit.pages.routes import NAVIGATION, ROUTERS
from audit.pages.sessions import Sessions
from audit.pages.sign_in import Way, sign_in_router
from audit.pages.visits import Desk


def pages_desk(services: Services) -> Desk:
    """What all pages share."""
    return Desk(services, Sessions(time.monotonic), Access(services), Templates(navigation=NAVIGATION))


def pages_app(desk: Desk, ways: Sequence[Way] = (), more: Iterable[APIRouter] = ()) -> FastAPI:
    """The app; opens no connection yet.

    ways: of signing in, beside a token; more: routers of pages that need more than the desk, e.g. those ways.
    """
    app = FastAPI(title="lineage", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.desk = desk
    handle_failures(app, desk)
    app.include_router(sign_in_router(desk, ways))
    for made in ROUTERS:
        app.include_router(made(desk))
    for router in more:
        app.include_router(router)
    app.mount(desk.templates.static_path, StaticFiles(directory=static_directory()))
    return app
