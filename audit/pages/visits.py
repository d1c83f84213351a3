"""Who visits a page, and whether they may: asked anew for every request, before the page does anything.

The permissions are those of the API (audit/api/permissions.py): a page belongs to an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from audit.api.access import Access, Caller
from audit.api.permissions import OPERATIONS, allowed
from audit.api.services import Services
from audit.pages.rendering import Templates
from audit.pages.sessions import Session, Sessions
from processors.api_clients import ApiClient, Unauthorized

COOKIE = "lineage_session"


@dataclass(frozen=True)
class Visitor:
    """Who is signed in."""

    client: ApiClient
    session: Session

    def may(self, operation: str | None) -> bool:
        """Whether a role of theirs may ask for an operation; None: whoever is signed in may."""
        return operation is None or allowed(operation, self.client.roles) is not None


@dataclass(frozen=True)
class Visit:
    """One request of a page by somebody who may."""

    visitor: Visitor
    _caller: Caller | None
    _access: Access

    @property
    def session(self) -> Session:
        return self.visitor.session

    @property
    def caller(self) -> Caller:
        """As the API knows them (`reason`, `looks_at`, `scope`), for the operation that the page belongs to."""
        assert self._caller is not None, "a page that shows something belongs to an operation"
        return self._caller

    def may(self, operation: str | None) -> bool:
        return self.visitor.may(operation)

    def caller_of(self, operation: str) -> Caller:
        """The same for another operation. Raises `Forbidden`, `ApiError`."""
        return self._access.admit(operation, self.visitor.client)


@dataclass(frozen=True)
class Desk:
    """What every page needs: where data come from, who is signed in, and how pages are written."""

    services: Services
    sessions: Sessions
    access: Access
    templates: Templates

    def visitor(self, request: Request) -> Visitor:
        """Raises `Unauthorized`: a session that has ended, or whose token holds no more, which ends it."""
        cookie = request.cookies.get(COOKIE)
        session = self.sessions.of(cookie)
        if session is None:
            raise Unauthorized("sign in first")
        try:
            return Visitor(self.services.authenticate(session.authorization), session)
        except Unauthorized:
            self.sessions.end(cookie)
            raise

    def page(
        self, visit: Visit | Visitor | None, template: str, title: str, *, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """A page in the layout. visit: whose; None: of nobody who is signed in. title: is its h1, too."""
        visitor = visit.visitor if isinstance(visit, Visit) else visit
        return self.templates.page(template, status, visitor=visitor, title=title, **context)


def visiting(request: Request) -> Visit:
    """The dependency of every page (`serve_page`). Raises `Unauthorized`, `Forbidden`, `ApiError`."""
    desk: Desk = request.app.state.desk
    visitor = desk.visitor(request)
    operation = request.scope["route"].operation_id
    caller = None if operation is None else desk.access.admit(operation, visitor.client)
    return Visit(visitor, caller, desk.access)


# What the handler of a page takes.
Visiting = Annotated[Visit, Depends(visiting)]


def serve_page(
    router: APIRouter,
    path: str,
    operation: str | None,
    handler: Callable[..., Any],
    methods: Sequence[str] = ("GET",),
) -> None:
    """Adds a page. operation: of audit/api/permissions.py, whose roles may see it; None: whoever is signed in.

    Handlers are plain functions, which may wait for others, and return `Response`s.
    """
    assert operation is None or operation in OPERATIONS, operation
    router.add_api_route(
        path,
        handler,
        methods=list(methods),
        operation_id=operation,
        include_in_schema=False,
        response_model=None,
        response_class=HTMLResponse,
        dependencies=[Depends(visiting)],
    )


def go(path: str) -> Response:
    """To another page of ours, with GET."""
    return RedirectResponse(path, 303)
