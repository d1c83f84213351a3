"""What goes wrong, told as a page in the same layout: what happened, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from audit.api.answers import FORESEEN, Unforeseen, error_of
from audit.api.errors import ApiError
from audit.pages.guard import Guard
from audit.pages.visits import Desk, Visitor, go
from processors.api_clients import Unauthorized

SIGN_IN = "/sign-in"
_TITLES: Mapping[str, str] = {
    "invalid_request": "This cannot be asked",
    "bad_cursor": "This page is not there any more",
    "reason_required": "Say why you look",
    "unauthorized": "Sign in first",
    "forbidden": "This needs another role",
    "not_found": "Not found",
    "method_not_allowed": "This cannot be done here",
    "conflict": "This is not possible now",
    "too_large": "This is too large",
    "rate_limited": "Too many requests",
    "internal": "Something failed",
    "unavailable": "Not available now",
}
_TO_DO: Mapping[str, str] = {
    "invalid_request": "Go back, and change what you asked for.",
    "bad_cursor": "Begin at the first page of the list.",
    "reason_required": "Go back, and give a reason. It is recorded.",
    "forbidden": "Ask whoever runs this system for a token with that role, and sign in with it.",
    "not_found": "Go back, or begin anew with the search.",
    "conflict": "Go back, and load the page again: it may have changed since.",
    "rate_limited": "Wait, and load the page again.",
    "internal": "Load the page again. If it fails again, tell whoever runs this system: its log has the error.",
    "unavailable": "Wait a little, and load the page again.",
}


def handle_failures(app: FastAPI, desk: Desk) -> None:
    """Errors as pages. Whoever is not signed in is sent to sign in, and back afterwards."""

    def unauthorized(request: Request, _: Exception) -> Response:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        wanted = "" if request.method != "GET" or asked == "/" else f"?next={quote(asked, safe='')}"
        # The cookie is left alone: it is not sent with what a link of another site asks for, and may hold.
        return go(f"{SIGN_IN}{wanted}")

    def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 404:
            return page(request, ApiError("not_found", "There is no such page."))
        if isinstance(error, HTTPException) and error.status_code == 405:
            return page(request, ApiError("method_not_allowed", "This page cannot be asked for in this way."))
        return page(request, error_of(error))

    def page(request: Request, error: ApiError) -> Response:
        return _page(_visitor(request), error, _TITLES[error.code], _TO_DO.get(error.code, ""))

    def _page(visitor: Visitor | None, error: ApiError, title: str, todo: str) -> Response:
        answer = desk.page(visitor, "error.html", title, status=error.status, message=error.message, todo=todo)
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(error.retry_after)
        return answer

    def _visitor(request: Request) -> Visitor | None:
        try:
            return desk.visitor(request)
        except Exception:
            # What failed may be this very thing; the page is shown to nobody in particular then.
            return None

    def from_elsewhere(_: Request) -> Response:
        refused = ApiError("forbidden", "This form was sent from another site, so nothing was done.")
        return _page(None, refused, "Refused", "Open the page here, and send its form from there.")

    for kind in FORESEEN:
        app.add_exception_handler(kind, failed)
    app.add_exception_handler(Unauthorized, unauthorized)
    app.add_middleware(Unforeseen, tell=page)
    app.add_middleware(Guard, refuse=from_elsewhere)
